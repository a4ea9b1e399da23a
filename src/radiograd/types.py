"""The nouns everything else speaks in. Frozen values; no I/O, no third-party imports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class Status(StrEnum):
    """What a text says of one finding."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"
    UNMENTIONED = "unmentioned"


Labels = Mapping[str, Status]
"""Finding name -> Status, total over one label set."""


@dataclass(frozen=True, slots=True)
class Image:
    """One film of a study. ``path`` may be None when only the identifier is known.

    ``width`` and ``height``: pixels of the film as it was taken, which a copy that was scaled or squashed no longer
    has; None = unknown.
    """

    image_id: str
    path: Path | None = None
    view: str | None = None
    width: int | None = None
    height: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict; :meth:`from_json` gives back an equal Image."""
        size = {"width": self.width, "height": self.height}
        path = None if self.path is None else str(self.path)
        return {"image_id": self.image_id, "path": path, "view": self.view, **size}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Image:
        """The inverse of :meth:`to_json`. KeyError when a field is missing."""
        path = None if row["path"] is None else Path(row["path"])
        return cls(row["image_id"], path, row["view"], row.get("width"), row.get("height"))


@dataclass(frozen=True, slots=True)
class Sections:
    """Report text by section. None = the section is absent; "" = present and empty."""

    findings: str | None = None
    impression: str | None = None
    comparison: str | None = None
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ambiguous: bool = False

    @property
    def report(self) -> str | None:
        """Findings and impression under their headers, as a policy is to write them; None when one is absent."""
        if self.findings is None or self.impression is None:
            return None
        return f"Findings: {self.findings.strip()}\nImpression: {self.impression.strip()}"

    def text(self, name: str) -> str | None:
        """The section called ``name``, or the "report"; KeyError for a name that is not a section."""
        if name == REPORT:
            return self.report
        if name not in SECTION_NAMES:
            raise KeyError(f"no section {name!r}; sections are {', '.join(SECTION_NAMES)}")
        value: str | None = getattr(self, name)
        return value


REPORT = "report"
"""In place of a section: findings and impression together (:attr:`Sections.report`)."""
SECTION_NAMES = ("findings", "impression", "comparison")
SPLITS = ("train", "val", "test")
POLICIES = ("sft", "aligned")
"""Rows that a model of the run wrote, in the order of every table."""


@dataclass(frozen=True, slots=True)
class Study:
    """One examination of one patient with its report.

    ``codes`` are the annotators' codes as the source gives them (OpenI: MeSH majors). ``normal`` is what those codes
    say (None = the source does not say); tables report normal and abnormal studies apart by it. ``site`` is the place
    it counts as from where a run has several (``data/sites.py``). ``critical`` is what the reference report was
    annotated as before training (None = it was not). ``images``: its films, frontal ones first. ``prior``: the
    study_id of the patient's study before it (None = the source knows of none).
    """

    study_id: str
    patient_id: str
    source: str
    sections: Sections
    split: str | None = None
    images: tuple[Image, ...] = ()
    prior: str | None = None
    indication: str | None = None
    codes: tuple[str, ...] = ()
    normal: bool | None = None
    site: str | None = None
    critical: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict for one JSON line; :meth:`from_json` gives back an equal Study."""
        return {
            "study_id": self.study_id,
            "patient_id": self.patient_id,
            "source": self.source,
            "split": self.split,
            "sections": {name: self.sections.text(name) for name in SECTION_NAMES},
            "spans": {name: list(span) for name, span in self.sections.spans.items()},
            "ambiguous": self.sections.ambiguous,
            "images": [image.to_json() for image in self.images],
            "prior": self.prior,
            "indication": self.indication,
            "codes": list(self.codes),
            "normal": self.normal,
            "site": self.site,
            "critical": self.critical,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Study:
        """The inverse of :meth:`to_json`. KeyError when a field is missing."""
        spans = {name: (int(a), int(b)) for name, (a, b) in row["spans"].items()}
        return cls(
            study_id=row["study_id"],
            patient_id=row["patient_id"],
            source=row["source"],
            sections=Sections(**row["sections"], spans=spans, ambiguous=row["ambiguous"]),
            split=row["split"],
            images=tuple(Image.from_json(image) for image in row["images"]),
            prior=row["prior"],
            indication=row["indication"],
            codes=tuple(row["codes"]),
            normal=row["normal"],
            site=row.get("site"),  # rows written before there were these have none
            critical=row.get("critical"),
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One candidate text of one model for one study. ``section`` names the reference it is held against."""

    study: Study
    candidate: str
    section: str = "impression"

    @property
    def reference(self) -> str | None:
        """The radiologist's own text, raw; None when the study has no such section."""
        return self.study.sections.text(self.section)


@dataclass(frozen=True, slots=True)
class Score:
    """``value`` or, when it cannot be known, ``why`` not: exactly one of the two. Unknown is not zero.

    ``parts`` carries what a corpus-level number is recomputed from (matched n-grams, tp / fp / fn). ``skipped``: a
    reward term that the text gives nothing to look at; nobody failed, so it is not unscored either (rewards.groups).
    """

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    why: str | None = None
    skipped: bool = False

    def __post_init__(self) -> None:
        if (self.value is None) == (self.why is None):
            raise ValueError("a Score has exactly one of value and why")
        if self.skipped and self.value is not None:
            raise ValueError("a Score that was skipped has no value")


@dataclass(frozen=True, slots=True)
class Problem:
    """One row, file or study that was passed over. ``where`` is an id, file or line; never report text."""

    where: str
    why: str


class Reward(Protocol):
    """Cases in, one Score each out; a metric's ``score`` is one."""

    def __call__(self, cases: Sequence[Case]) -> list[Score]: ...


class Labeler(Protocol):
    """Texts in, one total label mapping each out."""

    def __call__(self, texts: Sequence[str]) -> list[Labels]: ...
