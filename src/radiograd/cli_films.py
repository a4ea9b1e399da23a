"""``radiograd films``: look at films before training on them. Added by ``cli``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from radiograd.errors import UsageError

if TYPE_CHECKING:
    from radiograd.films.index import Indexed
    from radiograd.types import Problem


def add_commands(cli: click.Group) -> None:
    """Add the films group to the command line."""
    cli.add_command(films)


@click.group()
def films() -> None:
    """Look at the films before training on them."""


@films.command("check", epilog="Example: radiograd films check ../films    or: radiograd films check my.yaml --verify")
@click.argument("source", metavar="FOLDER_OR_CONFIG")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE ...]")
@click.option("--verify", is_flag=True, help="Decode every film, not its header alone.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Worker processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table; lists every problem.")
def films_check(source: str, overrides: Sequence[str], verify: bool, jobs: int, as_json: bool) -> None:
    """Count films by format and size, and name each file that cannot be read. Exit code 1 when there is one.

    Of a FOLDER every film in it and below; of a CONFIG the films of its studies.
    """
    from radiograd.films.check import describe, render
    from radiograd.films.index import index_films

    if Path(source).is_dir():
        if overrides:
            raise UsageError("KEY=VALUE goes with a config, not with a folder")
        passed: Counter[str] = Counter()
        facts = describe(_with_progress(index_films(source, jobs=jobs, verify=verify, passed=passed)))
        facts["passed_over"] = dict(passed.most_common())
    else:
        facts = _of_config(source, overrides, verify, jobs)
    click.echo(json.dumps(facts, indent=2) if as_json else render(facts))
    if facts["problems"] or not facts["films"]:
        sys.exit(1)


def _of_config(source: str, overrides: Sequence[str], verify: bool, jobs: int) -> dict[str, Any]:
    from radiograd.config import load_config
    from radiograd.data import load
    from radiograd.films.check import describe
    from radiograd.films.index import look_at

    loaded = load(load_config(source, overrides).data)
    images = [image for study in loaded.studies for image in study.images]
    paths = list(dict.fromkeys(str(image.path) for image in images if image.path is not None))
    facts = describe(_with_progress(look_at(paths, jobs=jobs, verify=verify), len(paths)))
    nameless = sum(image.path is None for image in images)
    if nameless:
        why = f"films that have no path, only an identifier: {nameless:,}; give data.images=FOLDER"
        facts["problems"].append({"file": str(source), "why": why})
    facts["problems"] += [{"file": problem.where, "why": problem.why} for problem in loaded.problems]
    facts["studies_without_film"] = sum(not study.images for study in loaded.studies)
    return facts


def _with_progress(rows: Iterator[Indexed | Problem], total: int | None = None) -> Iterator[Indexed | Problem]:
    from tqdm import tqdm

    from radiograd.runs import is_terminal

    yield from tqdm(rows, desc="films", total=total, unit="film", disable=not is_terminal())
