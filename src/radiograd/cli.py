"""The command line: parse, call, print. One line per error on stderr; exit code 0 ok, 1 failed, 2 wrong use."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from radiograd import (
    __version__,
    cli_bench,
    cli_experiment,
    cli_explain,
    cli_films,
    cli_judge,
    cli_labeler,
    cli_reward,
    cli_score,
    cli_text,
)
from radiograd.errors import RadiogradError, UsageError

OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE ...]")
RUNS = click.option(
    "--runs", "root", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of run folders."
)


class _Commands(click.Group):
    """Commands in the order one uses them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="radiograd")
@click.option("-v", "--verbose", is_flag=True, help="Show what is being done, line by line.")
def cli(verbose: bool) -> None:
    """Align language models with what a radiology report must get right.

    \b
    Two commands from nothing to an aligned model and a page to read:
      radiograd fetch openi smollm2
      radiograd run quickstart
    """
    _log_to_stderr(logging.INFO if verbose else logging.WARNING)


@cli.command(epilog="Example: radiograd fetch openi smollm2")
@click.argument("names", nargs=-1)
def fetch(names: Sequence[str]) -> None:
    """Get pinned reports and models into the cache, once. Without NAMES: all of them."""
    from radiograd import assets
    from radiograd.runs import is_terminal

    for name in names or tuple(assets.CATALOG):
        path = assets.fetch(name, show_progress=is_terminal())
        click.echo(f"{name}: {path}  ({assets.CATALOG[name].licence})")


@cli.group()
def data() -> None:
    """Look at the reports before training on them."""


@data.command("describe", epilog="Example: radiograd data describe quickstart    or: radiograd data describe my.csv")
@click.argument("source")
@OVERRIDES
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def data_describe(source: str, overrides: Sequence[str], as_json: bool) -> None:
    """Counts, lengths, template share and splits of a CONFIG or a data file. Shows no report text."""
    from radiograd.data.describe import describe_source, render

    facts = describe_source(_config_or_data(source, overrides))
    click.echo(json.dumps(facts, indent=2) if as_json else render(facts))


@data.command("check", epilog="Example: radiograd data check my.csv data.columns.impression=Conclusion")
@click.argument("source")
@OVERRIDES
def data_check(source: str, overrides: Sequence[str]) -> None:
    """Missing sections, duplicates across splits, empty text, encoding. Exit code 1 when there are errors."""
    from radiograd.data.check import check

    settings = _config_or_data(source, overrides)
    findings = check(settings.data, settings.split_seed, settings.task)
    for finding in findings:
        ids = f"  e.g. {', '.join(finding.ids)}" if finding.ids else ""
        click.echo(f"{finding.level:7} {finding.count:6}  {finding.message}{ids}")
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)


@cli.command(epilog="Example: radiograd run quickstart align.rollouts=20    or: radiograd run my.yaml --dry-run")
@click.argument("config")
@OVERRIDES
@RUNS
@click.option("--dry-run", is_flag=True, help="Check everything, print counts, token budget and digest, and stop.")
def run(config: str, overrides: Sequence[str], root: Path, dry_run: bool) -> None:
    """From reports to an aligned model and its page. The same command again resumes where it stopped."""
    from radiograd import stages
    from radiograd.config import load_config

    settings = load_config(config, overrides)
    stages.check_names(settings)
    _fetch_missing(settings)
    stages.check_model(settings)
    if dry_run:
        click.echo(json.dumps(stages.dry_run(settings), indent=2))
        return
    path = _work(settings, root, stages.programs(settings))
    _show_table(path)
    click.echo(f"page: {path / 'report.html'}")


_EXAMPLES = {"pairs": "rgro", "classifier": "deer", "annotate": "radflow", "select": "radflow"}


def _stage_command(name: str, text: str, *options: Callable[[Any], Any]) -> None:
    def command(
        run_or_config: str, overrides: Sequence[str], root: Path, eval_set: str = "test", as_markdown: bool = False
    ) -> None:
        from radiograd import stages
        from radiograd.config import load_config
        from radiograd.runs import find_run

        folder = Path(run_or_config)
        if folder.is_dir():
            if overrides:
                raise UsageError("a run folder keeps its configuration; to change a key, start a run with another name")
            opened = find_run(folder if folder.name not in ("", "..") else folder.resolve())  # "." has no name
            settings, root = opened.config, opened.path.parent
            if opened.path.name != settings.name:
                settings = settings.model_copy(update={"name": opened.path.name})
        else:
            settings = load_config(run_or_config, overrides)
        if name not in stages.CHEAP:
            stages.check_names(settings)
            stages.check_model(settings)
        programs = stages.step(name, eval_set)
        if name in ("sft", "annotate", "classifier"):
            programs = {"data": stages.PROGRAMS["data"], **programs}
        path = _work(settings, root, programs, again=programs if name in stages.CHEAP else ())
        if name == "evaluate":
            _show_table(path, eval_set, as_markdown)
        elif name == "report":
            click.echo(f"page: {path / 'report.html'}")
        elif name in ("annotate", "select"):
            _show_choice(path, name)
        else:
            click.echo(f"{', '.join(programs)}: done in {path}")

    decorated: Any = command
    for decorate in (*options, RUNS, OVERRIDES, click.argument("run_or_config")):
        decorated = decorate(decorated)
    cli.command(name, help=text, epilog=f"Example: radiograd {name} runs/{_EXAMPLES.get(name, 'quickstart')}")(
        decorated
    )


SET = click.option(
    "--set",
    "eval_set",
    type=click.Choice(["val", "test"]),
    default="test",
    show_default=True,
    help="Held-out studies: val to choose settings by, test for what is reported.",
)
MARKDOWN = click.option("--markdown", "as_markdown", is_flag=True, help="Print every table, as Markdown.")

