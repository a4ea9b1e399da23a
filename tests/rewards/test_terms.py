from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.config import REWARD_PRESETS
from radiograd.judges.builtin import load_judge
from radiograd.judges.protocol import Verdict
from radiograd.metrics import load_metric
from radiograd.metrics.factgraph import facts_of
from radiograd.rewards import build_reward, totals
from radiograd.rewards.terms import Consistent, DiagnosticF1, Domain, ImpressionF1, ImpressionF1All, Syntax, present
from radiograd.types import Case, Sections, Study

FINDINGS = "Heart size is enlarged. Small left pleural effusion. No pneumothorax."
IMPRESSION = "Cardiomegaly with small left pleural effusion."
STUDY = Study("s", "p", "toy", Sections(findings=FINDINGS, impression=IMPRESSION))


def report(findings: str | None = FINDINGS, impression: str | None = IMPRESSION) -> Case:
    parts = [f"Findings: {findings}"] if findings is not None else []
    return Case(
        STUDY, "\n".join([*parts, *([f"Impression: {impression}"] if impression is not None else [])]), "report"
    )


def impression(text: str, study: Study = STUDY) -> Case:
    return Case(study, text)


def value(term: object, case: Case) -> float | None:
    [score] = term.score([case])  # type: ignore[attr-defined]
    return score.value


class Asked:
    """A judge that says yes, and keeps what it was asked."""

    signature = "judge=asked"

    def __init__(self) -> None:
        self.questions: list[tuple[str | None, str]] = []

    def consistent(self, questions):
        self.questions += [(q.findings, q.text) for q in questions]
        return [Verdict(True) for _ in questions]


# ---- syntax ----------------------------------------------------------------------------------------------------------


def test_syntax_is_the_mean_of_bleu4_and_rouge_l_on_the_whole_text():
    case = report(impression="Normal.")
    [score] = Syntax().score([case])
    parts = {name: value(load_metric(name), case) for name in ("bleu4", "rougeL")}
    assert score.parts == parts
    assert score.value == pytest.approx(sum(parts.values()) / 2)
    assert value(Syntax(), report()) == 1.0
    assert value(Syntax(), Case(STUDY, "", "report")) == 0.0


def test_syntax_of_two_words_in_four():
    # words 2 of 2 and 2 of 4; BLEU: orders 1 and 2 are perfect, brevity exp(1 - 4 / 2); ROUGE-L: 2 * 1 * .5 / 1.5
    study = Study("s", "p", "toy", Sections(impression="stable enlarged heart size"))
    assert value(Syntax(), impression("stable enlarged", study)) == pytest.approx((2.718281828**-1 + 2 / 3) / 2)


# ---- domain ----------------------------------------------------------------------------------------------------------


def test_domain_of_a_report_looks_at_its_findings_only():
    assert value(Domain(), report(impression="Large right pneumothorax.")) == 1.0
    assert value(Domain(), report(findings="Heart size is enlarged.")) == pytest.approx(
        value(load_metric("factgraph_complete"), Case(STUDY, "Heart size is enlarged.", "findings"))
    )
    assert 0 < value(Domain(), report(findings="Heart size is enlarged.")) < 1


def test_domain_of_an_impression_looks_at_the_impression():
    assert value(Domain(), impression(IMPRESSION)) == 1.0
    assert value(Domain(), impression(FINDINGS)) < 1.0


def test_domain_sees_a_side():
    assert value(Domain(), impression(IMPRESSION.replace("left", "right"))) < 1.0


def test_without_a_findings_header_there_is_no_domain_to_be_right_about():
    assert value(Domain(), report(findings=None)) == 0.0
    assert value(Domain(), Case(STUDY, f"{FINDINGS} {IMPRESSION}", "report")) == 0.0


# ---- consistent ------------------------------------------------------------------------------------------------------


def test_a_report_is_held_against_its_own_findings_and_an_impression_against_the_given_ones():
    judge = Asked()
    assert value(Consistent(judge), report("Clear lungs.", "Normal.")) == 1.0
    assert value(Consistent(judge), impression("Normal.")) == 1.0
    assert judge.questions == [("Clear lungs.", "Normal."), (FINDINGS, "Normal.")]


