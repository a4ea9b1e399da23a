"""``radiograd experiment``: several runs that answer one question, and their table. Added to the command line by
``cli``."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

EXPERIMENT = click.argument("experiment", metavar="FILE|NAME")
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE ...]")
FOLDER = click.option(
    "--dir",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the runs and the table (default runs/NAME).",
)


def add_commands(cli: click.Group) -> None:
    """Add the experiment group to the command line."""
    cli.add_command(experiment)


@click.group()
def experiment() -> None:
    """Several runs that answer one question, and the table of them."""


@experiment.command(
    "run",
    epilog="""\b
Examples: radiograd experiment run rgro_table1
          radiograd experiment run rgro_table1 --only rgro-80 --only more-80 seeds=[7]
          radiograd experiment run mine.yaml --dir runs/mine sft.epochs=1""",
)
@EXPERIMENT
@OVERRIDES
@FOLDER
@click.option("--only", multiple=True, metavar="CELL", help="This cell only; may be given several times.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the runs and what they share, and stop.")
def experiment_run(
    experiment: str, overrides: Sequence[str], root: Path | None, only: Sequence[str], dry_run: bool
) -> None:
    """Do every run that is not finished, one after another, and write the table after each.

    The same command again goes on where it stopped. Runs with the same data, model, fine-tuning and seed share their
    fine-tuning. A run that fails does not stop the others; exit code 1 then. KEY=VALUE goes over every cell.
    """
    from radiograd.experiments import plan as plans
    from radiograd.experiments import running
    from radiograd.experiments.showing import as_text, write_table
    from radiograd.experiments.table import build_table

    plan = plans.load_plan(experiment, overrides)
    root = root or Path("runs") / plan.experiment.name
    runs = plans.chosen(plan, only)
    _fetch_missing([planned.config for planned in runs])
    running.check_plan(plan, runs)
    if dry_run:
        click.echo(json.dumps(running.overview(plan, runs, root), indent=2))
        return
    # TRL 1.16 sets an option by the name transformers is about to drop; nothing a user could do about it
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    failed = running.run_experiment(
        plan,
        runs,
        root,
        shlex.join(["radiograd", *sys.argv[1:]]),
        lambda line: click.echo(line, err=True),
        lambda: write_table(build_table(plan, root), root),
    )
    table = build_table(plan, root)
    write_table(table, root)
    click.echo(as_text(table), nl=False)
    click.echo(f"\ntable: {root / 'table.md'}  {root / 'table.json'}  {root / 'plot.svg'}")
    if failed:
        click.echo(f"failed: {', '.join(failed)}; the same command tries again", err=True)
        sys.exit(1)


@experiment.command("table", epilog="Example: radiograd experiment table rgro_table1 --markdown")
@EXPERIMENT
@OVERRIDES
@FOLDER
@click.option("--markdown", "as_markdown", is_flag=True, help="Print it as Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def experiment_table(
    experiment: str, overrides: Sequence[str], root: Path | None, as_markdown: bool, as_json: bool
) -> None:
    """Make table.md, table.json and plot.svg anew from the runs that are there, without a model.

    What was typed over the experiment when it was run is kept; give KEY=VALUE to use others.
    """
    from radiograd.errors import UsageError
    from radiograd.experiments import plan as plans
    from radiograd.experiments import running, showing
    from radiograd.experiments.table import build_table

    if as_markdown and as_json:
        raise UsageError("--markdown and --json are two forms of one table; choose one")
    plan = plans.load_plan(experiment, overrides)
    root = root or Path("runs") / plan.experiment.name
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; run: radiograd experiment run {experiment}")
    if not overrides:
        plan = plans.load_plan(experiment, running.overrides_of(root))
    table = build_table(plan, root)
    showing.write_table(table, root)
    shown = showing.as_markdown(table) if as_markdown else showing.as_text(table)
    click.echo(json.dumps(table, indent=2, ensure_ascii=False) if as_json else shown, nl=as_json)


def _fetch_missing(configs: Sequence[Any]) -> None:
    """Get the pinned files that the runs need, damaged ones anew."""
    from radiograd import assets, stages
    from radiograd.errors import AssetError
    from radiograd.runs import is_terminal

    for name in dict.fromkeys(name for config in configs for name in stages.needed_assets(config)):
        try:
            assets.verify(name)
        except AssetError:
            click.echo(f"fetching {name} (once) ...", err=True)
            assets.fetch(name, show_progress=is_terminal())
