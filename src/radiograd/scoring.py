"""Pairs of reference and candidate -> a line of scores each, streaming, and a summary with intervals.

What stays in memory is a batch of texts and, for a summary, the part numbers of every case (:mod:`radiograd.tally`).
A file of score lines (:mod:`radiograd.scorefile`) also holds each case's parts and a digest of its texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from radiograd.errors import (
    AssetError,
    ConfigError,
    DataError,
    MissingExtra,
    ModelError,
    RadiogradError,
    RunError,
    UsageError,
)
from radiograd.formats import Item, Record
from radiograd.formats.streams import PAIR, parse
from radiograd.lines import transform, write_line
from radiograd.metrics import Metric, beside, load_metric, start
from radiograd.metrics.builtin import METRICS
from radiograd.rewards import ScoringError, score_cases
from radiograd.tally import Groups, Tally, estimates
from radiograd.text.generated import cut
from radiograd.types import REPORT, SECTION_NAMES, Case, Problem, Score, Sections, Study

LIGHT = (
    *("bleu1", "bleu2", "bleu3", "bleu4", "rouge1", "rouge2", "rougeL", "length_ratio"),
    *("label_f1_14", "label_f1_5", "factgraph_partial", "keywords"),
)
"""Metrics that need no weights; those of them that are there are taken when none is named."""

OURS = "ours"
BATCH = 64
"""Cases that a metric sees at once, at most."""
BLOCK_BYTES = 1 << 16

_ABOUT_THE_COMMAND = (UsageError, MissingExtra, AssetError, ModelError)

Complain = Callable[[Problem], None]


def default_metrics() -> list[str]:
    """The light metrics of this installation, in the order of tables."""
    return [name for name in LIGHT if name in METRICS]


# ---- which metrics, by which convention ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One column: the ``metric`` called by that name, computed by ``convention``, under ``key`` in what is written."""

    key: str
    metric: str
    convention: str = OURS


@dataclass(slots=True)
class Plan:
    """What is computed: the columns, each with its metric, and what a user should know of it."""

    metrics: dict[Entry, Metric]
    notes: list[str] = field(default_factory=list)
    section: str = "impression"
    """What the texts are: one section, or "report" for whole reports, which are then cut by their headers."""

    @property
    def first_pass(self) -> list[Entry]:
        """Columns whose metric must see all references before it scores the first case."""
        return [entry for entry, metric in self.metrics.items() if hasattr(metric, "prepare")]

    @property
    def programs(self) -> list[Entry]:
        """Columns whose metric asks a program of its own."""
        return [entry for entry, metric in self.metrics.items() if hasattr(metric, "start")]

    def start(self) -> None:
        """Bring up the programs, so that every signature is whole. ModelError when one does not come up."""
        start(self.metrics.values())

    def prepare(self, references: Sequence[str]) -> None:
        """Show the references of the set to the metrics that need them."""
        for entry in self.first_pass:
            cast("Any", self.metrics[entry]).prepare(references)


def plan(names: Sequence[str], convention: str = OURS) -> Plan:
    """The named metrics by one convention. Raises ConfigError for an unknown name and for one given twice."""
    conventions_called([convention])
    made = Plan({Entry(name, name, convention): load(name, convention) for name in _once(names)})
    deaf = [] if convention == OURS else [name for name in names if not hasattr(load(name), "with_convention")]
    if deaf:
        made.notes.append(f"{', '.join(deaf)}: the same under every convention, so computed as {OURS}")
    return made


def plan_all(names: Sequence[str]) -> Plan:
    """The named metrics by every convention; one that knows of no conventions is computed once, under ``ours``."""
    made = Plan({})
    for convention in conventions_called():
        for name in _once(names):
            if convention == OURS or hasattr(load(name), "with_convention"):
                made.metrics[Entry(f"{convention}:{name}", name, convention)] = load(name, convention)
    return made


def conventions_called(names: Sequence[str] | None = None) -> list[str]:
    """``names``, checked, or every convention there is, ours first. Raises ConfigError for an unknown one."""
    from radiograd import conventions

    for name in names or ():
        conventions.load(name)
    return list(conventions.CONVENTIONS) if names is None else list(names)


