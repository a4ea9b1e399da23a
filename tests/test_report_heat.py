"""The page's part on token weights: text unchanged, weights where they belong, findings matched, blind choice."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiograd.config import parse_config
from radiograd.errors import DataError, RunError
from radiograd.report import render, report_run
from radiograd.report.curves import training
from radiograd.report.heat import (
    Scale,
    Token,
    advantage,
    character_weights,
    choose,
    heat_panel,
    heated,
    mean_weight,
    panel,
    read_tokens,
    scale_of,
    weight_charts,
    word_weights,
)
from radiograd.report.inputs import read_inputs
from radiograd.report.matching import INVENTED, MISSED, Mark, match_findings
from radiograd.report.profile import profile
from radiograd.runs import Run, append_jsonl, write_json, write_jsonl
from radiograd.text.explain import visible
from radiograd.types import Sections, Study
from tests.report_fixture import write_run

SCALE = Scale(0.5, 2.5)
REFERENCE = "Small left pleural effusion. Possible pneumonia. No pneumothorax. Rib fracture."
TEXT = "Large right effusion with pneumonia and a nodule. No pneumothorax."


def study(study_id: str, normal: bool | None = False, reference: str = REFERENCE) -> Study:
    return Study(study_id, f"p-{study_id}", "made-up", Sections("Findings.", reference), normal=normal)


def row(study_id: str, value: float, text: str = TEXT, **more: Any) -> dict[str, Any]:
    tokens = [[m.start(), m.end(), 1.5 if m.group() == "effusion" else 0.9] for m in re.finditer(r"\S+", text)]
    return {"study_id": study_id, "completion": text, "reward": 0.5, "advantage": value, "tokens": tokens, **more}


# ---- the text stays what it is ---------------------------------------------------------------------------------------


class _Words(HTMLParser):
    """The text of every ``<p class="words">`` as a browser reads it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "p":
            self._open = ("class", "words") in attrs
            self.texts += [""] if self._open else []

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[-1] += data


def shown_texts(markup: str) -> list[str]:
    parser = _Words()
    parser.feed(markup)
    parser.close()
    return parser.texts


def tokens_in(text: str) -> st.SearchStrategy[list[Token]]:
    places = st.integers(0, len(text))
    weights = st.floats(0.5, 3.0)
    return st.lists(st.builds(lambda a, b, w: Token(min(a, b), max(a, b), w), places, places, weights), max_size=8)


words = st.sampled_from(
    ["effusion", "No", "pneumothorax.", "<b>", "&amp;", '"', "'", "\n", " ", "🫁", "é", "\u202e", "x"]
)
texts = st.one_of(st.lists(words, max_size=12).map(" ".join), st.text(max_size=40))


@given(st.data(), texts)
def test_pieces_are_the_text_whatever_tokens_and_marks_lie_on_it(data: st.DataObject, text: str) -> None:
    tokens = data.draw(tokens_in(text))
    marks = [Mark((t.start, t.end), "missed", MISSED, None, "why") for t in data.draw(tokens_in(text))]
    pieces = heated(text, tokens, marks, SCALE)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)
    covered = {
        place
        for token in tokens
        for place in range(token.start, token.end)
        if text[token.start : place + 1].strip()  # not the white space before a token's word
    }
    red = [piece.shade is not None for piece in pieces for _ in piece.text]
    assert red == [place in covered for place in range(len(text))]


@settings(deadline=None, max_examples=50)  # the first call compiles the template
@given(st.data(), texts, texts)
def test_without_its_tags_the_card_gives_both_texts_back(data: st.DataObject, reference: str, text: str) -> None:
    made = panel(study("s<1>", reference=reference), reference, text, data.draw(tokens_in(text)), SCALE)
    values = {"name": "a run", "kind": "", "section": "impression", "scale": SCALE.swatches(), "version": "0"}
    markup = render({**values, "panels": [{**made, "title": "Text"}]}, "tokens.html.j2")
    assert shown_texts(markup) == [visible(reference), visible(text)]


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_red_goes_from_the_least_weight_to_the_largest():
    # places 0.25 and 0.64 of the way: 0.25 ** 1.5 = 0.125, 0.64 ** 1.5 = 0.512
    assert [SCALE.shade(weight) for weight in (0.2, 0.5, 1.0, 1.78, 2.5, 3.0)] == [0, 0, 12, 51, 100, 100]
    assert scale_of([0.7, 1.7]) == Scale(0.5, 1.75)
    assert scale_of([]) == scale_of([0.9, 1.1]) == Scale(0.75, 1.25)
    assert [step["weight"] for step in Scale(0.5, 1.75).swatches()] == ["0.5", "0.75", "1", "1.25", "1.5", "1.75"]


def test_pieces_of_one_character_share_the_mean_of_their_weights():
    # "é" was written by two byte-level tokens of weights 1 and 2; "x" by one of 3
    tokens = (Token(0, 1, 1.0), Token(0, 1, 2.0), Token(1, 2, 3.0))
    assert character_weights(4, tokens) == [1.5, 3.0, None, None]
    assert [(p.text, p.shade) for p in heated("éx .", tokens, (), SCALE)] == [("é", 35), ("x", 100), (" .", None)]


