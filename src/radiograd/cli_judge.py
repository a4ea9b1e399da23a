"""``radiograd judge``: ask a judge, and find out how far it can be trusted. Added to the command line by ``cli``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from radiograd.errors import DataError, RadiogradError, UsageError

if TYPE_CHECKING:
    from radiograd.judges.agreement import Agreement
    from radiograd.judges.protocol import Duel, Judge, Preference

JUDGE = click.option("--judge", "name", default="rules", show_default=True, help="rules, chat, local or module:attr.")
OPTIONS = click.option(
    "--options",
    "options_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="YAML file of the judge's options; KEY=VALUE goes over it.",
)
REPORTS = 200
"""OpenI reports that are asked about, where no limit is given."""
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE ...]")
CREDENTIALED = click.option(
    "--credentialed", is_flag=True, help="The reports came under a data use agreement (MIMIC-CXR): keep them in house."
)

MAX_UNSCORED = click.option(
    "--max-unscored",
    type=click.FloatRange(0, 1),
    help="Stop with an error when a larger share is unscored (default 0.2).",
)
ESTIMATE = click.option("--estimate", "only_estimate", is_flag=True, help="Say what it would cost, and stop.")


def add_commands(cli: click.Group) -> None:
    """Add the judge group to the command line."""
    cli.add_command(judge)


@click.group()
def judge() -> None:
    """Judges: which impression is better, whether it follows from its findings, whether anything is abnormal."""


@judge.command(
    "prefer",
    epilog="""\b
Examples: radiograd judge prefer < duels.jsonl > verdicts.jsonl
          radiograd judge prefer --judge chat base_url=http://127.0.0.1:8000/v1 model=my-model < duels.jsonl""",
)
@OVERRIDES
@JUDGE
@OPTIONS
@CREDENTIALED
@click.option("--in", "source", type=click.File("rb"), default="-", help="File of lines; standard input without it.")
@MAX_UNSCORED
@ESTIMATE
def judge_prefer(
    overrides: Sequence[str],
    name: str,
    options_file: Path | None,
    credentialed: bool,
    source: Any,
    max_unscored: float | None,
    only_estimate: bool,
) -> None:
    """Say which of two impressions is better.

    Lines {"id", "findings", "a", "b"[, "reference"]} in; lines {"id", "winner", "why", "by_order", "contradicted",
    "scores", "rationale", "prompt_hash", "usage"} out, in order; winner is "a", "b", "tie" or null.
    """
    from radiograd.judges.counting import MOST_UNSCORED, check_unscored, unscored_reasons
    from radiograd.lines import write_line

    chosen = _load(name, options_file, overrides, credentialed)
    bad = 0

    def complain(message: str) -> None:
        nonlocal bad
        bad += 1
        click.echo(message, err=True)

    if only_estimate:
        click.echo(_estimate(chosen, {"duels": [duel for block in _blocks(source, complain) for _, duel in block]}))
        sys.exit(1 if bad else 0)
    answers: list[Preference] = []
    for block in _blocks(source, complain):
        found = chosen.prefer([duel for _, duel in block])
        for (key, _), preference in zip(block, found, strict=True):
            sys.stdout.buffer.write(write_line({"id": key, **_shown(preference)}))
        sys.stdout.buffer.flush()
        answers += found
        check_unscored(answers, MOST_UNSCORED if max_unscored is None else max_unscored)
    if not answers:
        raise RadiogradError('no duel could be read; give lines {"id": 1, "findings": "...", "a": "...", "b": "..."}')
    for why, count in unscored_reasons(answers):
        click.echo(f"unscored, {count} x: {why}", err=True)
    if bad:
        sys.exit(1)