def load(name: str, convention: str = OURS) -> Metric:
    """A fresh metric; one without ``with_convention`` is the same under every convention."""
    metric = load_metric(name)
    change = getattr(metric, "with_convention", None)
    return metric if convention == OURS or change is None else cast("Metric", change(convention))


def _once(names: Sequence[str]) -> Sequence[str]:
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise ConfigError(f"metric {twice!r} is named twice")
    if not names:
        raise ConfigError("no metric is named, e.g. --metrics rougeL,bleu4")
    return names


# ---- cases -----------------------------------------------------------------------------------------------------------


def arriving(file: BinaryIO, path: Path) -> Iterator[list[Item]]:
    """Cases of our lines in batches, as they arrive: whoever writes a line and waits for its scores gets them.

    ``path`` names the file in what is said of bad lines.
    """
    number, rest = 0, b""
    while block := file.read1(BLOCK_BYTES) if hasattr(file, "read1") else file.read(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        yield from _batches(_parsed(lines, number, path))
        number += len(lines)
    yield from _batches(_parsed([rest], number, path))


def batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cases of any format in batches; one without a candidate becomes a Problem."""
    return _batches(_with_candidate(item) for item in items)


def references(items: Iterable[Item]) -> Iterator[str]:
    """The references that there are."""
    return (item.reference for item in items if isinstance(item, Record) and item.reference is not None)


class References(Sequence[str]):
    """The references of a set that is read again each time they are asked for: a million of them are never held."""

    def __init__(self, read: Callable[[], Iterable[Item]]) -> None:
        self._read = read
        mark, count = blake2b(digest_size=8), 0
        for text in self:
            mark.update(text.encode("utf-8", "surrogatepass") + b"\0")
            count += 1
        self._count = count
        self.digest = mark.hexdigest()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return references(self._read())

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return list(self)[place]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return next(islice(self, place % self._count, None))


def _parsed(lines: Sequence[bytes], before: int, path: Path) -> Iterator[Item]:
    for number, line in enumerate(lines, before + 1):
        item = parse(line, number, path, PAIR)
        if item is not None:
            yield item


def _with_candidate(item: Item) -> Item:
    if isinstance(item, Problem) or item.candidate is not None:
        return item
    return Problem(f"case {item.id}", "has no candidate to score")


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


# ---- the work of one process -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """{"cases": [...]} -> {"rows": [...]}: a batch of cases to their score lines. Can be sent to another process.

    A metric is loaded by the process that scores with it, except those that were shown all references.
    """

    entries: tuple[Entry, ...]
    prepared: Mapping[Entry, Metric]
    with_parts: bool
    section: str = "impression"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Never fails over a single case: what a metric cannot score is unscored with the reason."""
        cases = [_case(key, a, b, c, self.section) for key, a, b, c in batch["cases"]]
        columns = {}
        for entry in self.entries:
            metric = self.prepared.get(entry) or _loaded(entry.metric, entry.convention)
            columns[entry.key] = _scores(entry, metric, cases)
        return {"rows": [self._row({key: column[k] for key, column in columns.items()}) for k in range(len(cases))]}

    def _row(self, scores: Mapping[str, Score]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "scores": {key: score.value for key, score in scores.items()},
            "why": {key: _of_a_line(score.why) for key, score in scores.items() if score.why is not None},
        }
        if self.with_parts:
            row["parts"] = {key: dict(score.parts) for key, score in scores.items() if score.value is not None}
        return row


def _of_a_line(why: str) -> str:
    """A metric's reason without the name of a section: a line has a reference, whatever that was taken from."""
    for name in (*SECTION_NAMES, REPORT):
        why = why.replace(f"the study has no {name}", "the case has no reference" + _CUT * (name == REPORT))
        why = why.replace(f"the reference {name}", "the reference")
    return why


_CUT = " that can be cut into findings and impression"


@lru_cache(maxsize=256)
def _loaded(name: str, convention: str) -> Metric:
    return load(name, convention)


def _case(case_id: str, reference: str | None, candidate: str, findings: str | None, section: str) -> Case:
    """Of a whole report the reference is findings and impression under plain headers, whatever else stood there."""
    if section == REPORT:
        found = cut(reference or "")
        sections = Sections(found.findings, found.impression)
    else:
        sections = Sections(reference) if section == "findings" else Sections(findings, reference)
    return Case(Study(case_id, case_id, "lines", sections), candidate, section)


def _scores(entry: Entry, metric: Metric, cases: Sequence[Case]) -> list[Score]:
    try:
        return [_whole(entry, metric, score) for score in score_cases(f"metric {entry.key!r}", metric.score, cases)]
    except _ABOUT_THE_COMMAND:
        raise
    except RadiogradError as error:
        if len(cases) > 1:  # one bad case does not spoil its neighbours
            return [score for case in cases for score in _scores(entry, metric, [case])]
        cause = error.__cause__
        why = f"{entry.metric} failed with {type(cause).__name__}" if isinstance(error, ScoringError) else str(error)
        return [Score(None, why=why)]


def _whole(entry: Entry, metric: Metric, score: Score) -> Score:
    if score.value is not None and (lacking := [name for name in metric.part_names if name not in score.parts]):
        raise ConfigError(f"metric {entry.metric!r}: a score has no part {lacking[0]!r}")
    return score


# ---- the stream ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Totals:
    """What came of the cases, and what a summary is made from."""

    tallies: dict[str, Tally] | None
    groups: Groups = field(default_factory=Groups)
    cases: int = 0
    resumed: int = 0
    """Of ``cases``, those that were scored before."""
    problems: int = 0

    def add(self, who: str, parts: Mapping[str, Mapping[str, float]]) -> None:
        """One scored case; ``parts`` has no entry for a metric that left it unscored."""
        self.cases += 1
        if self.tallies is not None:
            self.groups.add(who)
            for key, tally in self.tallies.items():
                tally.add(parts.get(key))


def score_stream(
    batches: Iterable[Sequence[Item]],
    chosen: Plan,
    sink: BinaryIO | None,
    complain: Complain,
    *,
    with_parts: bool = False,
    tallied: bool = False,
    jobs: int = 1,
    done: Iterable[Mapping[str, Any]] = (),
    progress: Callable[[int], object] = lambda cases: None,
) -> Totals:
    """Write one line {"id", "scores", "why"} a case to ``sink`` (None: nowhere), in order, as they come.

    ``with_parts`` adds parts, digest, patient and normal; ``tallied`` keeps what a summary is made from. ``done`` are
    the lines of a run before, of which the first cases must be: they are not scored again. Cases that cannot be used
    go to ``complain`` and are counted. Raises RunError when ``done`` belongs to other cases.
    """
    totals = Totals({e.key: Tally(m.part_names) for e, m in chosen.metrics.items()} if tallied else None)
    keep_parts = with_parts or tallied
    work = Work(
        tuple(chosen.metrics), {entry: chosen.metrics[entry] for entry in chosen.first_pass}, keep_parts, chosen.section
    )
    waiting: list[list[Record]] = []
    before = iter(done)

    def questions() -> Iterator[bytes]:
        for batch in batches:
            records = []
            for item in batch:
                if isinstance(item, Problem):
                    totals.problems += 1
                    complain(item)
                elif (line := next(before, None)) is not None:
                    _check_done(line, item, totals.cases + 1)
                    totals.add(_who(item), line["parts"])
                    totals.resumed += 1
                else:
                    records.append(item)
            if records:
                waiting.append(records)
                yield write_line({"cases": [[str(r.id), r.reference, r.candidate, r.findings] for r in records]})
        if next(before, None) is not None:
            raise RunError(
                f"the file of scores holds more cases than the {totals.cases} that came in; is it another's?"
            )

    def take(answer: dict[str, Any]) -> None:
        lines = []
        for record, row in zip(waiting.pop(0), answer["rows"], strict=True):
            parts = row.pop("parts") if keep_parts else {}
            totals.add(_who(record), parts)
            lines.append(write_line(_line(record, row, parts if with_parts else None)))
        if sink is not None:
            sink.write(b"".join(lines))
            sink.flush()
        progress(len(lines))

    transform(questions(), cast("BinaryIO", _Answers(take)), work, required={"cases": list}, complain=_never, jobs=jobs)
    return totals


class _Answers:
    """Where :func:`radiograd.lines.transform` writes: whole lines, handed on as objects."""

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take

    def write(self, data: bytes) -> None:
        for line in data.splitlines():
            self._take(json.loads(line))

    def flush(self) -> None:
        """Nothing is held back."""


def _never(complaint: str) -> None:
    raise RadiogradError(f"a batch could not be scored: {complaint}")


def _line(record: Record, row: dict[str, Any], parts: Mapping[str, Any] | None) -> dict[str, Any]:
    line = {"id": record.id, **row}
    if parts is not None:
        line["parts"] = parts
        line["digest"] = digest(record)
        line |= {key: value for key in ("patient", "normal") if (value := getattr(record, key)) is not None}
    return line


def _who(record: Record) -> str:
    return f"patient {record.patient}" if record.patient is not None else f"case {record.id}"


def digest(record: Record) -> str:
    """Eight hexadecimal digits of what the candidate is held against, and eight of the candidate."""
    given = [record.reference, record.findings], [record.candidate]
    return "".join(blake2b(json.dumps(texts).encode(), digest_size=4).hexdigest() for texts in given)


def _check_done(line: Mapping[str, Any], record: Record, place: int) -> None:
    if line["id"] != record.id or line["digest"] != digest(record):
        what = f"is case {line['id']}" if line["id"] != record.id else "has other texts"
        raise RunError(
            f"case {place} of the input is {record.id}, but in the file of scores it {what}; "
            "resume with the same input, or delete the file and its .meta.json"
        )


def meta(chosen: Plan, references: References | None = None) -> dict[str, Any]:
    """How the lines of a file were computed; two files with equal entries can be compared."""
    facts: dict[str, Any] = {
        "metrics": {
            entry.key: {
                "metric": entry.metric,
                "convention": entry.convention,
                "signature": metric.signature,
                "higher_is_better": metric.higher_is_better,
            }
            for entry, metric in chosen.metrics.items()
        }
    }
    if chosen.section != "impression":
        facts["section"] = chosen.section
    if references is not None:
        facts["references"] = {"n": len(references), "digest": references.digest}
    return facts


# ---- the summary -----------------------------------------------------------------------------------------------------


def summarise(
    totals: Totals, chosen: Plan, *, resamples: int = 1000, seed: int = 7, level: float = 0.95
) -> dict[str, Any]:
    """Column -> mean, percentile interval over patients (cases without one stand alone), counts and signature.

    Raises DataError when no case came in.
    """
    if totals.tallies is None:
        raise ValueError("nothing was tallied")
    if not totals.cases:
        raise DataError("no case came in, so there is nothing to summarise")
    patients = totals.groups.numbers()
    metrics = {entry.key: metric for entry, metric in chosen.metrics.items()}
    combines = {key: metric.combine for key, metric in metrics.items()}
    found = estimates(totals.tallies, combines, patients, resamples=resamples, seed=seed, level=level)
    return {
        "metrics": {
            key: {
                "mean": found[key].value,
                "low": found[key].low,
                "high": found[key].high,
                "n": found[key].n,
                "unscored": found[key].unscored,
                "higher_is_better": metric.higher_is_better,
                "signature": metric.signature,
                **beside(metric, found[key].value),
            }
            for key, metric in metrics.items()
        },
        "cases": totals.cases,
        "patients": int(patients.max()) + 1,
        "bootstrap": {"by": "patient", "resamples": resamples, "level": level, "seed": seed},
    }


def by_convention(summary: Mapping[str, Any], chosen: Plan) -> dict[str, dict[str, Any]]:
    """Every convention -> metric -> entry of a :func:`plan_all` summary; ours stands in where a metric knows none."""
    table: dict[str, dict[str, Any]] = {}
    names = list(dict.fromkeys(entry.metric for entry in chosen.metrics))
    for convention in conventions_called():
        keys = {name: f"{convention}:{name}" for name in names}
        found = {name: summary["metrics"].get(key, summary["metrics"][f"{OURS}:{name}"]) for name, key in keys.items()}
        table[convention] = found
    return table
