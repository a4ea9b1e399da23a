"""What every built-in metric promises."""

import numpy as np
import pytest

from radiograd.assets import is_cached
from radiograd.errors import RadiogradError
from radiograd.metrics import MEAN_PARTS, METRIC_ATTRIBUTES, load_metric
from radiograd.metrics.builtin import METRICS, MODELS, RULES
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
ENCODED = {"bertscore", "embedscore"}
"""They run a real encoder: the same to rounding, not to the last bit."""


def present(name):
    """The metric as a parameter; skipped with the reason where the encoder it needs is not here."""
    missing = name in ENCODED and not is_cached("minilm")
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason="needs: radiograd fetch minilm"))


every_metric = pytest.mark.parametrize("name", [present(name) for name in sorted({*RULES, *ENCODED})])

CONDITIONAL = {"keywords", "statements", "laterality", "severity", "negation"}
"""They compare what a reference may not state at all (a side, a severity): then unscored, with the reason."""


def case(i, reference, candidate):
    return Case(Study(f"s{i}", f"p{i // 2}", "toy", Sections("Two views of the chest.", reference)), candidate)


def cases():
    return [case(i, r, c) for i, (r, c) in enumerate(zip(REFERENCES, CANDIDATES, strict=True))]


def loaded(name):
    metric = load_metric(name)
    if hasattr(metric, "prepare"):
        metric.prepare(REFERENCES)
    return metric


def part_columns(metric, scores):
    return {part: np.array([s.parts.get(part, np.nan) for s in scores]) for part in metric.part_names}


def better_or_equal(metric, a, b):
    return a >= b - 1e-9 if metric.higher_is_better else a <= b + 1e-9


@every_metric
def test_it_is_a_whole_metric_under_its_own_name(name):
    metric = load_metric(name)
    assert all(hasattr(metric, attribute) for attribute in METRIC_ATTRIBUTES)
    assert metric.name == name
    assert metric.signature.startswith(f"{name}|")


@every_metric
def test_the_reference_itself_scores_best(name):
    metric = loaded(name)
    for i, reference in enumerate(REFERENCES):
        itself, *others = metric.score([case(i, reference, text) for text in (reference, *REFERENCES, *CANDIDATES)])
        if itself.value is None:
            assert name in CONDITIONAL
            assert itself.why
            continue
        assert all(other.value is None or better_or_equal(metric, itself.value, other.value) for other in others)
        if getattr(metric, "bounds", (0.0, 1.0)) == (0.0, 1.0):
            assert itself.value == (1.0 if metric.higher_is_better else 0.0) or name.startswith("factgraph")


@every_metric
def test_every_value_lies_between_its_bounds(name):
    metric = loaded(name)
    low, high = getattr(metric, "bounds", (0.0, 1.0))
    assert all(s.value is None or low <= s.value <= high for s in metric.score(cases()))


@every_metric
def test_a_score_depends_neither_on_its_batch_nor_on_its_order(name):
    metric = loaded(name)
    together = metric.score(cases())
    if name in ENCODED:
        values = [s.value for s in together]
        assert [metric.score([c])[0].value for c in cases()] == pytest.approx(values, abs=1e-5)
        assert [s.value for s in metric.score(cases()[::-1])][::-1] == pytest.approx(values, abs=1e-5)
        return
    assert [metric.score([c])[0] for c in cases()] == together
    assert metric.score(cases()[::-1])[::-1] == together
    assert metric.score(cases() * 40) == together * 40
    assert loaded(name).score(cases()) == together


@every_metric
@pytest.mark.parametrize("candidate", ["", "  \n"])
def test_an_empty_candidate_is_scored_0(name, candidate):
    metric = loaded(name)
    [score] = metric.score([case(0, "Small left pleural effusion. No pneumothorax.", candidate)])
    assert score.value == 0.0
    assert set(score.parts) == set(metric.part_names)


@every_metric
@pytest.mark.parametrize(("reference", "why"), [(None, "no impression"), ("", "empty"), (" \n", "empty")])
def test_a_missing_or_empty_reference_is_unscored_with_a_reason(name, reference, why):
    whole = "Small left pleural effusion."
    first, second = loaded(name).score([case(0, reference, whole), case(1, whole, whole)])
    assert first.value is None
    assert why in first.why
    assert second.value is not None


@every_metric
def test_no_cases_give_no_scores(name):
    assert load_metric(name).score([]) == []


@every_metric
def test_the_interval_brackets_the_value(name):
    metric = loaded(name)
    columns = part_columns(metric, metric.score(cases()))
    counts = bootstrap_counts([c.study.patient_id for c in cases()], 500, np.random.default_rng(1))
    found = interval(columns, metric.combine, counts)
    assert found.low <= found.value <= found.high
    assert found.n + found.unscored == len(REFERENCES)
    assert found.unscored == 0 or name in CONDITIONAL


@every_metric
def test_summed_parts_give_the_value_of_the_whole_set_and_of_any_half(name):
    metric = loaded(name)
    if not name.startswith("bleu") and metric.part_names != MEAN_PARTS:
        pytest.skip("its corpus value is tested by hand beside it")
    scores = metric.score(cases())
    columns = {part: np.nan_to_num(column) for part, column in part_columns(metric, scores).items()}
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
    return np.mean([score.value for score in metric.score(cases) if score.value is not None])


@pytest.mark.parametrize("name", sorted(set(MODELS) - ENCODED))
def test_without_its_weights_or_program_a_metric_says_what_to_write_where(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RADIOGRAD_CACHE", str(tmp_path))
    with pytest.raises(RadiogradError, match=r"is not set up on this machine: write '.*tools.yaml"):
        load_metric(name)


def test_the_two_kinds_of_metrics_make_all():
    assert {**RULES, **MODELS} == METRICS