def test_the_rules_call_a_contradiction_minus_1():
    term = Consistent(load_judge("rules"))
    assert value(term, report("There is a large right pneumothorax.", "No pneumothorax.")) == -1.0
    assert value(term, report("There is a large right pneumothorax.", "Large right pneumothorax.")) == 1.0


@pytest.mark.parametrize(
    "case",
    [report(findings=None), report(impression=None), report(findings=""), report(impression=""), impression(" ")],
    ids=["no findings", "no impression", "empty findings", "empty impression", "an empty impression alone"],
)
def test_what_cannot_follow_is_minus_1_and_no_judge_is_asked(case):
    judge = Asked()
    assert value(Consistent(judge), case) == -1.0
    assert judge.questions == []


def test_findings_that_were_never_given_leave_an_impression_unscored():
    study = Study("s", "p", "toy", Sections(impression=IMPRESSION))
    [score] = Consistent(Asked()).score([impression("Normal.", study)])
    assert (score.value, score.skipped, score.why) == (None, False, "the study has no findings")


def test_the_same_question_is_asked_once():
    judge = Asked()
    other = Study("other", "p", "toy", Sections(findings=FINDINGS, impression="Normal."))
    Consistent(judge).score([impression("Normal."), impression("Normal."), impression("Normal.", other)])
    assert judge.questions == [(FINDINGS, "Normal.")]


# ---- impression_f1 ---------------------------------------------------------------------------------------------------


def test_macro_f1_of_one_report_is_the_share_of_agreement():
    """Cardiomegaly and effusion against effusion and atelectasis.

    F1 by label: effusion 2 * 1 / (2 * 1) = 1, cardiomegaly (missed) 0 / 1 = 0, atelectasis (invented) 0 / 1 = 0.
    Over the labels of either side (1 + 0 + 0) / 3; over all 14, with 0/0 := 1 for the 11 that nobody has, 12 / 14.
    """
    case = impression("Left pleural effusion and atelectasis.")
    [score] = ImpressionF1().score([case])
    assert score.value == pytest.approx(1 / 3)
    assert score.parts == {"tp": 1, "fp": 1, "fn": 1}
    assert value(ImpressionF1All(), case) == pytest.approx(12 / 14)
    assert ImpressionF1().agreement(STUDY, case.candidate) == (
        ("Pleural Effusion",),
        ("Atelectasis",),
        ("Cardiomegaly",),
    )


def test_uncertain_is_not_present():
    study = Study("s", "p", "toy", Sections(findings="x", impression="Possible pneumonia."))
    assert value(ImpressionF1(), impression("Possible pneumonia.", study)) == 1.0  # nothing on either side
    assert value(ImpressionF1(), impression("Pneumonia.", study)) == 0.0


@pytest.mark.parametrize("term", [ImpressionF1(), ImpressionF1All()])
def test_an_empty_impression_is_right_about_nothing(term):
    study = Study("s", "p", "toy", Sections(findings="x", impression="Emphysema."))  # no label of the 14
    assert value(term, impression("Emphysema.", study)) == 1.0
    assert value(term, impression(" ", study)) == 0.0
    assert value(term, Case(study, "Findings: x\nImpression:", "report")) == 0.0


def test_a_report_is_cut_and_its_impression_alone_counts():
    assert value(ImpressionF1(), report(findings="Large right pneumothorax.")) == 1.0
    assert value(ImpressionF1(), report(impression="No acute abnormality.")) == 0.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"Findings: {FINDINGS}", "the report has no Impression header"),
        (f"{FINDINGS} {IMPRESSION}", "the report has no Impression header"),
        (f"Findings: {FINDINGS}\nImpression: Normal.\nImpression: {IMPRESSION}", "the report's headers are ambiguous"),
    ],
)
def test_a_report_whose_impression_cannot_be_found_is_skipped(text, why):
    [score] = ImpressionF1().score([Case(STUDY, text, "report")])
    assert (score.value, score.skipped, score.why) == (None, True, why)