def test_a_word_has_the_mean_weight_of_its_characters():
    # "effusion": "eff" 1.0 on 3 characters, "usion" 2.6 on 5: (3 x 1.0 + 5 x 2.6) / 8 = 2.0
    found = word_weights("No effusion .", (Token(0, 2, 0.5), Token(2, 6, 1.0), Token(6, 11, 2.6)))
    assert [(word.text, word.span) for word in found] == [("No", (0, 2)), ("effusion", (3, 11))]
    assert [word.weight for word in found] == pytest.approx([0.5, 2.0])


def test_the_mean_weight_of_findings_is_over_the_tokens_that_touch_them():
    tokens = (Token(0, 2, 0.5), Token(2, 6, 1.0), Token(6, 11, 2.0), Token(11, 11, 9.0))
    assert mean_weight(tokens, [(5, 8)]) == pytest.approx(1.5)
    assert mean_weight(tokens, [(5, 8)], inside=False) == pytest.approx(0.5)
    assert mean_weight(tokens, []) is None


@pytest.mark.parametrize("bad", [[0, 99, 1.0], [3, 2, 1.0], [0, 1], [0, 1, float("nan")], [0, 1, -1.0], ["a", 1, 1.0]])
def test_tokens_that_do_not_fit_are_an_error_that_names_the_study_and_no_text(bad: list[Any]) -> None:
    with pytest.raises(DataError, match="'s1'") as failure:
        read_tokens(TEXT, [bad], "s1")
    assert "effusion" not in str(failure.value)


# ---- findings of both texts ------------------------------------------------------------------------------------------


def test_findings_are_shared_missed_or_invented_and_look_alike_in_both_texts():
    found = match_findings(REFERENCE, TEXT)
    said = [(m.kind, m.sign, m.colour, REFERENCE[slice(*m.span)]) for m in found.reference]
    assert said == [
        ("shared", "A", 0, "pleural effusion"),
        ("shared", "B?", 1, "pneumonia"),
        ("shared", "", 1, "Possible"),
        ("shared", "C−", 2, "pneumothorax"),
        ("shared", "", 2, "No"),
        ("missed", MISSED, None, "Rib fracture"),
    ]
    assert [(m.kind, m.sign, m.colour, TEXT[slice(*m.span)]) for m in found.candidate] == [
        ("shared", "A", 0, "effusion"),
        ("shared", "B", 1, "pneumonia"),
        ("invented", INVENTED, None, "nodule"),
        ("shared", "C−", 2, "pneumothorax"),
        ("shared", "", 2, "No"),
    ]
    assert [(note.sign, note.text) for note in found.notes] == [
        ("A", "Pleural Effusion; right, in the reference left"),
        ("B", "Pneumonia: present (reference: uncertain)"),
        ("C", "Pneumothorax: absent"),
        (MISSED, "misses Fracture (reference: present)"),
        (INVENTED, "says Lung Lesion (reference: not mentioned)"),
    ]


def test_a_denial_of_what_the_reference_states_is_missed_in_both_texts():
    found = match_findings("Left pneumothorax.", "No pneumothorax.")
    assert [(mark.kind, mark.sign) for mark in found.reference] == [("missed", MISSED)]
    assert [(mark.kind, mark.sign) for mark in found.candidate] == [("missed", MISSED), ("missed", "")]
    assert [note.text for note in found.notes] == ["denies Pneumothorax (reference: present)"]


def test_what_one_text_alone_denies_is_quiet_and_what_the_same_words_say_has_one_letter():
    found = match_findings(
        "No effusion. The cardiomediastinal silhouette is normal.", "Normal cardiomediastinal contours."
    )
    assert [(mark.kind, mark.sign) for mark in found.reference] == [("quiet", ""), ("shared", "A−")]
    assert [(mark.kind, mark.sign) for mark in found.candidate] == [("shared", "A−")]
    assert [(note.sign, note.text) for note in found.notes] == [
        ("A", "Cardiomegaly, Enlarged Cardiomediastinum: absent")
    ]


@settings(deadline=None)  # the first reading loads the rules
@given(st.lists(st.sampled_from([*REFERENCE.split(". "), *TEXT.split(". ")]), max_size=5).map(". ".join))
def test_a_text_shares_all_it_says_with_itself(text: str) -> None:
    found = match_findings(text, text)
    assert found.reference == found.candidate
    assert {note.kind for note in found.notes} <= {"shared"}


# ---- which completions are shown -------------------------------------------------------------------------------------


