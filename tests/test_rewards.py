import pytest

from radiograd.errors import ConfigError
from radiograd.metrics import load_metric
from radiograd.rewards import CombinedReward, ScoringError, Term, build_reward, score_cases
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
    assert reward.stats() == {"asked": 6, "computed": 4, "hit_rate": pytest.approx(2 / 6), "cached": 4}


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
