from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.text.edits import EDITS, HACKS, PRIORS, RARE, STUFFING, TEMPLATE, hacked
from radiograd.text.labels import RuleLabeler
from radiograd.types import Status

READ = RuleLabeler("all")


def make(name: str, text: str) -> str | None:
    return EDITS[name].make(text, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "text", "edited"),
    [
        ("negation_flip", "No pneumothorax.", "Pneumothorax."),
        ("negation_flip", "There is a small left effusion.", "There is no small left effusion."),
        ("negation_flip", "Stable cardiomegaly.", "No stable cardiomegaly."),
        ("laterality_flip", "Left effusion. Right lung clear.", "Right effusion. Left lung clear."),
        ("severity_flip", "Small effusion.", "Large effusion."),
        ("severity_flip", "Mildly enlarged heart.", "Severely enlarged heart."),
        ("omission", "Left effusion. No pneumothorax.", "No pneumothorax."),
        ("template", "Left effusion.", TEMPLATE),
        ("repetition", "Left effusion", "Left effusion. Left effusion. Left effusion."),
        ("stuffing", "Normal", f"Normal. {STUFFING}"),
        ("empty", "Left effusion.", ""),
        ("reordering", "1. Effusion. 2. No edema.", "No edema. Effusion."),
        ("paraphrase", "Cardiomegaly.", "Enlarged heart."),
    ],
)
def test_an_edit_does_what_its_name_says(name: str, text: str, edited: str) -> None:
    assert make(name, text) == edited


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("negation_flip", "Normal chest."),
        ("laterality_flip", "Effusion."),
        ("severity_flip", "Effusion."),
        ("omission", "Effusion."),
        ("template", "No effusion."),
        ("reordering", "Effusion."),
        ("paraphrase", "Effusion."),
    ],
)
def test_where_an_edit_does_not_apply_there_is_none(name: str, text: str) -> None:
    assert make(name, text) is None


def test_an_invented_finding_was_not_mentioned_before() -> None:
    text = "Right pneumothorax. No effusion. No mass. No fracture. No pneumonia."
    edited = make("hallucination", text)
    assert edited is not None
    assert "edema" in edited  # all others are mentioned


@pytest.mark.parametrize("name", [name for name, edit in EDITS.items() if not edit.harmful])
def test_a_harmless_edit_leaves_every_finding_as_it_was(name: str) -> None:
    text = "Cardiomegaly without pleural effusion. There is no pneumothorax. Bibasilar opacities may represent edema."
    edited = make(name, text)
    assert edited not in (None, text)
    assert READ([edited or ""]) == READ([text])


@given(
    st.lists(
        st.sampled_from(
            [
                "No",
                ".",
                "small",
                "left",
                "effusion",
                "edema",
                "is",
                "heart",
                "enlarged",
                ",",
                "and",
                "right",
                "may",
                "be",
                "clear",
                "lungs",
                "1",
            ]
        )
    )
)
def test_any_text_is_edited_without_failing_and_flips_really_flip(words: list[str]) -> None:
    text = " ".join(words)
    for name, edit in EDITS.items():
        edited = edit.make(text, np.random.default_rng(0))
        assert edited is None or isinstance(edited, str)
        if name == "negation_flip" and edited is not None:
            (before,), (after,) = READ([text]), READ([edited])
            turned = {(before[f], after[f]) for f in before if before[f] is not after[f]}
            assert turned & {(Status.PRESENT, Status.ABSENT), (Status.ABSENT, Status.PRESENT)}


# ---- hacks -----------------------------------------------------------------------------------------------------------

REPORT = "Findings: Large heart. Small left effusion.\nImpression: Left effusion."


def hack(name: str, text: str) -> str | None:
    return hacked(name, text, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "text", "edited"),
    [
        ("rare_words", "Normal", f"Normal. {RARE}"),
        ("header_omission", REPORT, "Findings: Large heart. Small left effusion.\nLeft effusion."),
        ("header_omission", "FINDINGS: Clear. IMPRESSION: Normal.", "FINDINGS: Clear. Normal."),
        ("laterality_flip", "Left effusion.", "Right effusion."),
        ("laterality_flip", REPORT, "Findings: Large heart. Small right effusion.\nImpression: Right effusion."),
        ("severity_flip", REPORT, "Findings: Small heart. Large left effusion.\nImpression: Left effusion."),
        ("repetition", "Impression: Mass", "Impression: Mass. Mass. Mass."),
        ("template", REPORT, f"Findings: {TEMPLATE}\nImpression: {TEMPLATE}"),
        ("empty", REPORT, ""),
    ],
)
def test_a_hack_of_a_report_stays_a_report(name: str, text: str, edited: str) -> None:
    assert hack(name, text) == edited


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("header_omission", "Left effusion."),
        ("header_omission", "Impression: a.\nImpression: b."),
        ("invented_prior", "Stable cardiomegaly."),
        ("invented_prior", "Compared to the old film, larger."),
        ("template", "Findings: Clear lungs.\nImpression: Normal."),
        ("laterality_flip", "Findings: Large heart.\nImpression: Cardiomegaly."),
    ],
)
def test_where_a_hack_does_not_apply_there_is_none(name: str, text: str) -> None:
    assert hack(name, text) is None


def test_an_invented_prior_claims_a_change_that_our_rules_read_where_it_names_a_finding() -> None:
    from radiograd.metrics import load_metric
    from radiograd.types import Case, Sections, Study

    text = "Small left effusion."
    edited = hack("invented_prior", text)
    assert edited is not None
    assert edited.removeprefix(f"{text} ") in PRIORS
    claims = [f"Small left effusion. {prior}" for prior in PRIORS]
    case = [Case(Study("s", "p", "toy", Sections(impression=text)), claim) for claim in claims]
    assert [score.value for score in load_metric("hallucinated_prior").score(case)] == [0.0, 0.0, 1.0]


def test_the_tables_of_the_metrics_are_made_with_the_edits_as_they_were() -> None:
    assert len(EDITS) == 11
    assert set(HACKS) - set(EDITS) == {"header_omission", "rare_words", "invented_prior"}
    assert all(edit.harmful for edit in HACKS.values())


@given(st.text(alphabet="Findigs: Impreon.\nLeft al", max_size=60), st.sampled_from(sorted(HACKS)))
def test_any_text_is_hacked_without_failing(text: str, name: str) -> None:
    edited = hack(name, text)
    assert edited is None or isinstance(edited, str)
