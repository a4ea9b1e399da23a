"""What every built-in metric promises."""

import numpy as np
import pytest

from radiograd.metrics import METRIC_ATTRIBUTES, load_metric
from radiograd.metrics.builtin import METRICS
from radiograd.stats import bootstrap_counts, interval
from radiograd.types import Case, Sections, Study

REFERENCES = [
    "No acute cardiopulmonary abnormality.",
    "Stable cardiomegaly without pulmonary edema.",
    "1. Small right pleural effusion. 2. No pneumothorax.",
    "Low lung volumes with bibasilar atelectasis, no focal consolidation.",
    "Hyperinflated lungs consistent with emphysema.",
    "Normal heart size and clear lungs.",
]
CANDIDATES = [
    "No acute cardiopulmonary process.",
    "Cardiomegaly.",
    "Small left pleural effusion and no pneumothorax is seen.",
    "",
    "Hyperinflated lungs consistent with emphysema.",
    "acute osseous findings of the spine",
]
every_metric = pytest.mark.parametrize("name", sorted(METRICS))


def case(i, reference, candidate):
    return Case(Study(f"s{i}", f"p{i // 2}", "toy", Sections(impression=reference)), candidate)


def cases():
    return [case(i, r, c) for i, (r, c) in enumerate(zip(REFERENCES, CANDIDATES, strict=True))]


def part_columns(metric, scores):
    return {part: np.array([s.parts.get(part, np.nan) for s in scores]) for part in metric.part_names}


@every_metric
def test_it_is_a_whole_metric_under_its_own_name(name):
    metric = load_metric(name)
    assert all(hasattr(metric, attribute) for attribute in METRIC_ATTRIBUTES)
    assert metric.name == name
    assert metric.signature.startswith(f"{name}|")


@every_metric
def test_the_reference_itself_scores_1(name):
    scores = load_metric(name).score([case(i, text, text) for i, text in enumerate(REFERENCES)])
    assert [s.value for s in scores] == [1.0] * len(REFERENCES)


@every_metric
def test_every_value_lies_between_0_and_1(name):
    assert all(0.0 <= s.value <= 1.0 for s in load_metric(name).score(cases()))


@every_metric
def test_a_score_depends_neither_on_its_batch_nor_on_its_order(name):
    metric = load_metric(name)
    together = metric.score(cases())
    assert [metric.score([c])[0] for c in cases()] == together
    assert metric.score(cases()[::-1])[::-1] == together
    assert metric.score(cases() * 40) == together * 40
    assert load_metric(name).score(cases()) == together


@every_metric
@pytest.mark.parametrize("candidate", ["", "  \n"])
def test_an_empty_candidate_is_scored_0(name, candidate):
    [score] = load_metric(name).score([case(0, REFERENCES[0], candidate)])
    assert score.value == 0.0
    assert set(score.parts) == set(load_metric(name).part_names)


@every_metric
@pytest.mark.parametrize(("reference", "why"), [(None, "no impression"), ("", "empty"), (" \n", "empty")])
def test_a_missing_or_empty_reference_is_unscored_with_a_reason(name, reference, why):
    first, second = load_metric(name).score([case(0, reference, "text"), case(1, REFERENCES[1], "text")])
    assert first.value is None
    assert why in first.why
    assert second.value is not None


@every_metric
def test_no_cases_give_no_scores(name):
    assert load_metric(name).score([]) == []


@every_metric
def test_the_interval_brackets_the_value(name):
    metric = load_metric(name)
    columns = part_columns(metric, metric.score(cases()))
    counts = bootstrap_counts([c.study.patient_id for c in cases()], 500, np.random.default_rng(1))
    found = interval(columns, metric.combine, counts)
    assert found.low <= found.value <= found.high
    assert (found.n, found.unscored) == (len(REFERENCES), 0)


@every_metric
def test_summed_parts_give_the_value_of_the_whole_set_and_of_any_half(name):
    metric = load_metric(name)
    scores = metric.score(cases())
    columns = part_columns(metric, scores)
    half = np.array([1.0, 0.0, 2.0, 0.0, 1.0, 0.0])
    both = metric.combine({part: np.stack([column.sum(), half @ column]) for part, column in columns.items()})
    chosen = [cases()[i] for i in (0, 2, 2, 4)]
    np.testing.assert_allclose(both, [direct(metric, cases()), direct(metric, chosen)], rtol=1e-12)


def direct(metric, cases):
    """The corpus value by the official scorer, or the mean over cases."""
    if metric.name.startswith("bleu"):
        from sacrebleu.metrics import BLEU

        scorer = BLEU(max_ngram_order=int(metric.name[-1]))
        return scorer.corpus_score([c.candidate for c in cases], [[c.reference for c in cases]]).score / 100
    return np.mean([score.value for score in metric.score(cases)])
