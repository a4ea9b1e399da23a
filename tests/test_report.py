"""The page: what it says, that it escapes, that it needs nothing from outside, and that a browser renders it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import radiograd
from radiograd.errors import RunError
from radiograd.metrics.builtin import METRICS
from radiograd.metrics.label_f1 import LabelF1
from radiograd.report import report_run
from radiograd.report.cases import best_and_worst, biggest_moves, choose_cases, kind
from radiograd.report.collapse import collapse_panel, judgement, shortened, variety
from radiograd.report.conclusion import verdict
from radiograd.report.curves import points
from radiograd.report.differences import difference_cell, find_difference
from radiograd.report.evidence import Remark, elided, label_remarks, marked, marked_diff
from radiograd.report.findings import agreements, confusion_lines, finding_panel, label_texts, read_labels
from radiograd.report.findings import spoken as spoken_of_findings
from radiograd.report.inputs import read_inputs
from radiograd.report.profile import profile
from radiograd.report.provenance import count_text, counts_blocks, stage_view
from radiograd.report.results import metric_groups, result_tables, reward_text, row_order
from radiograd.report.wording import METRIC_LABELS, duration, metric_group, moment, signed
from radiograd.runs import Run, find_run, read_json, read_jsonl, write_json, write_jsonl
from radiograd.stats import bootstrap_counts
from radiograd.text.explain import Page
from radiograd.types import Case, Status
from tests.report_fixture import studies, write_run

BASELINES = ("constant", "retrieval", "other_patient", "copy_findings")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = write_run(tmp_path_factory.mktemp("finished") / "runs")
    report_run(run)
    return run


def page(run: Run) -> str:
    return (run.path / "report.html").read_text(encoding="utf-8")


def shown_text(markup: str) -> str:
    """What a reader sees, blanks collapsed."""
    body = re.sub(r"<(style|title)\b.*?</\1>", " ", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def pair(a: str, b: str, difference: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    entry = {"a": a, "b": b, "metric": "rougeL", "stratum": "abnormal", "n": 50, "p": 0.01, "higher_is_better": True}
    return {**entry, "difference": difference, "low": low, "high": high, **more}


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_the_verdict_quotes_difference_and_interval_and_says_whether_it_excludes_zero():
    evaluation = {
        "paired": [
            pair("aligned", "sft", 0.012, 0.001, 0.023, metric="reward", stratum="all"),
            pair("aligned", "sft", 0.019, 0.004, 0.033),
            pair("aligned", "constant", 0.08, 0.05, 0.11),
            pair("aligned", "copy_findings", 0.2, 0.1, 0.3),
            pair("aligned", "retrieval", -0.004, -0.019, 0.011),
            pair("sft", "retrieval", -0.03, -0.05, -0.01),
        ]
    }
    rows = ["sft", "aligned", *BASELINES]
    found = verdict(evaluation, rows, ["sft", "aligned"], "rougeL")
    assert found["tone"] == "good"
    assert found["headline"] == "Alignment raised the reward on held-out studies: +1.2 [0.1, 2.3]"
    assert found["sentences"] == [
        "Aligned against SFT on ROUGE-L, abnormal cases (n = 50): +1.9 [0.4, 3.3]; the interval excludes 0.",
        "On abnormal cases, by ROUGE-L, the aligned model is above the constant sentence (+8.0 [5.0, 11.0]) and the "
        "copied findings (+20.0 [10.0, 30.0]); not distinguishable from retrieval (−0.4 [−1.9, 1.1]).",
        "On abnormal cases, by ROUGE-L, the SFT model is below retrieval (−3.0 [−5.0, −1.0]).",
    ]


@pytest.mark.parametrize(
    ("low", "high", "words", "tone"),
    [(-0.01, 0.03, "did not measurably change", "even"), (-0.05, -0.01, "lowered", "bad")],
)
def test_the_verdict_does_not_call_a_null_result_a_gain(low: float, high: float, words: str, tone: str):
    evaluation = {"paired": [pair("aligned", "sft", (low + high) / 2, low, high, metric="reward", stratum="all")]}
    found = verdict(evaluation, ["sft", "aligned"], ["sft", "aligned"], "rougeL")
    assert words in found["headline"]
    assert found["tone"] == tone


def test_a_reward_that_rose_while_the_main_metric_fell_is_not_called_good():
    gain = pair("aligned", "sft", 0.02, 0.01, 0.03, metric="reward", stratum="all")
    loss = pair("aligned", "sft", -0.02, -0.03, -0.01)
    found = verdict({"paired": [gain, loss]}, ["sft", "aligned"], ["sft", "aligned"], "rougeL")
    assert found["tone"] == "even"
    assert found["sentences"][0].endswith("−2.0 [−3.0, −1.0]; the interval excludes 0.")


def test_a_difference_stored_the_other_way_round_is_turned():
    found = find_difference({"paired": [pair("sft", "aligned", -0.02, -0.03, 0.01)]}, *MODEL_PAIR)
    assert found is not None
    assert (found.difference, found.low, found.high) == (0.02, -0.01, 0.03)
    assert found.sign == 0
    assert find_difference({"paired": []}, *MODEL_PAIR) is None


MODEL_PAIR = ("aligned", "sft", "rougeL", "abnormal")


def test_a_difference_that_could_not_be_computed_is_a_dash():
    unknown = pair("aligned", "sft", 0, 0, 0) | {"difference": None, "low": None, "high": None, "p": None}
    assert difference_cell(find_difference({"paired": [unknown]}, *MODEL_PAIR))["value"] == "–"
    assert difference_cell(None)["value"] == "–"


def test_the_table_marks_the_best_mean_and_counts_what_was_not_scored():
    def entry(mean: float | None, unscored: int = 0) -> dict[str, Any]:
        low, high = (None, None) if mean is None else (mean - 0.02, mean + 0.02)
        n = 10 - unscored
        return {"mean": mean, "low": low, "high": high, "n": n, "unscored": unscored, "higher_is_better": True}

    rows = {
        "constant": {"rougeL": entry(0.39), "reward": entry(0.4)},
        "sft": {"rougeL": entry(0.47, 2), "reward": entry(0.5)},
        "aligned": {"rougeL": entry(None, 10), "reward": entry(0.45)},
    }
    order = row_order(rows, BASELINES)
    assert [r["name"] for r in order] == ["sft", "aligned", "constant"]
    (table,) = result_tables({"rows": rows, "strata": {}}, order, ["reward", "rougeL"])
    sft, aligned, constant = table["lines"]
    assert (sft["n"], sft["unscored"]) == ("8–10", "0–2")
    assert sft["cells"][1] == {"mean": "47.0", "interval": "[45.0, 49.0]", "best": True, "low": False}
    assert aligned["cells"][1]["mean"] == "–"
    assert [line["cells"][0]["best"] for line in (sft, aligned, constant)] == [True, False, False]


def test_of_a_metric_that_is_better_when_low_the_lowest_is_best_and_a_fall_is_a_gain():
    rows = {
        row: {"errors": {"mean": v, "low": v, "high": v, "n": 9, "unscored": 0, "higher_is_better": False}}
        for row, v in (("sft", 0.3), ("aligned", 0.2), ("constant", 0.5))
    }
    order = row_order(rows, BASELINES)
    (table,) = result_tables({"rows": rows, "strata": {}}, order, ["errors"])
    assert [(line["cells"][0]["best"], line["cells"][0]["low"]) for line in table["lines"]] == [
        (False, True),
        (True, True),
        (False, True),
    ]
    fall = pair("aligned", "sft", -0.1, -0.2, -0.05, metric="errors", stratum="all", higher_is_better=False)
    shown = difference_cell(find_difference({"paired": [fall]}, "aligned", "sft", "errors", "all"))
    assert (shown["word"], shown["sign"], shown["better"]) == ("lower, better", -1, 1)
    rise = fall | {"a": "sft", "b": "aligned"}  # the same the other way round: sft - aligned is stored as below 0
    shown = difference_cell(find_difference({"paired": [rise]}, "aligned", "sft", "errors", "all"))
    assert (shown["word"], shown["sign"], shown["better"]) == ("higher, worse", 1, -1)
    assert verdict({"paired": [fall]}, ["sft", "aligned"], ["sft", "aligned"], "errors")["tone"] == "good"
    below = pair("aligned", "constant", -0.3, -0.4, -0.2, metric="errors", higher_is_better=False)
    found = verdict({"paired": [fall, below]}, ["sft", "aligned", "constant"], ["sft", "aligned"], "errors")
    assert found["sentences"][-1] == (
        "On abnormal cases, by errors (lower is better), the aligned model is below the constant sentence "
        "(−30.0 [−40.0, −20.0])."
    )


def test_the_reward_is_a_weighted_mean_of_values_of_single_texts():
    assert reward_text({"rougeL": 1.0}) == "ROUGE-L, of one text at a time."
    assert reward_text({"rougeL": 1.0, "bleu2": 0.5, "length_ratio": 0.25}) == (
        "(1 × ROUGE-L + 0.5 × BLEU-2 + 0.25 × Length ratio) / 1.75, of one text at a time: BLEU-2 in it is sentence "
        "BLEU with effective order, while the BLEU columns of the table are corpus BLEU."
    )


def test_numbers_read_as_people_write_them():
    assert [signed(v) for v in (0.0191, -0.004, 0.0, -0.0001)] == ["+1.9", "−0.4", "0.0", "0.0"]
    assert [duration(s) for s in (8.25, 301.5, 4020)] == ["8.2 s", "5 min 02 s", "1 h 07 min"]
    assert moment("2026-01-05T09:30:59+00:00") == "2026-01-05 09:30 UTC"
    assert moment("2026-01-05T01:30:00+02:00") == "2026-01-04 23:30 UTC"
    assert count_text("normal_share", 0.3812) == "38.1 %"
    assert count_text("normal_share_used", 0.374) == "37.4 %"
    assert count_text("impression_words_mean", 9.3) == "9.3"
    assert count_text("read", 3955) == "3,955"
    assert count_text("kept", None) == "–"


def test_peak_memory_is_shown_in_gib_whatever_its_unit():
    assert stage_view("sft", {"seconds": 61, "peak_gib": 3.42})["memory"] == "3.42 GiB"
    assert stage_view("sft", {"seconds": 61, "peak_rss_mib": 512})["memory"] == "0.50 GiB"
    assert stage_view("sft", {"seconds": 61, "studies": 400})["other"] == "studies 400"
    assert stage_view("align", None)["done"] is False


def test_the_fingerprint_of_the_source_stands_with_the_data_and_not_with_the_stage(finished: Run):
    assert stage_view("data", {"seconds": 1, "train": 8, "fingerprint": {"sha256": "ab"}})["other"] == "train 8"
    assert "fingerprint size 1,112,632 sha256 0123456789abcdef" in shown_text(page(finished)).lower()


def test_nested_counts_become_a_grid_where_they_are_alike():
    blocks = counts_blocks(
        {"read": 10, "splits": {"train": {"studies": 8}, "test": {"studies": 2, "normal_share": 0.5}}}
    )
    assert blocks == [
        {"title": "Overall", "pairs": [("read", "10")]},
        {
            "title": "splits",
            "columns": ["studies", "normal share"],
            "lines": [("train", ["8", "–"]), ("test", ["2", "50.0 %"])],
        },
    ]


def test_a_missing_value_is_a_gap_and_a_rare_key_is_not():
    rows = [{"step": s, "loss": 1.0} for s in range(1, 11)]
    del rows[4]["loss"]
    rows[9]["rare"] = 0.5
    assert points(rows, "loss")[4] == (5.0, None)  # 9 of 10 known: the tenth is unknown
    assert points(rows, "rare") == [(10.0, 0.5)]


# ---- the ten cases ---------------------------------------------------------------------------------------------------


def test_the_ten_cases_are_seven_abnormal_and_three_normal_and_do_not_depend_on_row_order():
    tests = studies(40)
    chosen = choose_cases(tests, seed=7)
    assert [kind(s) for s in chosen] == ["abnormal"] * 7 + ["normal"] * 3
    assert choose_cases(tests[::-1], seed=7) == chosen
    assert choose_cases(tests, seed=8) != chosen


def test_too_few_of_a_kind_are_filled_up_from_the_rest():
    tests = [s for s in studies(60) if s.normal][:20] + [s for s in studies(60) if not s.normal][:2]
    assert [kind(s) for s in choose_cases(tests, seed=1)] == ["abnormal"] * 2 + ["normal"] * 8
    assert len(choose_cases(tests[:4], seed=1)) == 4


def test_gains_and_losses_are_those_with_the_largest_change_and_leave_out_what_is_unscored():
    tests = studies(5)
    before = dict(zip((s.study_id for s in tests), (0.5, 0.5, 0.5, 0.5, None), strict=True))
    after = dict(zip(before, (0.9, 0.7, 0.5, 0.1, 0.9), strict=True))
    scores = {("sft", i): {"rougeL": v} for i, v in before.items()}
    scores |= {("aligned", i): {"rougeL": v} for i, v in after.items()}
    up, down = biggest_moves(tests, scores, "rougeL")
    assert [(change, s.study_id) for change, s in up] == [("+40.0", "case-000"), ("+20.0", "case-001")]
    assert [(change, s.study_id) for change, s in down] == [("−40.0", "case-003")]
    assert biggest_moves(tests, scores, "rougeL", lower_is_better=True) == (down, up)


def test_best_and_worst_prefer_abnormal_studies_then_long_references_and_never_share_a_study():
    tests = studies(5)  # 0 and 3 are normal; the references have 8, 8, 10, 4 and 10 words
    values = dict(zip((s.study_id for s in tests), (1.0, 1.0, 1.0, 0.2, None), strict=True))
    scores = {("aligned", i): {"fidelity": v} for i, v in values.items()}
    best, worst = best_and_worst(tests, scores, "aligned", "fidelity")
    assert [(value, s.study_id) for value, s in best] == [
        ("100.0", "case-002"),
        ("100.0", "case-001"),
        ("100.0", "case-000"),
    ]
    assert [(value, s.study_id) for value, s in worst] == [("20.0", "case-003")]
    best, worst = best_and_worst(tests, scores, "aligned", "fidelity", lower_is_better=True)
    assert best[0][1].study_id == "case-003"
    assert best_and_worst(tests[:3], scores, "aligned", "fidelity") == ([], [])


# ---- clinical content apart from wording -----------------------------------------------------------------------------


def test_metrics_stand_in_groups_and_the_reward_with_what_its_terms_measure():
    metrics = ["reward", "rougeL", "fidelity", "label_f1_14", "package.module:mine"]
    assert [(g["title"], g["metrics"]) for g in metric_groups(metrics, ["rougeL", "bleu2"])] == [
        ("Clinical content", ["fidelity", "label_f1_14"]),
        ("Reward and wording", ["reward", "rougeL"]),
        ("Other metrics", ["package.module:mine"]),
    ]
    assert metric_groups(metrics, ["fidelity"])[0]["title"] == "Reward and clinical content"
    assert metric_groups(["reward", "rougeL"], ["mine"]) == [
        {"name": "wording", "title": "Reward and wording", "metrics": ["reward", "rougeL"]}
    ]
    assert metric_groups(["reward"]) == [{"name": "other", "title": "Reward", "metrics": ["reward"]}]


def test_every_built_in_metric_has_a_label_and_a_group():
    assert {name for name in METRICS if METRIC_LABELS.get(name, name) == name} == set()
    assert {name for name in METRICS if metric_group(name) == "other"} == set()


def test_a_reward_that_rose_while_clinical_content_fell_is_not_called_good():
    gain = pair("aligned", "sft", 0.02, 0.01, 0.03, metric="reward", stratum="all")
    loss = pair("aligned", "sft", -0.02, -0.03, -0.01, metric="fidelity")
    rows = ["sft", "aligned"]
    assert verdict({"paired": [gain, loss]}, rows, rows, "rougeL")["tone"] == "good"
    found = verdict({"paired": [gain, loss]}, rows, rows, "rougeL", "fidelity")
    assert found["tone"] == "even"
    assert found["sentences"] == [
        "Aligned against SFT on Fidelity, abnormal cases (n = 50): −2.0 [−3.0, −1.0]; the interval excludes 0."
    ]


# ---- what is said of each finding ------------------------------------------------------------------------------------


def test_f1_of_a_finding_counts_found_invented_and_missed():
    truth = np.array([[1.0, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0]])
    said = np.array([[1.0, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 0]])
    counts = np.ones((1, 4))  # one resample: the cases as they are
    found = agreements(truth, said, ["a", "never", "No Finding"], counts)
    assert (found["a"].tp, found["a"].fp, found["a"].fn, found["a"].f1.value) == (1, 1, 1, 0.5)  # 2 / (2 + 1 + 1)
    assert found["never"].f1.value is None
    assert found["No Finding"].f1.value == pytest.approx(0.8)  # 4 / (4 + 1)
    assert found["micro"].f1.value == pytest.approx(2 / 3)  # 6 / (6 + 2 + 1)
    assert found["findings"].f1.value == 0.5
    assert found["macro"].f1.value == pytest.approx((0.5 + 0 + 0.8) / 3)
    assert (found["a"].f1.low, found["a"].f1.high) == (0.5, 0.5)


def test_a_resample_without_a_finding_does_not_pull_its_interval_to_zero():
    truth, said = np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]])
    counts = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])  # in the second nobody says it
    assert agreements(truth, said, ["a"], counts)["a"].f1.low == 1.0


def test_averages_over_findings_are_those_of_the_label_f1_metrics():
    tests = studies(30)
    texts = [("", s.sections.findings, s.sections.impression, "Pneumonia.")[i % 4] or "" for i, s in enumerate(tests)]
    references = label_texts([s.sections.impression or "" for s in tests])
    names = list(references[0])

    def positive(labels: list[Any]) -> Any:
        return np.array([[row[n] in (Status.PRESENT, Status.UNCERTAIN) for n in names] for row in labels], dtype=float)

    counts = bootstrap_counts([s.patient_id for s in tests], 100, np.random.default_rng(1))
    found = agreements(positive(references), positive(label_texts(texts)), names, counts.astype(float))
    cases = [Case(s, text) for s, text in zip(tests, texts, strict=True)]
    for average in ("micro", "macro"):
        metric = LabelF1("f1", average=average)
        scores = metric.score(cases)
        value = metric.combine({part: np.array(sum(s.parts[part] for s in scores)) for part in metric.part_names})
        estimate = found[average].f1
        assert estimate.value == pytest.approx(float(value))
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high


def test_an_empty_text_says_nothing_not_even_that_there_is_no_finding():
    assert set(label_texts([" "])[0].values()) == {Status.UNMENTIONED}
    assert label_texts(["Clear lungs."])[0]["No Finding"] is Status.PRESENT


def test_the_sentences_name_what_is_missed_and_invented_most():
    truth = np.array([[1.0, 1], [1, 0], [0, 1]])
    said = np.array([[0.0, 1], [0, 1], [1, 1]])
    found = agreements(truth, said, ["Edema", "Fracture"], np.ones((1, 3)))
    assert spoken_of_findings("Aligned", found) == [
        "Missed most by Aligned: Edema (0 of 2 found).",
        "Said most without the reference saying it: Edema (1 ×) and Fracture (1 ×).",
    ]


def test_confusion_gives_counts_and_shares_of_each_line():
    table = {true: dict.fromkeys(Status, 0) for true in Status}
    table[Status.PRESENT] |= {Status.PRESENT: 3, Status.UNMENTIONED: 1}
    lines = confusion_lines(table)
    assert [line["sign"] for line in lines] == ["+", "?", "−", "·"]
    assert [(cell["n"], cell["share"]) for cell in lines[0]["cells"]] == [(3, 75), (0, 0), (0, 0), (1, 25)]
    assert all(cell["share"] is None for cell in lines[1]["cells"])


def test_rows_that_lack_a_text_are_left_out_and_without_any_there_is_no_panel(tmp_path: Path):
    run = write_run(tmp_path / "runs", n=10)
    predictions = run.path / "eval" / "test" / "predictions.jsonl"
    rows = list(read_jsonl(predictions))
    write_jsonl(predictions, [row for row in rows if (row["row"], row["study_id"]) != ("aligned", "case-003")])
    read = read_labels(read_inputs(run))
    assert list(read.rows) == ["sft", "retrieval", "constant"]
    panel = finding_panel(read, 7, 100)
    assert panel is not None
    assert panel["confusion"]["label"] == "SFT"
    for name in ("predictions", "baselines"):
        (run.path / "eval" / "test" / f"{name}.jsonl").unlink()
    assert finding_panel(read_labels(read_inputs(run)), 7, 100) is None
    assert collapse_panel(read_inputs(run)) is None


# ---- length and templates --------------------------------------------------------------------------------------------


def test_variety_counts_texts_up_to_case_and_punctuation():
    texts = ["No acute disease.", "no acute disease", "Clear lungs", "Left effusion, small"]
    found = variety(texts, "No acute disease", [True, False, False, True])
    assert (found.n, found.distinct, found.commonest_n, found.commonest) == (4, 3, 2, "No acute disease.")
    assert found.words == pytest.approx((2.15, 3, 3))  # 2, 3, 3, 3: the fifth percentile lies 0.15 of the way up
    assert found.distinct_2 == 5 / 7  # two pairs twice each, and three once
    assert (found.constant, found.constant_abnormal) == (0.5, 0.5)
    assert variety(["Clear."]).distinct_2 is None
    assert variety(["Clear."]).constant is None
    with pytest.raises(ValueError, match="no texts"):
        variety([])


def test_a_template_is_called_one_by_how_often_and_by_how_few():
    def of(*times: int) -> Any:
        return variety([f"text {k}" for k, n in enumerate(times) for _ in range(n)])

    reference = of(20, *[1] * 80)  # 81 different texts, the commonest for 20 %
    assert judgement(of(60, *[1] * 40), reference) == "collapsed"  # 60 % is above half and twice 20 %
    assert judgement(of(40, *[1] * 60), reference) == "leans"  # 40 % > 20 % + 10 points
    assert judgement(of(25, *[1] * 75), reference) == "varied"
    assert judgement(of(*[20] * 5), reference) == "collapsed"  # 5 texts are fewer than a tenth of 81
    assert judgement(of(*[5] * 20), reference) == "leans"  # 20 texts are fewer than half of 81
    assert judgement(of(*[100]), of(*[100])) == "varied"  # the radiologists say the same always


def test_a_long_quote_is_cut_at_a_word():
    assert shortened("one  two\nthree") == "one two three"
    assert shortened("one two three", 9) == "one two …"


# ---- evidence in the cases -------------------------------------------------------------------------------------------


def test_words_carry_what_they_say_and_the_sign_stands_behind_them():
    found = marked("Small left effusion. No pneumothorax. Possible pneumonia.")
    said = {s.text: (s.kind, s.signs) for s in found if s.kind}
    assert said["pneumothorax"] == ("e absent opens closes", (("absent", "−"),))
    assert said["pneumonia"] == ("e uncertain opens closes", (("uncertain", "?"),))
    (effusion,) = [text for text in said if text.endswith("effusion")]
    assert said[effusion] == ("e present opens closes", (("present", "+"),))
    assert all("rule:" in s.title for s in found if s.kind)


def test_evidence_and_diff_stand_on_the_same_words():
    parts = marked_diff("No focal pneumonia or edema.", "No  pneumonia.\nLeft effusion.")
    assert [(part.kind, "".join(s.text for s in part.stretches)) for part in parts] == [
        ("same", "No"),
        ("missing", "focal"),
        ("same", "pneumonia."),
        ("missing", "or edema."),
        ("added", "Left effusion."),
    ]
    assert [s.kind for s in parts[2].stretches] == ["e absent opens closes", ""]
    assert all(not s.kind for part in parts if part.kind == "missing" for s in part.stretches)


def test_evidence_cut_by_the_diff_is_open_at_the_cut():
    parts = marked_diff("Opacity in the right base.", "Opacity in the left base.")
    kinds = [(part.kind, s.text, s.kind) for part in parts for s in part.stretches if s.kind]
    assert kinds == [
        ("same", "Opacity in the", "e present opens"),
        ("added", "left", "e present"),
        ("same", "base", "e present closes"),
    ]


VOCABULARY = ("No", "small", "left", "right", "effusion", "pneumonia.", "edema,", "or", "possible", "clear", "lungs")
WORDS = st.lists(st.sampled_from(VOCABULARY))


@given(WORDS, WORDS, st.sampled_from((" ", "  ", "\n")))
def test_no_word_is_lost_or_moved_by_the_marks(reference: list[str], candidate: list[str], blank: str):
    text = blank.join(candidate)
    assert "".join(s.text for s in marked(text)) == text
    ours = [s.text for part in marked_diff(" ".join(reference), text) if part.kind != "missing" for s in part.stretches]
    assert "".join("".join(ours).split()) == "".join(candidate)


def test_a_long_missing_run_is_shortened():
    assert elided("a b c d e f g h i") == "a b c d e f g h i"
    assert elided("a b c d e f g h i j") == "a b c d … h i j"


def test_the_remarks_say_what_is_missed_added_and_less_certain():
    (reference,) = label_texts(["Cardiomegaly. Left effusion. No pneumothorax. Edema."])
    (candidate,) = label_texts(["Possible edema. Pneumonia. No effusion. No fracture."])
    assert label_remarks(reference, candidate) == [
        Remark("missed", "misses Cardiomegaly (reference: present)"),
        Remark("missed", "denies Pleural Effusion (reference: present)"),
        Remark("added", "says Pneumonia (reference: not mentioned)"),
        Remark("shifted", "Edema: uncertain (reference: present)"),
        Remark("quiet", "also denies Fracture (reference: not mentioned)"),
        Remark("quiet", "silent on Pneumothorax (reference: absent)"),
    ]
    assert label_remarks(reference, reference) == []


def test_no_finding_is_named_only_where_nothing_else_tells_it():
    granuloma, normal, effusion = label_texts(["Calcified granuloma.", "Clear.", "Left effusion."])
    assert label_remarks(granuloma, normal) == [Remark("missed", "reads as free of findings (reference: does not)")]
    assert label_remarks(normal, granuloma) == [Remark("added", "does not read as free of findings (reference: does)")]
    assert [r.tone for r in label_remarks(effusion, normal)] == ["missed"]


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_holds_every_section_and_the_numbers_of_the_summary(finished: Run):
    text = shown_text(page(finished))
    for heading in ("Results", "Paired differences", "Training curves", "Held-out cases", "Data", "Limits"):
        assert heading in text
    summary = read_json(finished.path / "eval" / "test" / "summary.json")
    for rows in (summary["rows"], summary["strata"]["normal"], summary["strata"]["abnormal"]):
        for row in rows.values():
            entry = row["rougeL"]
            assert f"{100 * entry['mean']:.1f} [{100 * entry['low']:.1f}, {100 * entry['high']:.1f}]" in text
    assert "Research use only, not for clinical use." in text
    assert "rouge-score 0.1.2|rougeL|stemmed" in text
    assert "5 min 02 s" in text
    assert "4.07 GiB" in text
    assert f"radiograd report {finished.path}" in text
    assert f"radiograd run {finished.path}/config.json name=small-chest-again" in text
    assert "nearest findings in the whole train split, of 2,345 studies." in text
    assert "Reward = (1 × ROUGE-L + 0.3 × length) / 1.3, of one text at a time." in text
    assert "near-duplicates are treated as independent" in text
    assert "max_prompt_tokens: 384" in text
    # ten drawn; best, worst, gains and losses, three each; one of the lungs, one of the heart
    assert text.count("Radiologist’s impression") == 10 + 4 * 3 + 2


def test_the_page_holds_the_clinical_panels(finished: Run):
    text = shown_text(page(finished))
    for said in (
        "All cases Clinical content",
        "All cases Reward and wording",
        "What is said of each finding",
        "Without “No Finding”, micro",
        "Confusion: Aligned against the radiologists",
        "Length and templates",
        "The aligned model",
        "Words per impression: median, 5 % to 95 %",
        "Worst cases of the aligned model, by Fidelity",
        "Best cases of the aligned model, by Fidelity",
        "Biggest gains in ROUGE-L, aligned − SFT",
        "✓ the same 14 labels as the reference",
    ):
        assert said in text
    assert 'class="e present opens closes"' in page(finished)


def test_a_run_evaluated_without_the_clinical_metrics_still_gives_a_page(tmp_path: Path):
    run = write_run(tmp_path / "runs", n=10)
    folder = run.path / "eval" / "test"
    dropped = ("fidelity", "label_f1_14")
    summary = read_json(folder / "summary.json")
    for rows in (summary["rows"], *summary["strata"].values()):
        for row in rows.values():
            for metric in dropped:
                del row[metric]
    summary["paired"] = [entry for entry in summary["paired"] if entry["metric"] not in dropped]
    write_json(folder / "summary.json", summary)
    lines = list(read_jsonl(folder / "scores.jsonl"))
    kept = [line | {"scores": {k: v for k, v in line["scores"].items() if k not in dropped}} for line in lines]
    write_jsonl(folder / "scores.jsonl", kept)
    report_run(run)
    text = shown_text(page(run))
    assert "Fidelity" not in text
    assert "Clinical content" not in text
    assert "What is said of each finding" in text
    assert "Worst cases of the aligned model, by ROUGE-L" in text


def test_evidence_looks_as_it_does_on_the_page_of_labels(tmp_path: Path):
    styles = (Path(radiograd.__file__).parent / "templates" / "evidence.css").read_text(encoding="utf-8")
    with Page.open(tmp_path / "labels.html", ["Edema"], "labels"):
        pass
    labels = (tmp_path / "labels.html").read_text(encoding="utf-8")
    rules = [line.strip() for line in styles.splitlines() if line.lstrip().startswith((".", "--"))]
    assert len(rules) > 12
    assert [rule for rule in rules if rule not in labels] == []


def test_characters_that_turn_the_reading_order_are_made_visible(tmp_path: Path):
    run = write_run(tmp_path / "runs", n=10)
    predictions = run.path / "eval" / "test" / "predictions.jsonl"
    write_jsonl(predictions, [row | {"text": "Clear\u202elungs\x07."} for row in read_jsonl(predictions)])
    report_run(run)
    assert "\u202e" not in page(run)
    assert "\x07" not in page(run)


def test_the_facts_of_the_stage_and_the_bytes_are_the_same_each_time(finished: Run):
    first = page(finished)
    facts = report_run(find_run(finished.path))
    assert facts["page"] == "report.html"
    assert (facts["cases"], facts["charts"]) == (10, 19)
    assert page(finished) == first


def test_every_logged_reward_term_has_a_chart(finished: Run):
    text = shown_text(page(finished))
    for title in ("Reward, weighted mean of its terms", "Reward term: ROUGE-L", "Reward term: length"):
        assert title in text
    for title in (
        "KL to the SFT model",
        "Loss",
        "Entropy",
        "Clipped tokens",
        "Dead groups",
        "Cut at the token limit",
        "Learning rate",
        "Length",
    ):
        assert title in text


def test_report_text_is_escaped_everywhere(tmp_path: Path):
    run = write_run(tmp_path / "runs", n=10)
    evil = '<script>alert("x")</script><img src=http://example.org/x onerror=alert(1)>'
    rows = list(read_jsonl(run.path / "data" / "test.jsonl"))
    for row in rows:
        row["sections"] |= {"findings": evil, "impression": f"Clear. {evil}"}
        row["codes"] = [evil]
    write_jsonl(run.path / "data" / "test.jsonl", rows)
    predictions = run.path / "eval" / "test" / "predictions.jsonl"
    write_jsonl(predictions, [row | {"text": f"No {evil} seen"} for row in read_jsonl(predictions)])
    write_json(run.path / "data" / "summary.json", {evil: {"a": evil}})
    run.log_metrics("align", 81, {f"reward/{evil}": 0.5})
    report_run(run)
    markup = page(run)
    assert "<script" not in markup
    assert "<img" not in markup
    assert "&lt;script&gt;" in markup


class _References(HTMLParser):
    """Collects what a page could load, and its policy."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        names = ("src", "href", "srcset", "action", "poster", "data", "xlink:href", "background")
        self.loads += [values[n] or "" for n in names if n in values]
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in values)


