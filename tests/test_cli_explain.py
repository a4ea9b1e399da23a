"""``radiograd explain tokens`` as a user meets it, on a run folder with a tiny model's tokenizer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from radiograd.cli import cli
from radiograd.config import RunConfig, parse_config
from radiograd.errors import DataError, RunError, UsageError
from radiograd.labelers import embedded
from radiograd.report.heat import drawn
from radiograd.runs import find_run, write_json, write_jsonl
from radiograd.studies import read_split
from tests import tiny
from tests.encoder_fixture import MAX_TOKENS, write_bert


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


def _config(model: Path, align: dict[str, Any] | None = None) -> RunConfig:
    values = {"name": "mine", "model": {"name": str(model), "device": "cpu"}, "align": align or {}}
    return parse_config(values, "test")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labeler")
    encoder = write_bert(folder / "encoder")
    texts = [f"{s.sections.findings} {s.sections.impression}" for s in tiny.studies(20)]
    examples = [embedded.Example(text, f"p{number}") for number, text in enumerate(texts)]
    once = embedded.Settings(epochs=1, composites=0.0, max_tokens=MAX_TOKENS)
    embedded.train(examples, folder / "made", encoder=encoder, settings=once)
    return folder / "made"


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A run whose aligned policy says of every held-out study that there is a nodule."""
    folder = tmp_path / "runs" / "mine"
    write_json(folder / "config.json", _config(model).model_dump(mode="json"))
    made = tiny.studies(60)
    for name, studies in (("train", made[:40]), ("val", made[40:50]), ("test", made[50:])):
        write_jsonl(folder / "data" / f"{name}.jsonl", [study.to_json() for study in studies])
    texts = {"sft": "No acute abnormality.", "aligned": "Left nodule. No acute abnormality."}
    rows = [{"study_id": s.study_id, "row": row, "text": text} for row, text in texts.items() for s in made[50:]]
    write_jsonl(folder / "eval" / "test" / "predictions.jsonl", rows)
    return folder


