"""Generated reports are cut by their headers; what cannot be cut is said, not guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.text.generated import Cut, cut
from radiograd.types import Sections

PROSE = st.lists(
    st.sampled_from(["The heart is normal.", "No effusion.", "Small left nodule.", "Lungs are clear."]), min_size=1
).map(" ".join)


def test_both_sections_by_their_headers() -> None:
    found = cut("Findings: Small left effusion.\nImpression: Effusion.")
    assert found == Cut("Small left effusion.", "Effusion.", ambiguous=False)
    assert found.whole


@given(findings=PROSE, impression=PROSE)
def test_a_reference_report_is_cut_back_into_its_sections(findings: str, impression: str) -> None:
    report = Sections(findings=findings, impression=impression).report
    assert report is not None
    assert cut(report) == (findings, impression, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Cut(None, None, True)),
        ("The lungs are clear.", Cut(None, None, True)),
        ("Findings: Clear.", Cut("Clear.", None, False)),
        ("Impression: Normal.", Cut(None, "Normal.", False)),
        ("Findings: Clear.\nImpression:", Cut("Clear.", "", False)),
        ("Impression: Normal.\nFindings: Clear.", Cut("Clear.", "Normal.", False)),
        ("Findings: Clear.\nImpression: A.\nImpression: B.", Cut("Clear.", "B.", True)),
        ("Findings and impression: Clear.", Cut(None, None, True)),
    ],
)
def test_headers_that_are_missing_empty_or_twice(text: str, expected: Cut) -> None:
    assert cut(text) == expected
    assert cut(text).whole is (text == "Impression: Normal.\nFindings: Clear.")