_stage_command("sft", "Fine-tune on what a task shows and asks for (prepares the data first when needed).")
_stage_command("annotate", "Which reference reports are critical (criticality.source), and how far its sources agree.")
_stage_command("select", "Which studies to align on (select.by): hardest, diverse, reward_std, or a draw.")
_stage_command("classifier", "Train the labeler whose gradient weighs tokens (align.token_weight).")
_stage_command("pairs", "Pairs of texts, the better one first, for preference optimisation (align.type=dpo).")
_stage_command("align", "Policy optimisation from the fine-tuned model.")
_stage_command("generate", "Impressions of the run's models for the held-out studies.", SET)
_stage_command("evaluate", "Scores, intervals, trivial rows and paired differences, from files alone.", MARKDOWN, SET)
_stage_command("report", "Write report.html from the run folder, without a model.")


@cli.command(epilog="Example: radiograd doctor")
def doctor() -> None:
    """What is installed, what is cached, and what this machine can do. Exit code 1 when something is broken."""
    from radiograd.doctor import examine

    checks = examine()
    for check in checks:
        mark = {True: "ok", False: "BROKEN", None: "-"}[check.ok]
        click.echo(f"{mark:7} {check.name:24} {check.detail}")
    if any(check.ok is False for check in checks):
        sys.exit(1)


cli_experiment.add_commands(cli)
cli_films.add_commands(cli)
cli_text.add_commands(cli)
cli_score.add_commands(cli)
cli_labeler.add_commands(cli)
cli_judge.add_commands(cli)
cli_reward.add_commands(cli)
cli_explain.add_commands(cli)
cli_bench.add_commands(cli)


# ---- what the commands share -----------------------------------------------------------------------------------------


def _work(settings: Any, root: Path, programs: Any, again: Iterable[str] = ()) -> Path:
    """Do what is not done of ``programs``; the run folder."""
    from radiograd import stages
    from radiograd.runs import open_run, run_path, run_stages

    # TRL 1.16 sets an option by the name transformers is about to drop; nothing a user could do about it
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    with open_run(settings, root, _typed()) as opened:
        if set(programs) - set(again):
            stages.check_source(opened)
        run_stages(opened, programs, again=again)
    return run_path(settings, root)


def _show_table(path: Path, eval_set: str = "test", as_markdown: bool = False) -> None:
    from radiograd.runs import read_json
    from radiograd.tables import brief_text, summary_markdown

    render = summary_markdown if as_markdown else brief_text
    click.echo(render(read_json(path / "eval" / eval_set / "summary.json")))


def _show_choice(path: Path, name: str) -> None:
    from radiograd.runs import read_json
    from radiograd.tables import annotation_text, selection_text

    file, render = {
        "annotate": ("criticality_summary.json", annotation_text),
        "select": ("selection_summary.json", selection_text),
    }[name]
    click.echo(render(read_json(path / file)))


def _fetch_missing(settings: Any) -> None:
    """``run`` may be the first command ever typed: get the pinned files its config needs, damaged ones anew."""
    from radiograd import assets, stages
    from radiograd.errors import AssetError
    from radiograd.runs import is_terminal

    for name in stages.needed_assets(settings):
        try:
            assets.verify(name)
        except AssetError:
            click.echo(f"fetching {name} (once) ...", err=True)
            assets.fetch(name, show_progress=is_terminal())


def _config_or_data(source: str, overrides: Sequence[str]) -> Any:
    """A config, or the defaults with a data file (by its ending) or folder put in."""
    from radiograd.config import apply_override, load_config, parse_config, shipped
    from radiograd.data import source_of

    path = Path(source)
    if source == "openi":
        values: dict[str, Any] = {"data": {"source": "openi"}}
    elif shipped(source) or (path.suffix.lower() in ("", ".yaml", ".yml", ".json") and not path.is_dir()):
        return load_config(source, overrides)
    else:
        values = {"data": {"source": source_of(path), "path": source}}
    for override in overrides:
        apply_override(values, override)
    return parse_config(values, source)


def _typed() -> str:
    return shlex.join(["radiograd", *sys.argv[1:]])


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: record.levelno >= level or record.name == "radiograd.runs")  # the stages' lines
    root = logging.getLogger("radiograd")
    root.handlers = [handler]
    root.setLevel(logging.INFO)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point: every failure is one line and an exit code; of an unexpected one, what it said is kept back.

    Its message may hold report text; the way to it stands in the attempt's log, or is shown where there is none.
    """
    sys.exit(_call(lambda: cli.main(args=argv, prog_name="radiograd", standalone_mode=False)))


def _call(command: Callable[[], Any]) -> int:
    try:
        command()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        hint = f" Try: {error.ctx.command_path} --help" if error.ctx else ""
        return _fail(f"{error.format_message()}{hint}", 2)
    except RadiogradError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail(f"interrupted; the same command resumes: {_typed()}", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        from radiograd.runs import is_disk_full

        if is_disk_full(error):
            where = f" while writing {error.filename}" if error.filename else ""
            return _fail(f"the disk is full{where}; free some space and run the same command again: {_typed()}", 1)
        return _unexpected(error) if error.filename is None else _fail(f"{error.filename}: {error.strerror}", 1)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:  # noqa: BLE001
        return _unexpected(error)
    return 0


def _unexpected(error: Exception) -> int:
    from radiograd.runs import frames, log_of

    log = log_of(error)
    if log is not None:
        return _fail(f"unexpected {type(error).__name__}; details without text in {log}", 1)
    click.echo(frames(error), err=True, nl=False)
    return _fail(f"unexpected {type(error).__name__}; the lines above say where, without text", 1)


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.splitlines())}", err=True)
    return code


if __name__ == "__main__":
    main()
