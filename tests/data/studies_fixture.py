"""Small studies and OpenI-like XML of our own wording."""

from __future__ import annotations

from typing import Any

from radiograd.types import Sections, Study


def study(
    study_id: str, findings: str | None = "Lungs are clear.", impression: str | None = "Normal.", **more: Any
) -> Study:
    sections = Sections(findings=findings, impression=impression, comparison=more.pop("comparison", None))
    return Study(study_id, more.pop("patient_id", study_id), "toy", sections, **more)


def distinct_studies(n: int) -> list[Study]:
    """n studies of n patients; no two findings share more than the word "shadow"."""
    return [study(f"s{k:03d}", f"shadow a{k} b{k} c{k}", f"Mass {k}.", normal=k % 2 == 0) for k in range(n)]


def xml(uid: str, abstract: str, majors: tuple[str, ...] = ("normal",), images: tuple[str, ...] = ()) -> str:
    codes = "".join(f"<major>{code}</major>" for code in majors)
    films = "".join(f'<parentImage id="{name}"><caption/></parentImage>' for name in images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="{uid}"/><MedlineCitation><Article>'
        f"<Abstract>{abstract}</Abstract></Article></MedlineCitation><MeSH>{codes}<automatic>x</automatic></MeSH>"
        f"{films}</eCitation>"
    )


def part(label: str, text: str | None) -> str:
    return (
        f'<AbstractText Label="{label}"/>' if text is None else f'<AbstractText Label="{label}">{text}</AbstractText>'
    )
