import pytest

from radiograd.metrics import load_metric
from radiograd.types import Case, Sections, Study


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [
        ("no acute disease", "no acute disease", 1.0),
        ("no acute disease", "effusion present here", 1.0),  # words are not looked at
        ("one two three four", "one", 0.25),  # 1 / 4
        ("one", "one two three four", 0.25),  # the same the other way round
        ("one two", "", 0.0),
        ("one two", " \n ", 0.0),
    ],
)
def test_shorter_over_longer_in_words(reference, candidate, expected):
    study = Study("s", "p", "toy", Sections(impression=reference))
    [score] = load_metric("length_ratio").score([Case(study, candidate)])
    assert score.value == expected


def test_it_is_held_against_the_section_the_case_names():
    study = Study("s", "p", "toy", Sections(findings="one two", impression="one"))
    [score] = load_metric("length_ratio").score([Case(study, "a b", section="findings")])
    assert score.value == 1.0
