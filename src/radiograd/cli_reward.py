"""``radiograd reward``: why a text has the reward it has, and whether the reward can be hacked. Added by ``cli``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from radiograd.errors import DataError, RadiogradError, RunError, UsageError

if TYPE_CHECKING:
    from radiograd.config import RunConfig
    from radiograd.rewards import CombinedReward, Phase
    from radiograd.runs import Run
    from radiograd.types import Case, Study

REPORTS = 200
"""References that are probed, where no limit is given."""
CONFIG_OR_RUN = click.argument("config_or_run")
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE ...]")
PHASE = click.option(
    "--phase",
    type=click.Choice(["first", "last"]),
    default="first",
    show_default=True,
    help="Which reward of a run that changes it (align.reward_schedule).",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")


def add_commands(cli: click.Group) -> None:
    """Add the reward group to the command line."""
    cli.add_command(reward)


@click.group()
def reward() -> None:
    """Rewards: what one is made of, case by case, and whether it can be had without a better report."""


@reward.command(
    "explain",
    epilog="""\b
Examples: radiograd reward explain runs/radflow --study 1042
          radiograd reward explain quickstart align.reward=hierarchical --study 10 --candidate "No acute disease." """,
)
@CONFIG_OR_RUN
@OVERRIDES
@click.option("--study", "study_id", required=True, help="Id of the study.")
@click.option("--candidate", help='The text to be explained; "-" is standard input. Of a run: else its prediction.')
@click.option("--row", help="Whose prediction: aligned (where there is one), sft, or any other row of the file.")
@click.option("--set", "eval_set", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option("--top", type=click.IntRange(min=0), default=10, show_default=True, help="Changes that are shown.")
@PHASE
@JSON
def reward_explain(
    config_or_run: str,
    overrides: Sequence[str],
    study_id: str,
    candidate: str | None,
    row: str | None,
    eval_set: str,
    top: int,
    phase: Phase,
    as_json: bool,
) -> None:
    """Each term of one text's reward with what it rests on, and the sentences that would change it, best first.

    Shows report text. Every change that is tried asks the judge, where the reward has one.
    """
    from radiograd.rewards.explain import explain, render
    from radiograd.types import Case

    source = _source(config_or_run, overrides)
    if candidate is None:
        candidate, study = _predicted(source, study_id, row, eval_set)
    else:
        if row is not None:
            raise UsageError("--row names a prediction of a run; leave it out with --candidate")
        study = _study(source, study_id)
        candidate = sys.stdin.read().strip() if candidate == "-" else candidate
    found = explain(_reward(source, phase), Case(study, candidate, source.config.section))
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else render(found, top))


@reward.command(
    "check",
    epilog="""\b
