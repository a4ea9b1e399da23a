"""The commands that put numbers on reports: score, convert, compare. Added to the command line by ``cli``."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from radiograd.errors import RadiogradError, UsageError

if TYPE_CHECKING:
    from radiograd.formats import Item
    from radiograd.scoring import Plan
    from radiograd.types import Problem

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
CONVENTIONS = ("ours", "rexrank", "r2gen", "coco", "radeval")
CANDIDATES = click.option(
    "--candidates",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help='Lines {"id", "candidate"} to join to a format that holds references only (r2gen, labeler CSV).',
)
REFERENCE = click.option(
    "--reference",
    type=click.Choice(["findings", "impression"]),
    help="Take this section alone for the reference, where the format keeps sections apart (rexrank).",
)
SEED = click.option("--seed", default=7, show_default=True, help="Seed of the resamples.")


def _resamples(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--resamples",
        default=default,
        type=click.IntRange(min=100),
        show_default=True,
        help="Bootstrap resamples, drawn by patient.",
    )


def add_commands(cli: click.Group) -> None:
    """Add score, convert and compare to the command line."""
    for command in (score, convert, compare):
        cli.add_command(command)


# ---- score -----------------------------------------------------------------------------------------------------------


@click.command(
    epilog="""\b
Examples: radiograd score --metrics bleu4,rougeL --summary summary.json < pairs.jsonl > scores.jsonl
          radiograd score --from rexrank --all-conventions predictions.json
          radiograd score --section report --metrics report_format,impression/label_f1_14 < reports.jsonl
          radiograd score --out scores.jsonl --resume pairs.jsonl"""
)
@click.argument("files", nargs=-1, type=PATH, metavar="[FILE ...]")
@click.option("--metrics", help="Names with commas between; without it, every metric that needs no weights.")
@click.option("--convention", type=click.Choice(CONVENTIONS), default="ours", show_default=True)
@click.option("--all-conventions", is_flag=True, help="A table of the same data under each convention, no lines.")
@click.option("--markdown", "as_markdown", is_flag=True, help="That table as Markdown.")
@click.option("--summary", "summary_path", type=FILE, help="Write means, intervals and signatures as one JSON object.")
@click.option("--out", type=FILE, help="Write the lines here instead, with the parts that compare needs.")
@click.option("--resume", is_flag=True, help="Go on with --out where a killed evaluation stopped.")
@click.option(
    "--section",
    type=click.Choice(["impression", "findings", "report"]),
    default="impression",
    show_default=True,
    help="What the texts are. report: findings and impression under headers; findings/NAME and impression/NAME then "
    "measure one of them.",
)
@click.option("--parts", is_flag=True, help="Add to each line the numbers that corpus values are made from.")
@click.option("--from", "source", default="lines", show_default=True, help="Format of FILE (radiograd convert --help).")
@REFERENCE
@CANDIDATES
@_resamples(1000)
@SEED
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Processes.")
def score(
    files: Sequence[Path],
    metrics: str | None,
    convention: str,
    all_conventions: bool,
    as_markdown: bool,
    summary_path: Path | None,
    out: Path | None,
    resume: bool,
    section: str,
    parts: bool,
    source: str,
    reference: str | None,
    candidates: Path | None,
    resamples: int,
    seed: int,
    jobs: int,
) -> None:
    """Score candidates against references.

    Lines {"id", "reference", "candidate"[, "findings", "patient", "normal"]} in; lines {"id", "scores", "why"} out. A
    reference of null leaves the case unscored. Intervals are drawn by "patient", or by case without one.
    """
    from radiograd import scoring
    from radiograd.runs import write_json

    if resume and out is None:
        raise UsageError("--resume goes on with a file of scores; name it with --out FILE")
    if all_conventions and (out is not None or parts or convention != "ours"):
        raise UsageError("--all-conventions prints a table; leave out --out, --resume, --parts and --convention")
    if as_markdown and not all_conventions:
        raise UsageError("--markdown is for the table of --all-conventions")
    names = scoring.default_metrics() if metrics is None else _names(metrics)
    chosen = scoring.plan_all(names) if all_conventions else scoring.plan(names, convention)
    chosen.section = section
    for note in chosen.notes:
        click.echo(f"note: {note}", err=True)
    given = _Source(files, source, reference, candidates)
    references = given.first_pass(chosen)
    if jobs > 1 and chosen.programs:
        named = ", ".join(dict.fromkeys(entry.metric for entry in chosen.programs))
        click.echo(f"note: {named}: asked in one process, as each would start a program of its own", err=True)
        jobs = 1
    chosen.start()
    with ExitStack() as stack:
        sink: BinaryIO | None = None if all_conventions else sys.stdout.buffer
        done: Iterable[dict[str, Any]] = ()
        if out is not None:
            from radiograd.scorefile import done_lines, open_scores

            sink, size = open_scores(out, scoring.meta(chosen, references), resume)
            stack.enter_context(sink)
            done = done_lines(out, size)
        totals = _stream(
            given.batches(),
            chosen,
            sink,
            with_parts=parts or out is not None,
            tallied=all_conventions or summary_path is not None,
            jobs=jobs,
            done=done,
            progress=stack.enter_context(_progress(quiet=out is None and not all_conventions)),
        )
    if not totals.cases:
        raise RadiogradError(
            'no case could be scored; give lines such as {"id": 1, "reference": "...", "candidate": "..."}'
        )
    if totals.tallies is not None:
        summary = scoring.summarise(totals, chosen, resamples=resamples, seed=seed)
        if all_conventions:
            click.echo(_conventions_table(scoring.by_convention(summary, chosen), as_markdown))
            summary["conventions"] = scoring.by_convention(summary, chosen)
        else:
            summary["convention"] = convention
        if summary_path is not None:
            write_json(summary_path, summary)
    if totals.resumed:
        click.echo(f"{totals.resumed} of {totals.cases} cases were there already", err=True)
    if totals.problems:
        click.echo(f"{totals.problems} of {totals.problems + totals.cases} cases could not be used", err=True)
        sys.exit(1)


class _Source:
    """Where the cases come from; read again from the start for metrics that must see all references first."""

    def __init__(self, files: Sequence[Path], source: str, reference: str | None, candidates: Path | None) -> None:
        from radiograd.formats import STDIN, format_called

        format_called(source)
        if len(files) > 1 and source == "lines":
            raise UsageError("lines are read from one file; put several together with cat")
        self.files = list(files) or [STDIN]
        self.source = source
        self.reference = reference
        self.candidates = candidates
        self._streamed = source == "lines" and reference is None and candidates is None
        self._stdin = self.files == [STDIN]

    def items(self) -> Iterator[Item]:
        from radiograd.formats import pair_candidates, read, with_reference

        items = with_reference(read(self.source, self.files), self.reference)
        return items if self.candidates is None else pair_candidates(items, self.candidates)

    def batches(self) -> Iterator[list[Item]]:
        from radiograd.formats import opened
        from radiograd.scoring import arriving, batched

        if not self._streamed:
            yield from batched(self.items())
            return
        if self._stdin and sys.stdin.isatty():
            click.echo("reading JSON lines from the terminal; end with Ctrl-D", err=True)
        with opened(self.files[0]) as file:
            yield from arriving(file, self.files[0])

    def first_pass(self, chosen: Plan) -> Any:
        """Show the references to the metrics that need them; None when none does. UsageError for a pipe."""
        from radiograd.scoring import References

        if not chosen.first_pass:
            return None
        if self._stdin and not stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
            named = ", ".join(dict.fromkeys(entry.metric for entry in chosen.first_pass))
            raise UsageError(
                f"{named} must see all references before the first score, and a pipe can be read only once; "
                "give a file: radiograd score ... FILE"
            )
        references = References(self._again)
        chosen.prepare(references)
        if self._stdin:
            sys.stdin.buffer.seek(0)
        return references

    def _again(self) -> Iterator[Item]:
        if self._stdin:
            sys.stdin.buffer.seek(0)
        return self.items()


def _stream(batches: Iterable[Sequence[Item]], chosen: Plan, sink: BinaryIO | None, **options: Any) -> Any:
    from radiograd.scoring import score_stream

    try:
        return score_stream(batches, chosen, sink, _complain, **options)
    except KeyboardInterrupt:
        raise RadiogradError(
            "interrupted; the lines written so far are whole, and --out FILE --resume goes on"
        ) from None


def _conventions_table(by_convention: dict[str, dict[str, Any]], as_markdown: bool) -> str:
    from radiograd import tables

    entries = [entry for found in by_convention.values() for entry in found.values()]
    names = {name: entry["higher_is_better"] for found in by_convention.values() for name, entry in found.items()}
    grid = [["convention", *(name if higher else f"{name} ↓" for name, higher in names.items())]]
    for convention, found in by_convention.items():
        grid.append([convention, *(tables.value_cell(found[name]) for name in names)])
    table = tables.markdown(grid) if as_markdown else tables.text(grid)
    signatures = "\n".join(dict.fromkeys(f"- {entry['signature']}" for entry in entries))
    n, unscored = min(entry["n"] for entry in entries), max(entry["unscored"] for entry in entries)
    return f"x 100 [95% interval], n {n}, unscored {unscored}\n\n{table}\nSignatures\n{signatures}"


# ---- convert ---------------------------------------------------------------------------------------------------------


@click.command(
    epilog="""\b