def test_the_page_refers_to_nothing_outside_itself(finished: Run):
    found = _References()
    found.feed(page(finished))
    assert found.policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert all(link.startswith(("#", "data:")) for link in found.loads)
    assert "url(" not in page(finished)
    assert "@import" not in page(finished)
    anchors = {link[1:] for link in found.loads if link.startswith("#")}
    assert all(f'id="{anchor}"' in page(finished) for anchor in anchors)


def test_a_run_without_alignment_says_so_and_still_shows_the_rest(tmp_path: Path):
    run = write_run(tmp_path / "runs", align=False)
    report_run(run)
    text = shown_text(page(run))
    assert "No alignment has been logged in this run yet." in text
    assert "incomplete; not done yet: align" in text
    assert "no alignment has been evaluated yet" in text
    assert "Aligned − SFT" not in text
    assert "SFT − Retrieval" in text


def test_a_run_that_has_only_begun_gives_a_page_of_sentences(tmp_path: Path):
    run = write_run(tmp_path / "runs")
    for folder in ("eval", "data", "done", "attempts"):
        shutil.rmtree(run.path / folder)
    for name in ("metrics.jsonl", "STATUS.json", "manifest.json"):
        (run.path / name).unlink()
    assert report_run(find_run(run.path))["charts"] == 0
    text = shown_text(page(run))
    for said in (
        "No result yet",
        "has not been evaluated yet",
        "No supervised fine-tuning has been logged",
        "The test studies have not been prepared yet.",
        "The data have not been prepared yet.",
    ):
        assert said in text