def test_an_impression_alone_is_never_skipped():
    [score] = ImpressionF1().score([impression("Findings: a\nImpression: b\nImpression: c")])
    assert not score.skipped


def test_without_an_impression_to_be_like_it_is_unscored_and_not_skipped():
    study = Study("s", "p", "toy", Sections(findings=FINDINGS))
    for section in ("impression", "report"):
        [score] = ImpressionF1().score([Case(study, "Normal.", section)])
        assert (score.skipped, score.why) == (False, "the study has no impression")


def test_a_reference_is_read_once_however_many_candidates_there_are():
    facts_of.cache_clear()
    present.cache_clear()
    texts = [f"Small effusion of {k} mm." for k in range(5)]
    for _ in range(2):
        Domain().score([impression(text) for text in texts])
        ImpressionF1().score([impression(text) for text in texts])
    assert facts_of.cache_info().misses == 5 + 1
    assert present.cache_info().misses == 5 + 1


# ---- all of it -------------------------------------------------------------------------------------------------------


def hierarchical(**how):
    return build_reward(REWARD_PRESETS["hierarchical"], judge=lambda: load_judge("rules"), **how)


def test_the_reference_itself_has_the_highest_reward_there_is():
    reward = hierarchical()
    assert [score.value for score in reward.score([report(), impression(IMPRESSION)])] == [1.0, 1.0]


def test_leaving_the_header_out_is_worse_than_any_impression_under_it():
    reward = hierarchical()
    texts = [f"Findings: {FINDINGS}\n{IMPRESSION}"]
    texts += [report(impression=text).candidate for text in (IMPRESSION, "No acute abnormality.", "Pneumothorax.")]
    table = reward.collect(reward.begin([Case(STUDY, text, "report") for text in texts]))
    assert table.skipped_B_K.tolist() == [[False, False, False, True], *[[False] * 4] * 3]
    found = totals(table.values_B_K[None], table.skipped_B_K[None], table.length_B[None], reward.recipe)[0]
    assert found[0] < min(found[1:])


@given(st.text(max_size=60), st.sampled_from(["impression", "report"]))
def test_any_text_is_scored_within_bounds(text, section):
    [score] = hierarchical().score([Case(STUDY, text, section)])
    assert -0.75 <= score.value <= 1.0


def test_chance_is_the_same_for_the_same_text_of_the_same_study_and_even_over_texts() -> None:
    reward = build_reward({"chance": 1.0})
    cases = [impression(f"text {number}") for number in range(2000)]
    drawn = [score.value or 0.0 for score in reward.score(cases)]
    assert [score.value for score in reward.score(cases[::-1])] == drawn[::-1]
    assert reward.score([impression("text 0", replace(STUDY, study_id="t"))])[0].value != drawn[0]
    assert 0.47 < sum(drawn) / len(drawn) < 0.53  # 4.6 standard errors of 0.0065
    assert 0.07 < sum((one - 0.5) ** 2 for one in drawn) / len(drawn) < 0.097  # 1 / 12


def test_diagnostic_f1_counts_what_is_present_on_either_side() -> None:
    term = DiagnosticF1()
    reference = "Moderate left pleural effusion. Cardiomegaly. No pneumothorax."

    def f1(candidate: str) -> float | None:
        return value(term, impression(candidate, replace(STUDY, sections=Sections(impression=reference))))

    assert f1("Cardiomegaly. Left pleural effusion.") == 1.0
    assert f1("Cardiomegaly.") == pytest.approx(2 / 3)  # tp 1, fn 1
    assert f1("Cardiomegaly. Pneumothorax.") == pytest.approx(1 / 2)  # tp 1, fp 1, fn 1
    assert f1("Possible pleural effusion.") == 0.0  # uncertain is not present
    assert f1("") == 0.0


def test_diagnostic_f1_of_two_texts_that_state_nothing_for_sure_is_1() -> None:
    study = replace(STUDY, sections=Sections(impression="Possible pleural effusion."))
    term = DiagnosticF1()
    assert term.positives("Possible pneumothorax.") == frozenset()
    assert value(term, impression("Possible pneumothorax.", study)) == 1.0
