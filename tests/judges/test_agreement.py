"""Known answers, and how far a judge agrees with them: shares a reader can count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from radiograd.errors import DataError, JudgeError
from radiograd.judges.agreement import (
    KnownAnswer,
    KnownDuel,
    Report,
    agreement,
    as_json,
    coded_criticality,
    expert_duels,
    probe_consistency,
    probe_duels,
    yes_no_agreement,
)
from radiograd.judges.protocol import Duel, Preference, Question, Usage, Verdict, Winner
from radiograd.judges.rules import Rules
from radiograd.text.edits import EDITS

REPORTS = [
    Report(
        "s1", "Small left pleural effusion. No pneumothorax.", "Small left pleural effusion, no pneumothorax.", False
    ),
    Report("s2", "The heart is mildly enlarged.", "Mild cardiomegaly. No acute disease.", False),
    Report("s3", "The lungs are clear.", "No acute cardiopulmonary abnormality is seen.", True),
]


class Told:
    """Answers what it is told, by study; "" is unscored. ``orders`` may say what it named in each order."""

    signature = "judge=told"

    def __init__(self, winners: dict[str, str], orders: dict[str, tuple[Winner, ...]] | None = None) -> None:
        self.winners, self.orders, self.asked = winners, orders or {}, 0

    def prefer(self, duels: Sequence[Duel]) -> list[Preference]:
        self.asked += len(duels)
        return [self._one(duel.study_id) for duel in duels]

    def _one(self, study: str) -> Preference:
        winner = self.winners[study]
        if winner not in ("a", "b", "tie"):
            return Preference(None, why="was not told")
        return Preference(winner, by_order=self.orders.get(study, (winner, winner)), usage=Usage(2, 10, 1))

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        return [Verdict(self.winners[q.study_id] == "a") for q in questions]

    critical = consistent


def known(winners: str, kind: str = "expert") -> list[KnownDuel]:
    named: dict[str, Winner] = {"a": "a", "b": "b", "t": "tie"}
    return [KnownDuel(Duel(f"s{k}", "f", "x", "y"), named[w], kind) for k, w in enumerate(winners)]


def test_agreement_is_the_share_of_scored_duels_and_a_tie_agrees_with_a_tie_only() -> None:
    # right, right, wrong, a tie where b wins (wrong), a tie where it is one (right), unscored: 3 of 5
    judge = Told({"s0": "a", "s1": "b", "s2": "b", "s3": "tie", "s4": "tie", "s5": ""})
    found = agreement(judge, known("abbbta".replace("bbb", "bab")), max_unscored=0.5)
    everything = found.rows[0]
    assert (everything.kind, everything.n, everything.agreement) == ("all", 5, 0.6)
    assert (everything.ties, everything.unscored) == (2, 1)
    assert everything.low is not None
    assert everything.low < 0.6 < (everything.high or 0)
    assert found.reasons == (("was not told", 1),)
    assert (found.usage.asked, found.same_again) == (10, None)


def test_contradictions_and_the_first_place_are_counted_over_answers() -> None:
    # s0 names the first shown in both orders; s1 the same side; s2 a tie and then the second shown (a)
    orders: dict[str, tuple[Winner, ...]] = {"s0": ("a", "b"), "s1": ("b", "b"), "s2": ("tie", "a")}
    found = agreement(Told({"s0": "tie", "s1": "b", "s2": "a"}, orders), known("aba"))
    assert found.contradicted == pytest.approx(1 / 3)
    assert found.first_place == pytest.approx(3 / 5)  # named: a first, b first, b second, b first, a second


def test_asked_again_it_may_say_something_else() -> None:
    class Fickle(Told):
        def again(self) -> Told:
            return Told({"s0": "a", "s1": "a", "s2": "", "s3": "tie"})

    judge = Fickle({"s0": "a", "s1": "b", "s2": "a", "s3": "tie"})
    found = agreement(judge, known("abab"), ask_again=True, max_unscored=0.5)
    assert found.same_again == pytest.approx(2 / 3)  # s2 was unscored the second time
    assert found.usage.asked == 2 * 4 + 2 * 3
    plain = Told({"s0": "a"})
    assert agreement(plain, known("a"), ask_again=True).same_again == 1.0
    assert plain.asked == 2


def test_a_deterministic_judge_is_not_asked_twice() -> None:
    found = agreement(Rules(), probe_duels(REPORTS), ask_again=True)
    assert (found.deterministic, found.same_again) == (True, 1.0)


def test_too_much_unscored_is_no_result() -> None:
    with pytest.raises(JudgeError, match="left 2 of 3 unscored, more than the 20% allowed: 2 x was not told"):
        agreement(Told({"s0": "a", "s1": "", "s2": ""}), known("aaa"))
    with pytest.raises(DataError, match="no pair"):
        agreement(Rules(), [])
    with pytest.raises(DataError, match="no report"):
        yes_no_agreement(Rules(), [], "critical")


def test_the_unedited_impression_must_win_and_a_harmless_edit_must_tie() -> None:
    duels = probe_duels(REPORTS, seed=3)
    originals = {report.study_id: report.impression for report in REPORTS}
    assert {one.kind for one in duels} > {"negation_flip", "laterality_flip", "omission", "hallucination", "empty"}
    for one in duels:
        sides = {"a": one.duel.a, "b": one.duel.b}
        assert list(sides.values()).count(originals[one.duel.study_id]) == 1
        if EDITS[one.kind].harmful:
            assert sides[one.winner] == originals[one.duel.study_id]
        else:
            assert one.winner == "tie"
    assert {one.winner for one in duels if EDITS[one.kind].harmful} == {"a", "b"}
    assert all(one.duel.reference is None for one in duels)
    assert probe_duels(REPORTS, seed=3) == duels
    shown = probe_duels(REPORTS, show_reference=True)
    assert all(one.duel.reference == originals[one.duel.study_id] for one in shown)


def test_harmless_edits_have_a_row_and_no_part_in_the_total() -> None:
    duels = [*known("ab", "empty"), *known("tt", "reordering")]
    found = agreement(Told({"s0": "a", "s1": "b"}), duels)
    rows = {row.kind: row for row in found.rows}
    assert (rows["all"].n, rows["all"].agreement) == (2, 1.0)
    assert rows["reordering"].agreement == 0.0


def test_consistency_probes_are_true_unedited_and_false_where_they_contradict() -> None:
    questions = probe_consistency(REPORTS)
    assert [one.value for one in questions if one.kind == "unedited"] == [True] * 3
    assert {one.value for one in questions if one.kind != "unedited"} == {False}
    found = yes_no_agreement(Rules(), questions, "consistent")
    assert {row.kind: row for row in found.rows}["unedited"].agreement == 1.0


def test_criticality_is_held_against_the_codes_by_class() -> None:
    questions = coded_criticality([*REPORTS, Report("s4", "Clear.", "Normal.", None)])
    assert [one.value for one in questions] == [True, True, False]
    assert questions[0].question.text.startswith("Findings: Small left pleural effusion.")
    found = yes_no_agreement(Rules(), questions, "critical")
    assert {row.kind: row.n for row in found.rows} == {"all": 3, "coded abnormal": 2, "coded normal": 1}
    judge = Told({"s1": "a", "s2": "b", "s3": "b"})  # says yes, no, no
    wrong = yes_no_agreement(judge, questions, "critical")
    assert {row.kind: row.agreement for row in wrong.rows}["coded abnormal"] == 0.5


def test_intervals_are_drawn_by_study() -> None:
    # one study asked ten times is one study: its interval is a point
    one = [KnownAnswer(Question("s0", "x"), True, "codes")] * 10
    (row, *_) = yes_no_agreement(Told({"s0": "a"}), one, "critical").rows
    assert (row.n, row.low, row.high) == (10, 1.0, 1.0)


def test_expert_preferences_are_read_and_bad_lines_are_named(tmp_path: Path) -> None:
    good = {"id": 7, "findings": "f", "a": "x", "b": "y", "winner": "b", "reference": None}
    lines = [good, {**good, "winner": "both SECRET"}, {**good, "a": None}, {**good, "reference": 5}, good]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in lines) + "\nnot json\n", encoding="utf-8-sig")
    said: list[str] = []
    found = expert_duels(path, None, said.append)
    assert found == [KnownDuel(Duel("7", "f", "x", "y"), "b", "expert")] * 2
    assert [line.split(": ")[0].rpartition(" ")[2] for line in said] == ["3", "5", "7", "10"]
    assert "SECRET" not in "".join(said)
    assert len(expert_duels(path, 1, said.append)) == 1
    path.write_text("not json\n")
    with pytest.raises(DataError, match="no preference that can be used"):
        expert_duels(path, None, said.append)


def test_numbers_come_out_unrounded_as_json() -> None:
    found = as_json(agreement(Told({"s0": "a", "s1": "a", "s2": "a"}), known("aab")))
    assert found["agreement"]["all"]["agreement"] == 2 / 3
    assert json.loads(json.dumps(found)) == found