def test_a_case_without_a_prediction_says_so(tmp_path: Path):
    run = write_run(tmp_path / "runs", n=10)
    predictions = run.path / "eval" / "test" / "predictions.jsonl"
    write_jsonl(predictions, [row for row in read_jsonl(predictions) if row["row"] != "aligned"])
    report_run(run)
    assert "No text stored." in shown_text(page(run))


def test_a_damaged_file_is_named_and_no_page_is_written(tmp_path: Path):
    run = write_run(tmp_path / "runs", n=10)
    (run.path / "eval" / "test" / "summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"summary\.json is damaged"):
        report_run(run)
    assert not (run.path / "report.html").exists()


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine")


def run_browser(browser: str, home: Path, *words: str) -> str:
    """Headless Chromium with its own profile; standard output only, since it warns on standard error."""
    fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={home}")
    done = subprocess.run([browser, *fixed, *words], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_browser_renders_the_page(browser: str, finished: Run, tmp_path: Path):
    url = (finished.path / "report.html").resolve().as_uri()
    shot = tmp_path / "page.png"
    dom = run_browser(
        browser, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1280,4000", "--dump-dom", url
    )
    text = shown_text(dom)
    assert "Alignment raised the reward on held-out studies" in text
    assert "Held-out cases, side by side" in text
    assert dom.count('class="chart') == 19 + 7  # curves, four plots of means, two of differences, lengths
    assert shot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert shot.stat().st_size > 100_000  # an empty page of this size has about 20 kB


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_stands_out_of_the_page_at_any_width(browser: str, finished: Run, tmp_path: Path, width: int):
    """Inside a frame of that width, no element but those that scroll in their own box is wider than the page."""
    frame = f'<iframe id="f" style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page(finished))}">'
    script = """
    addEventListener("load", () => {
      const inside = document.getElementById("f").contentDocument.documentElement;
      document.getElementById("size").textContent = JSON.stringify([inside.clientWidth, inside.scrollWidth]);
    });
    """
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(f'<!DOCTYPE html><p id="size"></p><script>{script}</script>{frame}</iframe>', encoding="utf-8")
    dom = run_browser(browser, tmp_path / "profile", "--window-size=1400,1000", "--dump-dom", wrapper.as_uri())
    match = re.search(r'<p id="size">(.*?)</p>', dom)
    assert match is not None
    assert json.loads(match.group(1)) == [width, width]


def test_where_the_time_went_adds_up_to_the_steps():
    rows = [
        {
            "stage": "align",
            "seconds/step": 10.0,
            "seconds/sampling": 4.0,
            "seconds/reward": 0.5,
            "seconds/forward": 2.0,
        },
        {"stage": "align", "seconds/step": 4.0, "seconds/forward": 2.0},
        {"stage": "sft", "seconds/step": 99.0},
    ]
    found = profile(rows)
    assert found is not None
    shares = {line["name"]: line["share"] for line in found["lines"]}
    # of 14 s: 4 sampling, 0.5 reward, nothing logged of the reference, 4 forward, the other 5.5
    assert shares == {
        "sampling": "28.6",
        "reward": "3.6",
        "reference": "0.0",
        "update, forward": "28.6",
        "update, backward": "39.3",
    }
    assert profile([{"stage": "align", "step": 1}]) is None


def test_the_page_shows_where_the_time_went(tmp_path: Path):
    run = write_run(tmp_path / "runs", n=10)
    path = run.path / "metrics.jsonl"
    write_jsonl(path, [row | {"seconds/step": 3.0} for row in read_jsonl(path)])
    report_run(run)
    assert "Where the time of the alignment went" in page(run)
