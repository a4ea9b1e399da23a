"""One section of a whole report, by any metric; and whether a report can be cut at all."""

import pickle

import numpy as np
import pytest

from radiograd.errors import ConfigError
from radiograd.metrics import load_metric
from radiograd.metrics.builtin import RULES
from radiograd.metrics.of_section import OfSection
from radiograd.rewards import build_reward
from radiograd.types import Case, Sections, Study

SECTIONS = Sections(findings="Small left pleural effusion. Heart is normal.", impression="Left pleural effusion.")
STUDY = Study("s", "p", "toy", SECTIONS)
SWAPPED = "Findings: Left pleural effusion.\nImpression: Small left pleural effusion. Heart is normal."


def report(candidate, section="report"):
    return Case(STUDY, candidate, section)


def one(name, *cases):
    return [score.value for score in load_metric(name).score(list(cases))]


def test_each_section_is_held_against_the_same_section():
    # words 2 x 4 shared of 4 + 7: 8 / 11 for findings; 4 of 7 + 4 the other way: the same
    assert one("findings/rouge1", report(SWAPPED)) == pytest.approx([2 * 3 / (3 + 7)])
    assert one("impression/rouge1", report(SWAPPED)) == pytest.approx([2 * 3 / (3 + 7)])
    assert one("rouge1", report(SWAPPED)) == [1.0]  # whole: the same words in another order


def test_a_section_gives_what_the_metric_gives_of_it_alone():
    text = "Findings: Small effusion.\nImpression: Right pleural effusion."
    for name in ("rougeL", "bleu2", "label_f1_14", "factgraph_partial", "fidelity", "length_ratio"):
        alone = one(name, report("Right pleural effusion.", "impression"))
        assert one(f"impression/{name}", report(text)) == alone
        assert one(f"impression/{name}", report("Right pleural effusion.", "impression")) == alone


@pytest.mark.parametrize("name", sorted(set(RULES) - {"hallucinated_prior"}))
def test_a_section_that_is_not_written_scores_0(name):
    metric = load_metric(f"impression/{name}")
    if hasattr(metric, "prepare"):
        metric.prepare([SECTIONS.report, "Findings: Clear.\nImpression: Normal."])
    [score] = metric.score([report("Findings: Small left pleural effusion. Heart is normal.")])
    if score.value is None:
        assert "states no severity" in score.why
    else:
        assert score.value == 0.0


def test_of_two_impressions_the_last_counts():
    text = "Findings: Clear.\nImpression: Left pleural effusion.\nImpression: Normal."
    assert one("impression/rouge1", report(text)) == [0.0]
    assert one("report_format", report(text)) == [0.0]


def test_another_section_is_unscored_and_its_neighbours_are_not():
    first, second = load_metric("findings/rouge1").score([report("x", "impression"), report(SECTIONS.report)])
    assert (first.value, first.why) == (None, "the text is no report but its impression")
    assert second.value == 1.0


def test_a_reference_without_the_section_is_unscored():
    case = Case(
        Study("s", "p", "toy", Sections(impression="Normal.")), "Findings: Clear.\nImpression: Normal.", "report"
    )
    [score] = load_metric("findings/rougeL").score([case])
    assert score.why == "the study has no findings"


def test_words_are_weighed_by_the_sections_of_the_set():
    metric, alone = load_metric("impression/cider"), load_metric("cider")
    reports = [SECTIONS.report, "Findings: Edema.\nImpression: Edema.", "no headers"]
    metric.prepare(reports)
    alone.prepare(["Left pleural effusion.", "Edema."])
    text = "Findings: Clear.\nImpression: Left effusion."
    assert metric.score([report(text)]) == alone.score([report("Left effusion.", "impression")])
    assert metric.signature == f"impression/{alone.signature}"


def test_it_offers_what_the_metric_offers_and_nothing_more():
    assert hasattr(load_metric("impression/cider"), "prepare")
    assert not hasattr(load_metric("impression/rougeL"), "prepare")
    assert load_metric("impression/cider").bounds == load_metric("cider").bounds
    changed = load_metric("impression/bleu4").with_convention("coco")
    assert isinstance(changed, OfSection)
    assert changed.signature == f"impression/{load_metric('bleu4').with_convention('coco').signature}"
    assert pickle.loads(pickle.dumps(load_metric("impression/label_f1_14"))).name == "impression/label_f1_14"


def test_its_corpus_value_is_the_metrics():
    metric = load_metric("impression/label_f1_14")
    assert metric.part_names == ("tp", "fp", "fn")
    assert metric.combine({"tp": np.array(1.0), "fp": np.array(1.0), "fn": np.array(0.0)}) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("impresion/rougeL", "before the / stands findings or impression. Did you mean 'impression'?"),
        ("impression/rougL", "no metric is called 'rougL'. Did you mean 'rougeL'?"),
    ],
)
def test_a_wrong_name_is_refused(name, said):
    with pytest.raises(ConfigError, match="^.*" + said.replace("?", r"\?").replace(".", r"\.")):
        load_metric(name)


def test_a_section_can_be_a_reward_term():
    reward = build_reward({"impression/rouge1": 1.0, "findings/rouge1": 3.0})
    [score] = reward.score([report("Findings: Nothing.\nImpression: Left pleural effusion.")])
    assert score.parts == {"impression/rouge1": 1.0, "findings/rouge1": 0.0}
    assert score.value == 0.25


@pytest.mark.parametrize(
    ("candidate", "value"),
    [
        (SECTIONS.report, 1.0),
        ("IMPRESSION: Normal.\nFINDINGS: Clear.", 1.0),
        ("", 0.0),
        ("Clear lungs.", 0.0),
        ("Findings: Clear.", 0.0),
        ("Findings: Clear.\nImpression:", 0.0),
        ("Findings: Clear.\nFindings: Clear.\nImpression: Normal.", 0.0),
    ],
)
def test_a_report_keeps_the_format_when_both_headers_stand_once_over_text(candidate, value):
    assert one("report_format", report(candidate)) == [value]


def test_of_a_single_section_only_a_text_is_asked():
    assert one("report_format", report("Normal.", "impression"), report(" ", "impression")) == [1.0, 0.0]