def test_the_choice_is_the_largest_advantage_of_each_study_and_knows_no_weight():
    studies = {s.study_id: s for s in (study("dead"), study("n", normal=True), study("a"), study("b"))}
    rows = [row("n", 2.0), row("dead", 0.0), row("a", 0.5), row("a", -1.5), row("a", 1.5), row("b", -0.1)]
    chosen = choose(rows, studies, seed=7)
    assert {r["study_id"] for r in chosen[:2]} == {"a", "b"}  # abnormal, in the order of the draw
    assert [r["study_id"] for r in chosen[2:]] == ["n", "dead"]
    assert next(r for r in chosen if r["study_id"] == "a")["advantage"] == -1.5  # the first among equals
    heavy = [{**r, "tokens": [[0, 1, 3.0]]} for r in rows]
    assert [r["advantage"] for r in choose(heavy, studies, seed=7)] == [r["advantage"] for r in chosen]
    assert len(choose([row(f"s{i}", 1.0) for i in range(9)], {f"s{i}": study(f"s{i}") for i in range(9)}, 7)) == 6


def test_an_advantage_says_what_it_does_to_the_text():
    assert advantage(1.234) == {"tone": "up", "text": "▲ advantage +1.23: made more likely"}
    assert advantage(-0.5) == {"tone": "down", "text": "▼ advantage −0.50: made less likely"}
    assert advantage(0.0)["tone"] == "even"


# ---- the page of a run -----------------------------------------------------------------------------------------------


def weighted_run(root: Path, rows: list[dict[str, Any]], metrics: dict[str, float] | None = None) -> Run:
    made = write_run(root / "runs", n=10)
    values = made.config.model_dump(mode="json")
    values["align"]["token_weight"] = {"by": "tfidf"}
    config = parse_config(values, "fixture")
    write_json(made.path / "config.json", config.model_dump(mode="json"))
    write_jsonl(made.path / "data" / "train.jsonl", [study(i).to_json() for i in ("a", "b", "c")])
    write_jsonl(made.path / "rollouts" / "step_000000.jsonl", [row("c", 1.0)])
    write_jsonl(made.path / "rollouts" / "step_000020.jsonl", rows)
    base = {"stage": "align", "attempt": 2, "time": 9.0, "loss": 0.0}
    append_jsonl(made.path / "metrics.jsonl", [{**base, "step": step, **(metrics or {})} for step in (81, 82)])
    return Run(made.path, config, attempt=2)


def test_the_page_shows_the_last_rollout_with_advantage_reward_and_legend(tmp_path: Path) -> None:
    unscored = row("b", 0.0, "<i>Clear</i> lungs.", reward=None, why="no header")
    run = weighted_run(tmp_path, [row("a", -1.5), row("a", 0.5), unscored])
    report_run(run)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="heat"') : page.index('<section id="gamed"')]
    assert shown_texts(section) == [REFERENCE, TEXT, REFERENCE, "<i>Clear</i> lungs."]
    assert "▼ advantage −1.50: made less likely" in section
    assert "reward 0.500" in section
    assert "reward none (no header)" in section
    assert "Rollout before step 20" in section
    assert 'title="weight 1.50' in section
    assert '<i class="s shared c0" data-m="A" aria-hidden="true"></i>' in section
    assert "mean weight on findings" in section
    assert '<a href="#heat">' in page


def test_a_run_without_weights_has_no_such_part(tmp_path: Path) -> None:
    run = weighted_run(tmp_path, [{key: value for key, value in row("a", 1.0).items() if key != "tokens"}])
    assert heat_panel(read_inputs(run)) is None
    report_run(run)
    assert 'id="heat"' not in (run.path / "report.html").read_text(encoding="utf-8")


def test_logged_means_have_charts_here_and_none_among_the_curves(tmp_path: Path) -> None:
    run = weighted_run(
        tmp_path, [row("a", 1.0)], {"weights/evidence": 1.2, "weights/rest": 0.9, "seconds/weights": 0.1}
    )
    inputs = read_inputs(run)
    charts = weight_charts(inputs.metrics)
    assert [chart["title"] for chart in charts] == ["Mean weight, on evidence and elsewhere"]
    assert "elsewhere" in charts[0]["svg"]
    curves = training(inputs, "align")
    assert curves is not None
    assert not [chart["title"] for chart in curves["charts"] if "weights/" in chart["title"]]


def test_a_study_that_the_split_lacks_and_a_damaged_row_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="zz"):
        read_inputs(weighted_run(tmp_path / "missing", [row("zz", 1.0)]))
    damaged = weighted_run(tmp_path / "damaged", [{**row("a", 1.0), "tokens": [[0, 9999, 1.0]]}])
    with pytest.raises(DataError, match="'a'"):
        heat_panel(read_inputs(damaged))


def test_the_time_of_the_weights_is_a_part_of_the_profile_where_there_is_any():
    step = {"stage": "align", "seconds/step": 10.0, "seconds/sampling": 4.0}
    without, with_ = profile([step]), profile([{**step, "seconds/weights": 1.0}])
    assert without is not None
    assert with_ is not None
    assert "token weights" not in [line["name"] for line in without["lines"]]
    assert {line["name"]: line["share"] for line in with_["lines"]}["token weights"] == "10.0"
