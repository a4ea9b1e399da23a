"""Would this reward be hacked? Texts that no radiologist would pay for, held against the reference, before training.

A hack must *lose*: its mean reward below that of the text it was made of, with an interval that leaves 0 out. The
reference is an easy opponent, because overlap with itself is full; so with the policy's own texts, those are hacked
too, and what would gain there is what training may drift into. That is a warning and no verdict: a policy's text that
is wrong may well gain from a flip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from radiograd.errors import DataError
from radiograd.lines import read_line
from radiograd.metrics import mean_of
from radiograd.prompts import REDACTED, unredacted
from radiograd.rewards.engine import CombinedReward
from radiograd.rewards.groups import Array, totals
from radiograd.stats import Difference, bootstrap_counts, paired
from radiograd.tables import difference_cell, hundredfold, text
from radiograd.text.edits import HACKS, hacked
from radiograd.text.sections import as_sections
from radiograd.types import REPORT, Case, Sections, Study

SHORTEST: Final = 3
"""Words that a reference must exceed to be probed."""
RESAMPLES: Final = 1000
_EVEN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Probed:
    """One hack of ``n`` texts. ``plain`` and ``hacked`` are mean rewards, ``difference`` hacked - plain, paired.

    ``at_least``: share of texts whose hack has the same reward or a higher one; ``above``: a higher one. ``unscored``
    counts texts to which the hack applies and the reward does not. None without a scored text.
    """

    hack: str
    n: int
    unscored: int
    plain: float | None
    hacked: float | None
    difference: Difference
    at_least: float | None
    above: float | None

    @property
    def verdict(self) -> str:
        """loses, gains, even (the interval holds 0), unscored, or "-" where the hack applies to no text."""
        if not self.n:
            return "unscored" if self.unscored else "-"
        low, high = self.difference.low, self.difference.high
        if high is not None and high < -_EVEN:
            return "loses"
        return "gains" if low is not None and low > _EVEN else "even"


def probe_hacks(
    reward: CombinedReward, cases: Sequence[Case], *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Probed]:
    """Every hack of the candidate of every case against the candidate itself, in the order of ``text.edits.HACKS``.

    The two are one group: what a hack skips is imputed by the candidate's own value, the best that can happen to it.
    The interval is a bootstrap by patient. DataError without cases; ScoringError as the reward raises it.
    """
    if not cases:
        raise DataError("no report to probe the reward with")
    plain = reward.collect(reward.begin(cases))
    found = []
    for number, name in enumerate(HACKS):
        rng = np.random.default_rng([seed, number])
        made = {
            place: done for place, case in enumerate(cases) if (done := hacked(name, case.candidate, rng)) is not None
        }
        table = reward.collect(reward.begin([replace(cases[place], candidate=done) for place, done in made.items()]))
        kept = list(made)
        values, skipped, length = (
            np.stack([a[kept], b], axis=1)
            for a, b in (
                (plain.values_B_K, table.values_B_K),
                (plain.skipped_B_K, table.skipped_B_K),
                (plain.length_B, table.length_B),
            )
        )
        pairs = totals(values, skipped, length, reward.recipe)
        patients = [cases[place].study.patient_id for place in kept]
        found.append(_summed(name, pairs, patients, np.random.default_rng([seed, number, 1]), resamples))
    return found


def failed(found: Iterable[Probed]) -> list[str]:
    """The hacks that do not lose, as far as they apply."""
    return [one.hack for one in found if one.verdict not in ("loses", "-")]


def reference_cases(studies: Iterable[Study], section: str, limit: int) -> list[Case]:
    """The references themselves as candidates: at most ``limit``, abnormal ones where the source says which are.

    As in training (``prompts.alignable``) an impression with a redaction mark is left out; a whole report loses its
    marks, and is left out when a section held nothing else. So are references of at most three words.
    """
    if section == REPORT:
        cleaned = [unredacted(study) for study in studies]
        studies = [study for study in cleaned if study.sections.findings and study.sections.impression]
    usable = [
        study
        for study in studies
        if (reference := study.sections.text(section))
        and len(reference.split()) > SHORTEST
        and REDACTED not in reference
    ]
    abnormal = [study for study in usable if study.normal is False]
    return [Case(s, s.sections.text(section) or "", section) for s in (abnormal or usable)[:limit]]


def read_reports(path: Path, complain: Callable[[str], None]) -> list[Study]:
    """Studies from lines ``{"id", "text"[, "patient"]}`` or ``{"id", "findings", "impression"[, "patient"]}``.

    ``text`` is a report, cut by its headers; one without any is an impression. A line that cannot be used is complained
    of by its number and passed over. DataError without a study.
    """
    found: dict[str, Study] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                study = _study(read_line(line, {"id": (str, int)}))
                if study.study_id in found:
                    raise DataError(f"id {study.study_id} comes again")
            except DataError as error:
                complain(f"{path}, line {number}: {error}; passed over")
            else:
                found[study.study_id] = study
    if not found:
        raise DataError(f"{path} holds no report")
    return list(found.values())


def _study(record: Mapping[str, Any]) -> Study:
    said = {key: value for key in ("text", "findings", "impression") if isinstance(value := record.get(key), str)}
    if "text" in said:
        sections = as_sections(said["text"])
        if sections.findings is None and sections.impression is None:
            sections = Sections(impression=said["text"])
    elif "impression" in said:
        sections = Sections(findings=said.get("findings"), impression=said["impression"])
    else:
        raise DataError('neither "text" nor "impression" is a string')
    key = str(record["id"])
    return Study(key, str(record.get("patient", key)), "reports", sections)


def _summed(name: str, pairs: Array, patients: Sequence[str], rng: np.random.Generator, resamples: int) -> Probed:
    """``pairs``: (n, 2) totals of the plain and the hacked text."""
    known = ~np.isnan(pairs).any(axis=1)
    n, unscored = int(known.sum()), int((~known).sum())
    if not n:
        return Probed(name, 0, unscored, None, None, Difference(None, None, None, None, 0, unscored), None, None)
    plain, done = pairs[known].T
    ones = np.ones(len(pairs))
    difference = paired(
        {"sum": pairs[:, 1], "n": ones},
        {"sum": pairs[:, 0], "n": ones},
        mean_of,
        bootstrap_counts(patients, resamples, rng),
    )
    return Probed(
        name,
        n,
        unscored,
        float(plain.mean()),
        float(done.mean()),
        difference,
        float((done >= plain - _EVEN).mean()),
        float((done > plain + _EVEN).mean()),
    )


# ---- shown -----------------------------------------------------------------------------------------------------------


def table(found: Sequence[Probed], *, of_policy: bool = False) -> str:
    """Columns: texts, mean rewards, their difference, how often the hack does not lose (of a policy's texts: gains)."""
    share = "gains in" if of_policy else "not below in"
    grid = [["hack", "n", "unscored", "policy" if of_policy else "reference", "hacked", "difference", share, ""]]
    for one in found:
        often = one.above if of_policy else one.at_least
        verdict = "WOULD GAIN" if of_policy and one.verdict == "gains" else one.verdict
        if not of_policy and one.verdict in ("even", "gains", "unscored"):
            verdict = f"FAILS ({one.verdict})"
        grid.append(
            [
                one.hack,
                str(one.n),
                str(one.unscored),
                hundredfold(one.plain),
                hundredfold(one.hacked),
                difference_cell(asdict(one.difference)),
                "–" if often is None else f"{hundredfold(often)} %",
                verdict,
            ]
        )
    return text(grid)


def as_json(found: Sequence[Probed]) -> list[dict[str, Any]]:
    """Every number, unrounded, with the verdict."""
    return [{**asdict(one), "verdict": one.verdict} for one in found]
