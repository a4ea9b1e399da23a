import re
import subprocess
import sys
import time

import numpy as np
import pytest

from radiograd.config import parse_config
from radiograd.errors import ConfigError, JudgeError
from radiograd.judges.protocol import Verdict
from radiograd.metrics import load_metric
from radiograd.rewards import (
    CombinedReward,
    Recipe,
    ScoringError,
    Term,
    build_reward,
    phase_weights,
    reward_of,
    score_cases,
)
from radiograd.types import Case, Score, Sections, Study


def case(candidate, study_id="s", reference="no acute disease"):
    return Case(Study(study_id, study_id, "toy", Sections(impression=reference)), candidate)


def half(cases):
    """A user's own term."""
    return [Score(0.5) for _ in cases]


def unsure(cases):
    """Scores only texts that say something."""
    return [Score(1.0) if c.candidate else Score(None, why="nothing said") for c in cases]


def broken(cases):
    return [Score(1 / len(c.candidate)) for c in cases]


class Quiet:
    """A class with the score method only."""

    def score(self, cases):
        return [Score(1.0) for _ in cases]


class Errors(Quiet):
    higher_is_better = False


NUMBER = 3


def counted(calls):
    def term(cases):
        calls.append([c.candidate for c in cases])
        return [Score(len(c.candidate) / 10) for c in cases]

    return Term("counted", term, 1.0, "counted")


def test_the_value_is_the_weighted_sum_over_the_sum_of_weights():
    reward = build_reward({"length_ratio": 3.0, f"{__name__}:half": 1.0})
    [score] = reward.score([case("no disease today at all")])
    assert score.value == pytest.approx((3 * 3 / 5 + 1 * 0.5) / 4)  # three words held against five
    assert score.parts == {"length_ratio": 0.6, f"{__name__}:half": 0.5}


def test_perfect_terms_give_exactly_1_whatever_the_weights():
    reward = build_reward({"rougeL": 0.7, "bleu2": 0.1, "length_ratio": 0.2})
    assert reward([case("no acute disease")])[0].value == 1.0


def test_calling_it_is_scoring():
    reward = build_reward({"rougeL": 1.0})
    assert reward([case("no disease")]) == reward.score([case("no disease")])


def test_a_function_a_class_and_a_metric_may_be_terms():
    names = {f"{__name__}:half": 1.0, f"{__name__}:Quiet": 1.0, "rouge1": 1.0}
    assert build_reward(names).score([case("no acute disease")])[0].value == pytest.approx(2.5 / 3)


def test_an_unscored_term_makes_the_whole_unscored_and_is_named():
    reward = build_reward({"length_ratio": 1.0, f"{__name__}:unsure": 1.0})
    silent, spoken = reward.score([case(""), case("no acute disease")])
    assert silent.value is None
    assert silent.why == f"{__name__}:unsure: nothing said"
    assert silent.parts == {"length_ratio": 0.0}
    assert spoken.value == 1.0


def test_a_term_of_weight_0_is_logged_and_decides_nothing():
    reward = build_reward({"length_ratio": 1.0, f"{__name__}:unsure": 0.0})
    silent, spoken = reward.score([case(""), case("no acute disease")])
    assert (silent.value, silent.parts) == (0.0, {"length_ratio": 0.0})
    assert (spoken.value, spoken.parts) == (1.0, {"length_ratio": 1.0, f"{__name__}:unsure": 1.0})


def test_a_missing_reference_is_unscored_not_0():
    [score] = build_reward({"rougeL": 1.0}).score([case("text", reference=None)])
    assert (score.value, score.why) == (None, "rougeL: the study has no impression")


def test_the_same_text_for_the_same_study_is_scored_once():
    calls = []
    reward = CombinedReward([counted(calls)])
    scores = reward.score([case("aa"), case("b"), case("aa"), case("aa", study_id="other")])
    assert [s.value for s in scores] == [0.2, 0.1, 0.2, 0.2]
    assert calls == [["aa", "b", "aa"]]
    reward.score([case("b"), case("cc")])
    assert calls[1:] == [["cc"]]
    found = reward.stats()
    assert {name: found[name] for name in ("asked", "computed", "cached")} == {"asked": 6, "computed": 4, "cached": 4}
    assert found["hit_rate"] == pytest.approx(2 / 6)
    assert 0 <= found["local_s"] < 0.1