def explain(run: Path, *args: str, given: str | None = None) -> Result:
    done = CliRunner().invoke(cli, ["explain", "tokens", str(run), *args], input=given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_six_held_out_studies_drawn_blind_are_shown_with_their_words_by_weight(run: Path) -> None:
    shown = explain(run, "--by", "tfidf").output
    heads = re.findall(r"^(s\d{4})  (\w+)  aligned", shown, flags=re.MULTILINE)
    expected = drawn(read_split(find_run(run), "test"), find_run(run).config.seed)
    assert [study_id for study_id, _ in heads] == [study.study_id for study in expected]
    first = shown.split("\n\n\n")[0].split("\n\n")[1]
    weights = [float(value) for value in re.findall(r"^ +(\d\.\d\d)  #", first, flags=re.MULTILINE)]
    assert weights == sorted(weights, reverse=True)
    assert len(weights) == 5  # words of the text


def test_json_has_every_token_with_mean_weight_one_and_the_findings(run: Path) -> None:
    study = read_split(find_run(run), "test")[0]
    found = json.loads(explain(run, "--by", "tfidf", "--study", study.study_id, "--row", "aligned", "--json").output)
    (one,) = found["studies"]
    assert (found["run"], found["by"], one["study_id"], one["row"]) == ("mine", "tfidf", study.study_id, "aligned")
    assert one["text"] == "Left nodule. No acute abnormality."
    assert one["reference"] == study.sections.impression
    weights = [weight for _, _, weight in one["tokens"]]
    # the end token weighs 1 and is not listed, so the mean of the others is 1 too
    assert sum(weights) / len(weights) == pytest.approx(1.0, abs=1e-3)
    assert "".join(one["text"][a:b] for a, b, _ in one["tokens"]) == one["text"]
    lesion = [finding for finding in one["findings"] if "Lung Lesion" in finding["finding"]]
    assert lesion
    assert lesion[0]["weight"] > 0.5


def test_a_text_of_ones_own_is_weighed_against_the_study_that_is_named(run: Path) -> None:
    args = ("--by", "tfidf", "--study", "s0003", "--text", "-", "--json")  # a training study
    (one,) = json.loads(explain(run, *args, given="Large <b>pneumothorax</b>, é.\n").output)["studies"]
    assert one["row"] == "given"
    assert one["text"] == "Large <b>pneumothorax</b>, é."
    with pytest.raises(UsageError, match="--study ID"):
        explain(run, "--by", "tfidf", "--text", "-", given="x")
    with pytest.raises(UsageError, match="--row"):
        explain(run, "--by", "tfidf", "--text", "-", "--study", "s0003", "--row", "sft", given="x")


def test_an_empty_text_weighs_nothing_and_one_that_is_no_utf8_is_named(run: Path, tmp_path: Path) -> None:
    args = ("--by", "tfidf", "--study", "s0003", "--text")
    (one,) = json.loads(explain(run, *args, "-", "--json", given="\n").output)["studies"]
    assert (one["text"], one["tokens"]) == ("", [])
    assert "(empty)" in explain(run, *args, "-", given="\n").output
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8"):
        explain(run, *args, str(tmp_path / "latin.txt"))


def test_the_page_has_a_card_for_each_study_and_loads_nothing(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "tokens.html"
    said = explain(run, "--by", "tfidf", "--study", "s0051", "--study", "s0052", "--html", str(page)).output
    assert said == f"page: {page}\n"
    markup = page.read_text(encoding="utf-8")
    assert re.findall(r"<h4>(.*?)</h4>", markup) == ["s0051", "s0052"]
    assert "TF-IDF" in markup
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|url\(|<script", markup)


def test_weights_that_need_a_classifier_say_what_to_type_where_there_is_none(run: Path) -> None:
    with pytest.raises(UsageError, match="weights by combined take its gradient; add --by tfidf, or --classifier"):
        explain(run)
    with pytest.raises(UsageError, match="leave --classifier out"):
        explain(run, "--by", "tfidf", "--classifier", str(run))


def test_an_unknown_study_row_or_set_is_named(run: Path) -> None:
    with pytest.raises(DataError, match="'s0001' is not in the test set"):
        explain(run, "--by", "tfidf", "--study", "s0001")
    with pytest.raises(UsageError, match="Did you mean 'aligned'"):
        explain(run, "--by", "tfidf", "--row", "alined")
    with pytest.raises(RunError, match=r"radiograd generate .* --set val"):
        explain(run, "--by", "tfidf", "--set", "val")
    with pytest.raises(DataError, match=r"no study of .* has the id 'nobody'"):
        explain(run, "--by", "tfidf", "--study", "nobody", "--text", "-", given="x")


def test_a_classifier_that_is_named_or_the_runs_own_gives_its_gradients(run: Path, classifier: Path) -> None:
    study = ("--study", "s0051", "--json")
    named = json.loads(explain(run, *study, "--classifier", str(classifier)).output)
    assert named["by"] == "combined"
    (run / "classifier").symlink_to(classifier)
    own = json.loads(explain(run, *study).output)
    assert own == named
    by_gradient = json.loads(explain(run, *study, "--by", "gradient").output)
    assert by_gradient["studies"][0]["tokens"] != own["studies"][0]["tokens"]


def test_a_run_whose_own_classifier_is_still_to_be_trained_names_the_stage(run: Path, model: Path) -> None:
    config = _config(model, {"type": "grpo", "token_weight": "combined"})
    write_json(run / "config.json", config.model_dump(mode="json"))
    with pytest.raises(RunError, match=r"not trained its classifier yet; run: radiograd classifier"):
        explain(run)


def test_the_runs_own_kind_of_weight_is_taken(run: Path, model: Path) -> None:
    config = _config(model, {"type": "grpo", "token_weight": {"by": "tfidf", "eta": 1.0}})
    write_json(run / "config.json", config.model_dump(mode="json"))
    found = json.loads(explain(run, "--study", "s0051", "--json").output)
    assert found["by"] == "tfidf"
    assert {weight for _, _, weight in found["studies"][0]["tokens"]} == {1.0}  # eta 1: uniform