Formats  lines     ours: {"id", "reference", "candidate", ...}, one object a line; holds every field
         rexrank   JSON object by study id: sections, image_path, context, model_prediction
         r2gen     annotation.json: {train, val, test: [{id, report, image_path, split}]}; no candidates
         chexbert  CSV with the column "Report Impression"       chexpert  CSV of reports without a header
         labels    CSV of labels by name: 1, 0, -1, blank        radeval   {"ref", "hyp"}, one object a line
         coco      annotations and results, two files            plain     references and candidates, two text files

\b
Examples: radiograd convert --from rexrank --to lines predictions.json pairs.jsonl
          radiograd convert --from lines --to plain --join-lines pairs.jsonl refs.txt hyps.txt"""
)
@click.option("--from", "source", required=True, help="Format that is read.")
@click.option("--to", "target", required=True, help="Format that is written.")
@click.option(
    "--text",
    type=click.Choice(["reference", "candidate"]),
    default="reference",
    show_default=True,
    help="Which text a format with only one holds (chexbert, chexpert).",
)
@REFERENCE
@CANDIDATES
@click.option("--join-lines", is_flag=True, help="Write line breaks as blanks where a format has one text a line.")
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="IN [IN] OUT [OUT]")
def convert(
    source: str,
    target: str,
    text: str,
    reference: str | None,
    candidates: Path | None,
    join_lines: bool,
    paths: Sequence[Path],
) -> None:
    """Turn one file format of the field into another; "-" is standard input or output.

    What the new format cannot hold is counted and named. Cases that cannot be used are named, the rest is converted.
    """
    from radiograd import formats

    inputs = formats.format_called(source).files
    outputs = formats.format_called(target).files
    if len(paths) != inputs + outputs:
        raise UsageError(f"{source} to {target} takes {inputs} IN and {outputs} OUT files, not {len(paths)} in all")
    done = formats.convert(
        source,
        paths[:inputs],
        target,
        paths[inputs:],
        _complain,
        text=text,
        reference=reference,
        candidates=candidates,
        join_lines=join_lines,
    )
    dropped = "".join(f"; {name} dropped from {count}" for name, count in sorted(done.dropped.items()))
    click.echo(f"{done.written} cases converted, {done.problems} passed over{dropped}", err=True)
    if done.problems:
        sys.exit(1)
    if not done.written:
        raise RadiogradError(f"{paths[0]} holds no case")


# ---- compare ---------------------------------------------------------------------------------------------------------


@click.command(epilog="Example: radiograd compare runs/a runs/b --row aligned    or: radiograd compare a.jsonl b.jsonl")
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN RUN ...")
@click.option(
    "--set", "eval_set", type=click.Choice(["val", "test"]), default="test", show_default=True, help="Held-out studies."
)
@click.option("--row", default="aligned", show_default=True, help="Which row of a run: aligned, sft, or any other.")
@click.option("--metrics", help="Names with commas between; without it, all that the runs have in common.")
@_resamples(10_000)
@SEED
@click.option("--markdown", "as_markdown", is_flag=True, help="Tables as Markdown.")
@click.option("--json", "json_path", type=FILE, help="Also write all of it as one JSON object.")
def compare(
    runs: Sequence[Path],
    eval_set: str,
    row: str,
    metrics: str | None,
    resamples: int,
    seed: int,
    as_markdown: bool,
    json_path: Path | None,
) -> None:
    """Finished runs, or files of "radiograd score --out", against one another, without a model.

    a - b with interval, p, and p after Holm's correction over all metrics and pairs; all, normal and abnormal cases.
    """
    from radiograd import compare as program
    from radiograd.runs import write_json

    names = None if metrics is None else _names(metrics)
    systems = program.read_systems(runs, eval_set, row)
    found = program.compare(systems, metrics=names, resamples=resamples, seed=seed)
    click.echo(program.render(found, as_markdown), nl=False)
    if json_path is not None:
        write_json(json_path, found)


# ---- what they share -------------------------------------------------------------------------------------------------


def _names(metrics: str) -> list[str]:
    return [name.strip() for name in metrics.split(",") if name.strip()]


def _complain(problem: Problem) -> None:
    click.echo(f"{problem.where}: {problem.why}", err=True)


class _progress:
    """A bar on a terminal, nothing in a pipe, and nothing where the lines themselves are shown."""

    def __init__(self, quiet: bool) -> None:
        from radiograd.runs import is_terminal

        self._on = is_terminal() and not (quiet and sys.stdout.isatty())

    def __enter__(self) -> Callable[[int], object]:
        from tqdm import tqdm

        self._bar: Any = tqdm(unit=" cases", disable=not self._on)
        update: Callable[[int], object] = self._bar.update
        return update

    def __exit__(self, *error: object) -> None:
        self._bar.close()