Examples: radiograd reward check quickstart align.reward=hierarchical
          radiograd reward check my.yaml --reports reports.jsonl --limit 500
          radiograd reward check runs/radflow""",
)
@CONFIG_OR_RUN
@OVERRIDES
@click.option(
    "--reports",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help='Lines {"id", "text"} or {"id", "findings", "impression"} instead of the data of the configuration.',
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=REPORTS, show_default=True, help="References probed at most."
)
@click.option("--seed", default=0, show_default=True, help="Which sentence is edited; draws the intervals.")
@PHASE
@JSON
def reward_check(
    config_or_run: str,
    overrides: Sequence[str],
    reports: Path | None,
    limit: int,
    seed: int,
    phase: Phase,
    as_json: bool,
) -> None:
    """Score hacks of reference reports: each must score below the reference. Exit code 1 when one does not.

    Of a run that has predictions, its own impressions are hacked too; what would gain there is shown as a warning.
    """
    from radiograd.rewards import check

    source = _source(config_or_run, overrides)
    section = source.config.section
    studies = check.read_reports(reports, lambda line: click.echo(line, err=True)) if reports else _studies(source)
    cases = check.reference_cases(studies, section, limit)
    if not cases:
        raise DataError(f"no study has a reference {section} of more than {check.SHORTEST} words to be probed with")
    asked = _reward(source, phase, studies)
    of_policy = None if reports else _policy_cases(source, limit)
    found = check.probe_hacks(asked, cases, seed=seed)
    policy = check.probe_hacks(asked, of_policy[1], seed=seed) if of_policy else None
    if as_json:
        values: dict[str, Any] = {
            "section": section,
            "signature": asked.signature,
            "references": len(cases),
            "probes": check.as_json(found),
            "policy": {"row": of_policy[0], "probes": check.as_json(policy)} if of_policy and policy else None,
            "failed": check.failed(found),
        }
        click.echo(json.dumps(values, indent=2))
    else:
        click.echo(f"{asked.signature}\n\n{len(cases)} references ({section}), x 100 [95% interval]")
        click.echo(check.table(found))
        if of_policy and policy:
            click.echo(
                f"the same hacks of what {of_policy[0]} wrote for {len(of_policy[1])} held-out studies: warnings\n"
            )
            click.echo(check.table(policy, of_policy=True))
    failed = check.failed(found)
    if failed:
        raise RadiogradError(
            f"{len(failed)} of {len(found)} hacks do not score below the reference: {', '.join(failed)}. "
            "A policy would learn them; change align.reward (docs/radflow.md, The reward)"
        )


# ---- what they share -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """A configuration, and the run that was made from it where a folder was named."""

    config: RunConfig
    run: Run | None


def _source(config_or_run: str, overrides: Sequence[str]) -> _Source:
    from radiograd.config import load_config
    from radiograd.runs import find_run

    if Path(config_or_run).is_dir():
        if overrides:
            raise UsageError("a run folder keeps its configuration; to try another reward, name a configuration")
        run = find_run(Path(config_or_run))
        return _Source(run.config, run)
    return _Source(load_config(config_or_run, overrides), None)


def _studies(source: _Source) -> list[Study]:
    """What the reward is for: the training studies of a run, else all usable ones that the configuration reads."""
    from radiograd.data import load
    from radiograd.data.prepare import is_usable
    from radiograd.evaluate import read_studies

    if source.run is None:
        return [study for study in load(source.config.data).studies if is_usable(study)]
    return read_studies(source.run.path / "data" / "train.jsonl")


def _reward(source: _Source, phase: Phase, studies: Sequence[Study] | None = None) -> CombinedReward:
    """The reward; its terms that count documents see the references of ``studies`` (None: of :func:`_studies`)."""
    from radiograd.rewards import reward_of

    made = reward_of(source.config, phase)
    if any(hasattr(term.metric, "prepare") for term in made.terms):
        known = _studies(source) if studies is None else studies
        made.prepare([text for study in known if (text := study.sections.text(source.config.section))])
    return made


def _study(source: _Source, study_id: str) -> Study:
    from radiograd.evaluate import read_studies

    if source.run is None:
        studies = _studies(source)
    else:
        files = [source.run.path / "data" / f"{name}.jsonl" for name in ("test", "val", "train", "pool")]
        studies = [study for file in files if file.exists() for study in read_studies(file)]
    found = next((study for study in studies if study.study_id == study_id), None)
    if found is None:
        raise DataError(
            f"no study has the id {study_id!r} among {len(studies)}; radiograd data describe shows the source"
        )
    return found


def _predictions(source: _Source, eval_set: str) -> tuple[list[Study], dict[str, dict[str, str]]] | None:
    """Studies of a held-out set and row -> study id -> text; None where nothing was generated."""
    from radiograd.evaluate import read_predictions, read_studies

    if source.run is None:
        return None
    file = source.run.path / "eval" / eval_set / "predictions.jsonl"
    if not file.exists():
        return None
    studies = read_studies(source.run.path / "data" / f"{eval_set}.jsonl")
    return studies, read_predictions(file, studies, f"radiograd generate {source.run.path} --set {eval_set}")


def _chosen(rows: dict[str, dict[str, str]], row: str | None) -> str:
    from radiograd.errors import did_you_mean
    from radiograd.types import POLICIES

    if row is None:
        row = next((name for name in reversed(POLICIES) if name in rows), next(iter(rows)))
    if row not in rows:
        raise UsageError(f"no row of the predictions is called {row!r}.{did_you_mean(row, rows)}")
    return row


def _predicted(source: _Source, study_id: str, row: str | None, eval_set: str) -> tuple[str, Study]:
    if source.run is None:
        raise UsageError('a configuration has written nothing yet; give --candidate "..."')
    there = _predictions(source, eval_set)
    if there is None:
        raise RunError(
            f"{source.run.path} holds no predictions for {eval_set}; run: radiograd generate {source.run.path} "
            f"--set {eval_set}, or give --candidate"
        )
    studies, rows = there
    study = next((study for study in studies if study.study_id == study_id), None)
    if study is None:
        raise DataError(
            f"study {study_id!r} is not in the {eval_set} set of {source.run.path}; give --candidate, or --set"
        )
    return rows[_chosen(rows, row)][study_id], study


def _policy_cases(source: _Source, limit: int) -> tuple[str, list[Case]] | None:
    """The newest policy's texts for held-out studies, abnormal ones where the source says which are."""
    from radiograd.rewards.check import reference_cases
    from radiograd.types import Case

    for eval_set in ("test", "val"):
        there = _predictions(source, eval_set)
        if there is not None:
            studies, rows = there
            row = _chosen(rows, None)
            section = source.config.section
            cases = reference_cases(studies, section, limit)
            return (row, [Case(c.study, rows[row][c.study.study_id], section) for c in cases]) if cases else None
    return None