def test_a_batch_of_known_texts_calls_no_term():
    calls = []
    reward = CombinedReward([counted(calls)])
    assert reward.score([case("a")]) == reward.score([case("a")])
    assert len(calls) == 1
    assert CombinedReward([counted(calls)]).score([]) == []


def test_the_cache_is_bounded_and_forgets_the_longest_unused():
    calls = []
    reward = CombinedReward([counted(calls)], cache_size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        reward.score([case(text)])
    assert calls == [["a"], ["b"], ["c"], ["b"]]
    assert reward.stats()["cached"] == 2


def test_a_batch_larger_than_the_cache_is_still_answered_in_full():
    reward = CombinedReward([counted([])], cache_size=1)
    assert [s.value for s in reward.score([case("a"), case("bb"), case("a")])] == [0.1, 0.2, 0.1]


def test_an_unscored_text_is_asked_again():
    replies = iter([Score(None, why="timed out"), Score(0.5)])
    reward = CombinedReward([Term("judge", lambda cases: [next(replies)], 1.0, "judge")])
    assert [reward.score([case("a")])[0].value for _ in range(3)] == [None, 0.5, 0.5]


def test_a_failing_term_is_named_without_the_text():
    reward = build_reward({f"{__name__}:broken": 1.0})
    with pytest.raises(ScoringError, match=r"broken' failed with ZeroDivisionError on 2 cases \(first: s\)") as error:
        reward.score([case("secret words"), case("")])
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("answer", [[0.5], None, Score(0.5), (Score(0.5),)])
def test_an_answer_that_is_no_list_of_scores_is_refused(answer):
    with pytest.raises(ScoringError, match=r"reward term 'mine' must return a list of radiograd.Score"):
        score_cases("reward term 'mine'", lambda cases: answer, [case("a")])


def test_a_wrong_number_of_scores_is_refused():
    with pytest.raises(ScoringError, match="returned 1 scores for 2 cases"):
        score_cases("it", lambda cases: [Score(0.5)], [case("a"), case("b")])


def test_a_value_that_is_not_a_number_becomes_unscored():
    [score] = score_cases("it", lambda cases: [Score(float("nan"))], [case("a")])
    assert (score.value, score.why) == (None, "not a finite number")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "at least one term"),
        ({"rougel": 1.0}, "Did you mean 'rougeL'"),
        ({"rougeL": -1.0}, "'rougeL': weight -1.0 is not a number of 0 or more"),
        ({"rougeL": float("nan")}, "weight nan"),
        ({"rougeL": 0.0}, "a weight above 0"),
        ({"no_such_module:thing": 1.0}, "no module named 'no_such_module'"),
        ({f"{__name__}:Errors": 1.0}, "better when lower"),
        ({f"{__name__}:NUMBER": 1.0}, "neither a function"),
    ],
)
def test_a_reward_that_cannot_work_is_refused_before_anything_is_scored(terms, message):
    with pytest.raises(ConfigError, match=message):
        build_reward(terms)


def test_the_signature_quotes_how_a_term_scores_one_case():
    # corpus BLEU is computed without effective order, the sentence BLEU that is paid for with it
    signature = build_reward({"bleu2": 1.0}).signature
    assert signature.startswith("weighted mean|1 * (bleu2|nrefs:1|case:mixed|eff:yes|tok:13a|")
    assert "eff:no" in load_metric("bleu2").signature


def test_the_signature_holds_weights_and_the_terms_own_signatures():
    signature = build_reward({"length_ratio": 0.5, f"{__name__}:half": 0.25}).signature
    assert signature == (
        f"weighted mean|0.5 * (length_ratio|words at white space|raw|mean over cases) + 0.25 * ({__name__}:half)"
    )


# ---- in two steps ----------------------------------------------------------------------------------------------------


class Sleepy:
    """A judge that answers yes after a while, and counts what it was asked."""

    signature = "judge=sleepy"

    def __init__(self, seconds=0.2):
        self.seconds, self.asked = seconds, []

    def consistent(self, questions):
        time.sleep(self.seconds)
        self.asked += [q.text for q in questions]
        return [Verdict(True) for _ in questions]


