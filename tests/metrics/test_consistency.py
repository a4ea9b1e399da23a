import pytest

from radiograd.metrics import load_metric
from radiograd.types import Case, Sections, Study

FINDINGS = "Large left pleural effusion. Lungs are otherwise clear. No pneumothorax."


def score(candidate, section="impression", findings=FINDINGS):
    study = Study("s", "p", "toy", Sections(findings=findings, impression="Left effusion."))
    [found] = load_metric("consistency").score([Case(study, candidate, section)])
    return found


@pytest.mark.parametrize(
    ("impression", "expected"),
    [
        ("Left pleural effusion.", 1.0),
        ("Right pleural effusion.", 0.0),  # the side
        ("No pleural effusion.", 0.0),  # the status
        ("No acute cardiopulmonary abnormality.", 0.0),  # beside an acute finding
        ("Left apical pneumothorax.", 0.0),
        ("Healed rib fracture.", 1.0),  # not spoken of in the findings: no contradiction
        ("", 0.0),
    ],
)
def test_an_impression_is_held_against_the_given_findings(impression, expected):
    assert score(impression).value == expected


def test_a_report_is_held_against_its_own_findings():
    assert score("Findings: Right pleural effusion.\nImpression: Right pleural effusion.", "report").value == 1.0
    assert score("Findings: The lungs are clear.\nImpression: Left pneumonia.", "report").value == 0.0
    assert score("Right pleural effusion.", "report").value == 0.0  # no header


def test_without_findings_it_is_not_known():
    assert score("Left effusion.", findings="").why == "the study has no findings"


def test_the_corpus_value_is_the_share():
    metric = load_metric("consistency")
    scores = [score(text) for text in ("Left pleural effusion.", "No pleural effusion.")]
    sums = {part: sum(s.parts[part] for s in scores) for part in metric.part_names}
    assert float(metric.combine(sums)) == 0.5
