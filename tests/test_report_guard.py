"""The page's part on over-optimisation: what the guard saw, and the monitors of each rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radiograd.monitor import Look, Watch
from radiograd.report import report_run
from radiograd.report.curves import training
from radiograd.report.guard import guard_panel
from radiograd.report.inputs import read_inputs
from radiograd.runs import Run, append_jsonl, write_jsonl
from tests.report_fixture import write_run

GOLD = {"up": (0.50, 0.52, 0.55), "down": (0.50, 0.52, 0.30)}


def _looks(gold: tuple[float, ...], kl_stop: float | None = None, ratio: float = 1.05) -> list[dict[str, Any]]:
    """Rows as the guard writes them: four studies, a reward that rises."""
    watch, rows = Watch(3.0, kl_stop), []
    for number, mean in enumerate(gold):
        values = {f"s{k}": mean + (k - 1.5) / 50 * (1 + number / 10) for k in range(4)}
        look = Look(20 * number, values, 0.4 + number / 10, None if number == 0 else 0.5 + number / 10, 2.0 * number)
        watch, verdict = watch.see(look)
        rows.append(
            {
                **look.to_json(),
                **{"gold": mean, "gold_se": 0.01, "metrics": {"statements": mean, "tfidf_overlap": None}},
                **{"difference": verdict.difference, "difference_se": verdict.se, "best_step": verdict.best_step},
                **{"alarm": verdict.alarm, "stop": verdict.stop, "why": verdict.why},
                "monitors": {"positives_ratio": ratio},
                "strays": ["positives_ratio"] if ratio > 1.1 else [],
            }
        )
        if verdict.stop:
            break
    return rows


def _run(root: Path, rows: list[dict[str, Any]]) -> Run:
    run = write_run(root / "runs", n=10)
    if rows:
        write_jsonl(run.path / "guard.jsonl", rows)
    row = {"stage": "align", "attempt": 2, "time": 9.0, "loss": 0.0}
    for step in (81, 82):
        shares = {"template_share": 0.5, "template_share_reference": 0.25, "distinct_2": 0.6}
        ratios = {"positives_ratio": 1.2, "words_ratio": 0.9, "distinct_1": 0.3}
        append_jsonl(
            run.path / "metrics.jsonl",
            [{**row, "step": step, **{f"monitor/{name}": value for name, value in (shares | ratios).items()}}],
        )
    return run


def _panel(run: Run) -> dict[str, Any]:
    found = guard_panel(read_inputs(run))
    assert found is not None
    return found


def test_an_alarm_is_told_with_what_was_returned_to_and_stands_in_the_verdict(tmp_path: Path) -> None:
    run = _run(tmp_path, _looks(GOLD["down"]))
    panel = _panel(run)
    (said,) = panel["sentences"]
    assert said["tone"] == "collapsed"
    assert said["text"].startswith("Yes. Training was stopped at step 40: the gold panel lies 0.2200 (standard error ")
    assert said["text"].endswith("from 0.5000 to 0.6000. The aligned model is the policy of step 20, the best look.")
    assert [line["step"] for line in panel["lines"]] == [0, 20, 40]
    assert [line["best"] for line in panel["lines"]] == [True, True, False]
    assert [line["difference"] for line in panel["lines"]] == ["–", "+2.0", "−22.0"]
    assert panel["lines"][0]["metrics"] == ["50.0", "–"]
    report_run(run)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert 'id="gamed"' in page
    assert page.count("Training was stopped at step 40") == 2  # at the top too


def test_without_an_alarm_the_last_look_stands_against_the_best(tmp_path: Path) -> None:
    (said,) = _panel(_run(tmp_path / "up", _looks(GOLD["up"])))["sentences"]
    assert said == {
        "tone": "varied",
        "text": "No alarm in 3 looks at 4 validation studies up to the end. The panel was best at step 40; "
        "that is the policy this run ended with.",
    }
    said, stray = _panel(_run(tmp_path / "even", _looks((0.50, 0.52, 0.52), ratio=1.3)))["sentences"]
    assert "best at step 20; the last look lies 0.0 points off that (standard error " in said["text"]
    assert stray["text"] == "At the last look the policy stated 1.30 findings for each one the radiologists state."


def test_a_stop_by_kl_is_no_alarm(tmp_path: Path) -> None:
    (said,) = _panel(_run(tmp_path, _looks(GOLD["up"], kl_stop=1.0)))["sentences"]
    assert said["tone"] == "leans"
    assert said["text"] == (
        "Training was stopped at step 20: KL to the SFT policy is 2 nats a completion, above align.guard.kl_stop=1. "
        "The aligned model is the policy of step 0, the best look: the SFT model itself."
    )


def test_monitors_have_charts_here_with_lines_to_hold_them_against_and_none_among_the_curves(tmp_path: Path) -> None:
    run = _run(tmp_path, [])
    inputs = read_inputs(run)
    panel = _panel(run)
    assert "cannot say" in panel["sentences"][0]["text"]
    charts = {chart["title"]: chart["svg"] for chart in panel["charts"]}
    assert len(charts) == 4
    assert "+10 %" in charts["Findings stated, against the radiologists’"]
    assert "−10 %" in charts["Findings stated, against the radiologists’"]
    assert "theirs" in charts["Templates"]
    assert "first rollout" in charts["Different word pairs"]
    curves = training(inputs, "align")
    assert curves is not None
    assert not [chart["title"] for chart in curves["charts"] if "monitor" in chart["title"]]


@pytest.mark.parametrize("align", [True, False])
def test_a_run_from_before_there_was_a_guard_or_before_its_alignment_has_a_page(tmp_path: Path, align: bool) -> None:
    run = write_run(tmp_path / "runs", align=align, n=10)
    report_run(run)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert ('id="gamed"' in page) is align