@judge.command(
    "eval",
    epilog="""\b
Examples: radiograd judge eval --judge rules --limit 500
          radiograd judge eval --judge chat --options judge.yaml --limit 100 --estimate
          radiograd judge eval --judge chat --options judge.yaml --pairs preferences.jsonl --again --json""",
)
@OVERRIDES
@JUDGE
@OPTIONS
@CREDENTIALED
@click.option(
    "--pairs",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help='Expert preferences: lines {"id", "findings", "a", "b", "winner"[, "reference"]}. Without it: edited reports.',
)
@click.option("--task", type=click.Choice(["prefer", "consistent", "critical"]), default="prefer", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Reports or pairs at most (default 200 reports, all pairs).")
@click.option("--show-reference", is_flag=True, help="Show the judge the unedited impression as the reference.")
@click.option("--again", is_flag=True, help="Ask everything a second time, past the cache, for self-consistency.")
@click.option("--seed", default=0, show_default=True, help="Which sentence is edited, which side is called a.")
@MAX_UNSCORED
@ESTIMATE
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def judge_eval(
    overrides: Sequence[str],
    name: str,
    options_file: Path | None,
    credentialed: bool,
    pairs: Path | None,
    task: str,
    limit: int | None,
    show_reference: bool,
    again: bool,
    seed: int,
    max_unscored: float | None,
    only_estimate: bool,
    as_json: bool,
) -> None:
    """How often a judge is right where the answer is known, by kind, and whether it looks at the text or the place.

    Without --pairs: abnormal OpenI impressions against harmful edits of themselves (radiograd fetch openi).
    """
    from radiograd.judges import agreement as program
    from radiograd.judges.counting import MOST_UNSCORED

    if pairs is not None and (task != "prefer" or show_reference):
        raise UsageError(
            "--pairs holds preferences with references of their own; leave out --task and --show-reference"
        )
    if task != "prefer" and again:
        raise UsageError("--again is for --task prefer")
    share = MOST_UNSCORED if max_unscored is None else max_unscored
    chosen = _load(name, options_file, overrides, credentialed)
    if task == "prefer":
        if pairs is not None:
            duels = program.expert_duels(pairs, limit, lambda message: click.echo(message, err=True))
        else:
            reports = program.openi_reports(limit or REPORTS)
            duels = program.probe_duels(reports, show_reference=show_reference, seed=seed)
        if only_estimate:
            click.echo(_estimate(chosen, {"duels": [one.duel for one in duels]}, twice=again))
            return
        found = program.agreement(chosen, duels, ask_again=again, max_unscored=share)
    else:
        reports = program.openi_reports(limit or REPORTS, abnormal_only=task == "consistent")
        known = program.probe_consistency(reports, seed) if task == "consistent" else program.coded_criticality(reports)
        if only_estimate:
            click.echo(_estimate(chosen, {task: [one.question for one in known]}))
            return
        found = program.yes_no_agreement(chosen, known, task, max_unscored=share)
    click.echo(json.dumps(program.as_json(found), indent=2) if as_json else _table(found))


# ---- what they share -------------------------------------------------------------------------------------------------


def _load(name: str, options_file: Path | None, overrides: Sequence[str], credentialed: bool) -> Judge:
    import yaml

    from radiograd.config import apply_override
    from radiograd.errors import ConfigError
    from radiograd.judges.builtin import load_judge

    values: Any = {}
    if options_file is not None:
        try:
            values = yaml.safe_load(options_file.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{options_file} is not YAML; give one 'option: value' a line") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{options_file} holds no options; give one 'option: value' a line")
    for override in overrides:
        apply_override(values, override)
    return load_judge(name, values, credentialed=credentialed)


def _blocks(source: Any, complain: Callable[[str], None]) -> Iterator[list[tuple[Any, Duel]]]:
    from radiograd.judges.agreement import BOM, DUEL, duel_from
    from radiograd.judges.counting import BLOCK
    from radiograd.lines import read_line

    block: list[tuple[Any, Duel]] = []
    for number, line in enumerate(source, start=1):
        if not line.strip():
            continue
        try:
            row = read_line(line.removeprefix(BOM) if number == 1 else line, DUEL)
            block.append((row["id"], duel_from(row)))
        except DataError as error:
            complain(f"line {number}: {error}")
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _shown(preference: Preference) -> dict[str, Any]:
    return {
        "winner": preference.winner,
        "why": preference.why,
        "by_order": list(preference.by_order),
        "contradicted": preference.contradicted,
        "scores": {side: dict(scores) for side, scores in preference.scores.items()},
        "rationale": preference.rationale,
        "prompt_hash": preference.prompt_hash,
        "usage": asdict(preference.usage),
    }


def _estimate(chosen: Judge, questions: Mapping[str, Sequence[Any]], *, twice: bool = False) -> str:
    if not hasattr(chosen, "estimate"):
        return json.dumps({"requests": 0, "note": "this judge sends nothing anywhere"}, indent=2)
    found = asdict(chosen.estimate(**questions))
    note = {"note": "--again asks everything once more: about twice this"} if twice else {}
    return json.dumps({**found, **note}, indent=2)


def _table(found: Agreement) -> str:
    from radiograd import tables

    grid = [["kind", "agreement", "n", "ties", "unscored"]]
    for row in found.rows:
        cell = tables.value_cell({"mean": row.agreement, "low": row.low, "high": row.high})
        grid.append([row.kind, cell, str(row.n), str(row.ties), str(row.unscored)])
    lines = [f"x 100 [95% interval]  {found.signature}", "", tables.text(grid).rstrip("\n")]
    if found.contradicted is not None:
        lines.append(f"\norders that named different sides: {100 * found.contradicted:.1f} % of pairs")
    if found.first_place is not None:
        lines.append(f"answers that named the one shown first: {100 * found.first_place:.1f} % (50 is no bias)")
    if found.deterministic:
        lines.append("same answer when asked again: always, by construction")
    elif found.same_again is not None:
        lines.append(f"same answer when asked again: {100 * found.same_again:.1f} %")
    lines += [f"unscored, {count} x: {why}" for why, count in found.reasons]
    usage = found.usage
    if usage.asked:
        tokens = f"{usage.prompt_tokens} prompt and {usage.completion_tokens} completion tokens"
        lines.append(f"asked {usage.asked} times: {tokens}")
    return "\n".join(lines)
