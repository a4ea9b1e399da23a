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

import pytest

from radiograd.errors import RunError
from radiograd.report import report_run
from radiograd.report.cases import biggest_moves, choose_cases, kind
from radiograd.report.conclusion import verdict
from radiograd.report.curves import points
from radiograd.report.differences import difference_cell, find_difference
from radiograd.report.provenance import count_text, counts_blocks, stage_view
from radiograd.report.results import result_tables, reward_text, row_order
from radiograd.report.wording import duration, moment, signed
from radiograd.runs import Run, find_run, read_json, read_jsonl, write_json, write_jsonl
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
    assert text.count("Radiologist’s impression") == 10 + 6  # ten drawn, three gains, three losses


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
    assert dom.count('class="chart') == 19 + 3  # curves, two plots of means, one of differences
    assert shot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert shot.stat().st_size > 100_000  # an empty page of this size has about 20 kB


@pytest.mark.parametrize("width", [400, 1280])
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