class Failing(Sleepy):
    error: Exception = JudgeError("the endpoint refused the key")

    def consistent(self, questions):
        raise self.error


class Unsure(Sleepy):
    def consistent(self, questions):
        return [Verdict(None, why="timed out") if "b" in q.text else Verdict(False) for q in questions]


def judged(judge, **terms):
    return build_reward({"length_ratio": 1.0, "consistent": 1.0, **terms}, judge=lambda: judge)


def with_findings(candidate, study_id="s"):
    sections = Sections(findings="Clear lungs.", impression="no acute disease")
    return Case(Study(study_id, study_id, "toy", sections), candidate)


def test_the_judge_is_asked_while_the_caller_does_something_else():
    judge = Sleepy(0.2)
    reward = judged(judge)
    reward.score([with_findings("warm up")])
    pending = reward.begin([with_findings("no disease"), with_findings("disease"), with_findings("no disease")])
    time.sleep(0.2)
    started = time.perf_counter()
    table = reward.collect(pending)
    assert time.perf_counter() - started < 0.1
    assert judge.asked == ["warm up", "no disease", "disease"]
    assert table.values_B_K[:, 0] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert table.values_B_K[:, 1].tolist() == [1.0, 1.0, 1.0]
    assert table.length_B == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert reward.stats()["waiting_s"] < 0.2 + 0.1  # the first was waited for, the second was not


def test_local_terms_are_computed_beside_the_judge():
    def slow(cases):
        time.sleep(0.2)
        return [Score(1.0) for _ in cases]

    judge = Sleepy(0.2)
    terms = [Term("slow", slow, 1.0, "slow"), *judged(judge).terms]
    reward = CombinedReward(terms)
    started = time.perf_counter()
    reward.score([with_findings("no disease")])
    assert time.perf_counter() - started < 0.35
    assert reward.stats()["local_s"] > 0.15
    assert reward.stats()["waiting_s"] < 0.15


def test_begin_asks_for_what_is_not_known_only_and_for_nothing_when_all_is():
    judge = Sleepy(0.0)
    reward = judged(judge)
    reward.score([with_findings("no disease")])
    again = reward.begin([with_findings("no disease")])
    assert not again.asked
    assert reward.collect(again).scores == reward.score([with_findings("no disease")])
    assert judge.asked == ["no disease"]


def test_two_steps_give_what_one_gives():
    cases = [with_findings(text) for text in ("no disease", "", "no acute disease")]
    one, two = judged(Sleepy(0.0)), judged(Sleepy(0.0))
    first = two.begin(cases[:2])
    second = two.begin(cases[1:])
    found = two.collect(second).scores[-1:] + two.collect(first).scores
    assert found == [one.score(cases)[2], *one.score(cases)[:2]]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (JudgeError("the endpoint refused the key"), "'consistent' failed: the endpoint refused the key"),
        (ValueError("secret words"), "'consistent' failed with ValueError on 1 cases"),
        (MemoryError("secret words"), "'consistent' failed: MemoryError"),
    ],
)
def test_what_goes_wrong_in_the_background_is_said_when_it_is_collected(error, said):
    judge = Failing()
    judge.error = error
    reward = judged(judge)
    pending = reward.begin([with_findings("no disease")])
    with pytest.raises(ScoringError, match=re.escape(said)) as raised:
        reward.collect(pending)
    assert "secret" not in str(raised.value)
    assert reward.stats()["cached"] == 0


def test_a_judge_that_does_not_know_leaves_the_case_unscored_and_is_asked_again():
    reward = judged(Unsure())
    table = reward.collect(reward.begin([with_findings("ok"), with_findings("b")]))
    np.testing.assert_array_equal(np.isnan(table.values_B_K), [[False, False], [False, True]])
    assert not table.skipped_B_K.any()
    assert [score.value for score in table.scores] == [pytest.approx((1 / 3 - 1) / 2), None]
    assert table.scores[1].why == "consistent: the judge: timed out"
    assert reward.stats()["cached"] == 1


