"""What each task shows and asks for; nothing of what is to be written may be shown."""

from __future__ import annotations

from typing import get_args

import pytest

from radiograd.config import ModelConfig, RunConfig, parse_config
from radiograd.tasks import TASKS
from radiograd.types import Sections, Study

STUDY = Study(
    "s1",
    "p1",
    "synthetic",
    Sections(findings=" Small left effusion. ", impression="Effusion.", comparison="None. "),
    indication=" Cough.",
)


def test_there_is_a_task_for_every_name_that_a_configuration_takes() -> None:
    assert set(TASKS) == set(get_args(RunConfig.model_fields["task"].annotation))
    for name, task in TASKS.items():
        assert parse_config({"task": name}, "test").section == task.section
        assert parse_config({"task": name}, "test").model.system_prompt == task.instruction
    assert ModelConfig().system_prompt == TASKS["findings_to_impression"].instruction


def test_an_impression_is_written_from_the_findings() -> None:
    task = TASKS["findings_to_impression"]
    assert task.given(STUDY) == (("Findings", "Small left effusion."),)
    assert task.target(STUDY) == "Effusion."


def test_a_report_is_written_from_indication_and_comparison() -> None:
    task = TASKS["report"]
    assert task.given(STUDY) == (("Indication", "Cough."), ("Comparison", "None."))
    assert task.target(STUDY) == "Findings: Small left effusion.\nImpression: Effusion."


def test_what_is_not_there_is_not_shown_and_a_study_with_nothing_says_so() -> None:
    task = TASKS["report"]
    bare = Study("s", "p", "synthetic", Sections(findings="Clear.", impression="Normal."), indication="  ")
    assert task.given(bare) == (("Indication", "not given"),)
    compared = Study("s", "p", "synthetic", Sections(findings="Clear.", impression="Normal.", comparison="None."))
    assert task.given(compared) == (("Comparison", "None."),)


@pytest.mark.parametrize(("findings", "impression"), [(None, "Normal."), ("Clear.", None)])
def test_without_either_section_there_is_no_report_to_write(findings: str | None, impression: str | None) -> None:
    study = Study("s", "p", "synthetic", Sections(findings=findings, impression=impression))
    assert TASKS["report"].target(study) == ""


@pytest.mark.parametrize("name", sorted(TASKS))
def test_no_task_shows_what_it_asks_for(name: str) -> None:
    task = TASKS[name]
    marked = Study(
        "s",
        "p",
        "synthetic",
        Sections(findings="asked findings", impression="asked impression", comparison="comparison"),
        prior="prior",
        indication="indication",
    )
    written = ("findings", "impression") if task.section == "report" else (task.section,)
    shown = " ".join(text for _, text in task.given(marked))
    assert not any(f"asked {section}" in shown for section in written)