def test_a_skipped_term_is_no_unscored_one():
    def passing(cases):
        return [Score(None, why="nothing there", skipped=True) for _ in cases]

    reward = CombinedReward([Term("half", half, 1.0, "h"), Term("it", passing, 1.0, "it", lowest=-1.0, skips=True)])
    table = reward.collect(reward.begin([case("a")]))
    assert np.isnan(table.values_B_K).tolist() == [[False, True]]
    assert table.skipped_B_K.tolist() == [[False, True]]
    [score] = table.scores
    assert score.value == pytest.approx((0.5 - 1) / 2 - 0.5)  # alone it is at its lowest, and pays the penalty
    assert score.parts == {"half": 0.5}
    assert reward.stats()["cached"] == 1
    assert reward.signature == "weighted mean|skipped: -0.5|1 * (h) + 1 * (it)"


def test_an_empty_batch_asks_nobody():
    reward = judged(Failing())
    table = reward.collect(reward.begin([]))
    assert (table.values_B_K.shape, table.scores) == ((0, 2), [])


def test_a_pending_that_is_never_collected_lets_the_process_end():
    code = (
        "import time\nfrom radiograd import Case, Sections, Study\nfrom radiograd.rewards import build_reward\n"
        "class Slow:\n    signature = 'slow'\n    def consistent(self, questions):\n        time.sleep(60)\n"
        "case = Case(Study('s', 'p', 'x', Sections(findings='a', impression='b')), 'b')\n"
        "build_reward({'consistent': 1.0}, judge=Slow).begin([case])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


# ---- from a configuration --------------------------------------------------------------------------------------------


def configured(**align):
    return parse_config({"align": align}, "test")


def test_a_judge_is_made_only_where_a_term_needs_one():
    def never():
        raise AssertionError

    assert build_reward({"rougeL": 1.0}, judge=never).score([case("no disease")])[0].value is not None
    with pytest.raises(ConfigError, match=r"'consistent' needs a judge: rewards.reward_of"):
        build_reward({"consistent": 1.0})
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        build_reward({"rougeL": 1.0}, combine="means")


def test_the_reward_of_a_configuration_takes_all_of_it():
    config = configured(reward="hierarchical", combine="worst", format_penalty=0.25, length_control=True)
    reward = reward_of(config)
    assert [term.name for term in reward.terms] == ["syntax", "domain", "consistent", "impression_f1"]
    assert reward.recipe == Recipe((1.0,) * 4, (0.0, 0.0, -1.0, 0.0), "worst", 1.0, 0.25, True)
    start = "lowest|skipped: -0.25|over words/reference words above 1|1 * (syntax|mean of two|bleu4|"
    assert reward.signature.startswith(start)
    for part in ("factgraph_complete", "judge=rules", "chexpert14|present only"):
        assert part in reward.signature


def test_signatures_tell_recipes_apart():
    said = {
        reward_of(configured(reward={"rougeL": 1, "bleu2": 1}, **how)).signature
        for how in (
            {},
            {"combine": "worst"},
            {"combine": "mean_less_spread"},
            {"combine": "mean_less_spread", "spread": 2},
            {"length_control": True},
        )
    }
    assert len(said) == 5


@pytest.mark.parametrize(
    ("align", "said"),
    [
        ({"judge": "rule"}, "no judge is called 'rule'"),
        ({"judge": "rules", "judge_options": {"model": "x"}}, "has no option 'model'"),
        ({"judge": "local", "judge_options": {"modle": "x"}}, "no option 'modle'"),
    ],
)
def test_a_judge_that_cannot_be_is_refused_before_anything_is_scored(align, said):
    with pytest.raises(ConfigError, match=said):
        reward_of(configured(reward="hierarchical", **align))
    reward_of(configured(reward={"rougeL": 1.0}, **align))  # nobody asks it


def test_a_judge_that_loads_a_model_is_not_loaded_yet():
    reward = reward_of(configured(reward="hierarchical", judge="local", judge_options={"model": "no/such-model"}))
    assert len(reward.terms) == 4


def test_credentialed_reports_go_to_no_endpoint_outside():
    values = {
        "data": {"source": "csv", "path": "x.csv"},
        "align": {
            "reward": "hierarchical",
            "judge": "chat",
            "judge_options": {"base_url": "https://192.0.2.1/v1", "model": "m"},
        },
    }
    with pytest.raises(ConfigError, match="credentialed"):
        reward_of(parse_config(values, "test"))


# ---- phases ----------------------------------------------------------------------------------------------------------


def test_other_weights_make_another_total_of_the_same_values() -> None:
    reward = build_reward({"rougeL": 1.0, "bleu1": 0.0})
    (first,) = reward.score([case("no acute finding")])
    reward.reweigh({"bleu1": 1.0, "rougeL": 3.0})
    (later,) = reward.score([case("no acute finding")])
    assert later.parts == first.parts
    assert first.value == first.parts["rougeL"]
    assert later.value == pytest.approx((3 * first.parts["rougeL"] + first.parts["bleu1"]) / 4)
    assert reward.signature != build_reward({"rougeL": 1.0, "bleu1": 0.0}).signature


def test_a_reward_of_other_weights_shares_its_terms_and_leaves_the_first_alone() -> None:
    reward = build_reward({"rougeL": 1.0, "tfidf_overlap": 0.0})
    reward.prepare(["no acute disease", "small effusion"])
    other = reward.reweighed({"tfidf_overlap": 1.0})
    assert [term.metric for term in other.terms] == [term.metric for term in reward.terms]
    assert [term.weight for term in reward.terms] == [1.0, 0.0]
    (score,) = other.score([case("no acute disease")])  # counts documents, and was told them once
    assert score.value == score.parts["tfidf_overlap"]


def test_what_a_term_could_not_score_is_asked_again_once_it_counts() -> None:
    reward = CombinedReward([Term("half", half, 1.0, "half"), Term("unsure", unsure, 0.0, "unsure")])
    assert reward.score([case("")])[0].value == 0.5
    reward.reweigh({"unsure": 1.0})
    (score,) = reward.score([case("")])
    assert score.value is None
    assert "nothing said" in score.why


@pytest.mark.parametrize("weights", [{"meteor": 1.0}, {"rougeL": 0.0}, {}])
def test_weights_of_no_term_are_refused(weights) -> None:
    with pytest.raises(ValueError, match="weights must name"):
        build_reward({"rougeL": 1.0}).reweigh(weights)


def test_a_schedule_has_two_rewards_over_the_same_terms() -> None:
    schedule = {"after": 0.5, "reward": {"bleu2": 3.0, "diagnostic_f1": 1.0}}
    config = parse_config(
        {"align": {"reward": "diagnostic", "rollouts": 5, "reward_schedule": schedule, "guard": {"every": 0}}}, "x"
    )
    weights = {phase: phase_weights(config.grpo, phase) for phase in ("first", "last", "both")}
    assert weights["first"] == {"diagnostic_f1": 1.0, "bleu2": 0.0}
    assert weights["last"] == {"diagnostic_f1": 1.0, "bleu2": 3.0}
    assert weights["both"] == {"diagnostic_f1": pytest.approx(0.625), "bleu2": pytest.approx(0.375)}
    assert config.grpo.second_phase == 3  # of five rollouts the first three are the first half
    for phase, expected in weights.items():
        assert {term.name: term.weight for term in reward_of(config, phase).terms} == expected


def test_without_a_schedule_every_phase_is_the_reward() -> None:
    align = parse_config({"align": {"reward": {"rougeL": 2.0, "bleu1": 0.0}}}, "x").grpo
    assert phase_weights(align, "first") == phase_weights(align, "both") == {"rougeL": 2.0, "bleu1": 0.0}
    assert align.second_phase is None


@pytest.mark.parametrize(("after", "rollouts", "begins"), [(0.5, 2, 1), (0.9, 10, 9), (0.95, 10, None), (0.5, 1, None)])
def test_a_second_reward_without_a_rollout_is_refused(after: float, rollouts: int, begins: int | None) -> None:
    values = {"align": {"rollouts": rollouts, "reward_schedule": {"after": after}}}
    if begins is not None:
        assert parse_config(values, "x").grpo.second_phase == begins
        return
    with pytest.raises(ConfigError, match="none is left for the second reward; lower after, or raise rollouts"):
        parse_config(values, "x")
