"""Completions -> weights: what holds for every kind, and what a classifier adds, by hand on one that can be read."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.labelers import bert_twin
from tests.tiny import studies

from radiograd.config import TokenWeightConfig
from radiograd.errors import ConfigError
from radiograd.labelers.classifier import PieceGradients
from radiograd.rl.token_weights import combined, normalise
from radiograd.text.labels import label_set
from radiograd.weighting import Completion, TokenWeigher, agreement, load_classifier
from radiograd.weighting.gradients import Gradients

NAMES = label_set("chexpert14").names
REFERENCES = [study.sections.report for study in studies(60)]
KINDS = ("uniform", "tfidf", "gradient", "combined", "shuffled")
PIECE = re.compile(r"\s*(?:\w{1,4}|[^\w\s])")


class BagOfWords:
    """A classifier that can be worked out by hand: log p_c = the sum of ``effects[c]`` over words, so that the gradient
    of a word times its place is its effect; for several labels their mean."""

    def __init__(self, effects):
        self.effects, self.asked = effects, []

    def input_gradients(self, texts, targets, mode):
        assert mode in ("input_x_grad", "l2norm", "integrated_gradients")
        self.asked += list(zip(texts, targets, strict=True))
        return [self._of(text, target) for text, target in zip(texts, targets, strict=True)]

    def _of(self, text, target):
        words = list(re.finditer(r"\w+|[^\w\s]", text))
        values = [abs(np.mean([self.effects.get((name, w.group().lower()), 0.0) for name in target])) for w in words]
        return PieceGradients(
            np.array([w.span() for w in words], dtype=np.int64).reshape(-1, 2), np.array(values, dtype=np.float64)
        )


EFFECTS = {
    ("Pleural Effusion", "effusion"): 4.0,
    ("Pleural Effusion", "left"): -1.0,
    ("No Finding", "clear"): 2.0,
    ("Pneumothorax", "pneumothorax"): 6.0,
    ("Pneumothorax", "no"): -3.0,
}


def completion(text, study_id="s", pattern=PIECE):
    """Tokens of at most four letters with the blanks before them, and an end token."""
    spans = [match.span() for match in pattern.finditer(text)]
    return Completion(study_id, text, np.array([*spans, (len(text), len(text))], dtype=np.int64))


def weigher(by="combined", classifier=None, seed=7, **options):
    chosen = BagOfWords(EFFECTS) if classifier is None else classifier
    return TokenWeigher(TokenWeightConfig(by=by, **options), REFERENCES, classifier=chosen, seed=seed)


def per_token(weighted, name):
    """Text of a token -> its value, for tokens that wrote something."""
    spans = weighted.completion.offsets
    return {
        weighted.completion.text[a:b].strip(): value
        for (a, b), value in zip(spans, getattr(weighted, name), strict=True)
    }


# ---- the gradient ----------------------------------------------------------------------------------------------------


def test_a_token_gets_the_largest_value_of_the_pieces_it_shares_characters_with():
    words = re.compile(r"\s*\w+ \w+|\s*\w{1,4}")
    [found] = weigher("gradient").weigh([completion("Small left effusion", pattern=words)], ["Small left effusion."])
    # Pleural Effusion is present in both and alone: effusion 4, left |-1|
    assert per_token(found, "gradient") == {"Small left": 1.0, "effu": 4.0, "sion": 4.0, "": 0.0}
    assert found.tfidf is None
    # free tokens 1, 4, 4: cap 4, mean 3, half uniform: 2/3, 7/6, 7/6; the end token 1
    np.testing.assert_allclose(found.weights, [2 / 3, 7 / 6, 7 / 6, 1.0])


def test_targets_are_the_labels_present_in_completion_or_reference_and_no_finding_without_any():
    gradients = Gradients(BagOfWords({}), "input_x_grad")
    texts = ["Left effusion.", "Lungs are clear.", "Possible pneumonia.", "No pneumothorax."]
    references = ["Pneumothorax.", "Lungs are clear.", "Possible edema.", "Small effusion and pneumothorax."]
    assert gradients.targets(texts, references) == [
        ("Pneumothorax", "Pleural Effusion"),
        ("No Finding",),
        ("No Finding",),  # neither has a label that is present: uncertain is not
        ("Pneumothorax", "Pleural Effusion", "No Finding"),
    ]


def test_what_the_reference_has_makes_a_missed_finding_a_target():
    [found] = weigher("gradient").weigh([completion("No pneumothorax.")], ["Right pneumothorax."])
    # targets Pneumothorax (reference) and No Finding (completion): no |-3 + 0| / 2, pneumothorax 6 / 2
    assert per_token(found, "gradient") == {"No": 1.5, "pneu": 3.0, "moth": 3.0, "orax": 3.0, ".": 0.0, "": 0.0}


def test_equal_texts_with_equal_targets_are_asked_about_once():
    classifier = BagOfWords(EFFECTS)
    rows = [completion("Left effusion.", study) for study in "abcd"] + [completion("", "e")]
    found = weigher(classifier=classifier).weigh(rows, ["Effusion.", "Effusion.", "Left effusion.", "Edema.", "Edema."])
    assert classifier.asked == [
        ("Left effusion.", ("Edema", "Pleural Effusion")),
        ("Left effusion.", ("Pleural Effusion",)),
    ]
    np.testing.assert_array_equal(found[0].weights, found[1].weights)
    np.testing.assert_array_equal(found[0].weights, found[2].weights)
    assert found[3].gradient.max() == 2.0  # half of it: Edema has no word here


@pytest.mark.parametrize("mode", ["input_x_grad", "l2norm", "integrated_gradients"])
def test_a_real_classifier_gives_the_gradients_of_its_word_pieces(tmp_path_factory, mode):
    weights = bert_twin.write_chexbert(tmp_path_factory.mktemp("weights"))
    settings_ = TokenWeightConfig(
        by="gradient", labeler="chexbert", gradient=mode, labeler_options={"weights": str(weights), "device": "cpu"}
    )
    classifier = load_classifier(settings_, None)
    text = "The heart is large, no effusion."
    [found] = weigher("gradient", classifier, gradient=mode).weigh([completion(text)], ["Heart is large."])
    [pieces] = classifier.input_gradients([text], [["Cardiomegaly"]], mode)
    of_piece = {text[a:b]: value for (a, b), value in zip(pieces.offsets, pieces.values, strict=True)}
    values = per_token(found, "gradient")
    assert values["hear"] == values["t"] == of_piece["heart"] > 0
    assert values["larg"] == values["e"] == of_piece["large"]
    assert values[","] == values["."] == 0
    free = ~found.fixed
    np.testing.assert_allclose(found.weights[free], normalise([found.gradient], [free])[0][free])


# ---- what holds for every kind ---------------------------------------------------------------------------------------

WORDS = (
    "xyzzy",
    "plugh",
    "No",
    "pleural",
    "effusion",
    "pneumothorax",
    "left",
    "heart",
    "12",
    "clear",
    ".",
    "\nImpression:",
)


@pytest.mark.parametrize("by", KINDS)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), max_size=4),
    reference=st.sampled_from(REFERENCES[:8]),
    bounds=st.sampled_from([(0.5, 0.5, 3.0), (0.0, 0.5, 3.0), (0.0, 0.9, 1.1), (1.0, 0.5, 3.0), (0.2, 1.0, 1.0)]),
)
@settings(max_examples=40, deadline=None)
def test_weights_have_mean_1_are_within_bounds_and_never_turn_a_sign(by, texts, reference, bounds):
    eta, low, high = bounds
    rows = [completion(text.strip()) for text in ["Findings: " + text for text in texts]]
    for found in weigher(by, eta=eta, low=low, high=high).weigh(rows, [reference] * len(rows)):
        assert found.weights.shape == (len(found.completion.offsets),)
        assert found.weights.mean() == pytest.approx(1.0, abs=1e-6)
        assert found.weights.min() >= low > 0
        assert found.weights.max() <= high
        assert (found.weights[found.fixed] == 1.0).all()
        assert found.fixed[-1]  # the end token
        assert per_token(found, "fixed")["Find"]
        if by in ("tfidf", "combined"):
            heaviest_made_up = [
                weight
                for token, weight in zip(tokens(found), found.weights, strict=True)
                if token in ("xyzz", "y", "plug", "h")
            ]
            others = found.weights[~found.fixed & ~np.isin(tokens(found), ["xyzz", "y", "plug", "h"])]
            if heaviest_made_up and others.size:
                assert max(heaviest_made_up) <= others.max() + 1e-12
    assert agreement(weigher(by).weigh(rows, [reference] * len(rows))).keys() <= {
        "effective_share",
        "correlation",
        "evidence",
        "rest",
    }


def tokens(weighted):
    return [weighted.completion.text[a:b].strip() for a, b in weighted.completion.offsets]


def test_uniform_weighs_nothing_and_asks_nobody():
    classifier = BagOfWords(EFFECTS)
    [found] = weigher("uniform", classifier).weigh([completion("Left effusion.")], ["Effusion."])
    assert (found.weights == 1).all()
    assert found.tfidf is None
    assert found.gradient is None
    assert classifier.asked == []


def test_made_up_words_alone_weigh_the_same():
    [found] = weigher("tfidf").weigh([completion("xyzzy plugh. zork")], REFERENCES[:1])
    assert (found.weights == 1).all()


def test_combined_follows_both():
    text = "There is a small left pleural effusion. 12 effusion."
    found = {by: weigher(by).weigh([completion(text)], ["Left effusion."])[0] for by in KINDS}
    both = found["combined"]
    np.testing.assert_array_equal(both.tfidf, found["tfidf"].tfidf)
    np.testing.assert_array_equal(both.gradient, found["gradient"].gradient)
    free = ~both.fixed
    values = found["tfidf"].tfidf[free], found["gradient"].gradient[free]
    np.testing.assert_allclose(both.weights[free], combined(*([v] for v in values), [free[free]])[0])
    for by in ("tfidf", "gradient"):
        assert np.corrcoef(both.weights[free], found[by].weights[free])[0, 1] > 0.5


def test_shuffled_has_the_same_weights_elsewhere_and_draws_the_same_again():
    text = "Findings: There is a small left pleural effusion, no pneumothorax.\nImpression: Left effusion."
    references = ["Left effusion.", "Left effusion.", "Effusion."]
    rows = [completion(text, study) for study in "aab"]
    combined = weigher("combined").weigh(rows, references)
    dealt = weigher("shuffled").weigh(rows, references)
    for one, other in zip(combined, dealt, strict=True):
        np.testing.assert_array_equal(np.sort(one.weights), np.sort(other.weights))
        assert (one.weights != other.weights).any()
        np.testing.assert_array_equal(other.weights[one.fixed], 1.0)
    np.testing.assert_array_equal(dealt[0].weights, dealt[1].weights)  # the same study and text
    assert (dealt[0].weights != dealt[2].weights).any()  # another study
    again = weigher("shuffled").weigh(rows[::-1], references[::-1])[::-1]
    for one, other in zip(dealt, again, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
    odd = completion("no effusion", study_id="s\ud800")  # what a broken file may make of an id
    assert weigher("shuffled").weigh([odd], references[:1])
    [other_seed] = weigher("shuffled", seed=8).weigh(rows[:1], references[:1])
    assert (other_seed.weights != dealt[0].weights).any()


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    from radiograd.labelers.chexbert import CheXbert

    return CheXbert(bert_twin.write_chexbert(tmp_path_factory.mktemp("twin")), device="cpu")


@pytest.mark.parametrize("by", ["combined", "shuffled"])
def test_weights_depend_neither_on_the_order_nor_on_the_company(twin, by):
    texts = [text for text in bert_twin.TEXTS for _ in range(2)]
    rows = [completion(text, f"s{k % 3}") for k, text in enumerate(texts)]
    references = [bert_twin.TEXTS[k % 5] for k in range(len(rows))]
    together = weigher(by, twin).weigh(rows, references)
    backwards = weigher(by, twin).weigh(rows[::-1], references[::-1])[::-1]
    for row, reference, one, other in zip(rows, references, together, backwards, strict=True):
        [alone] = weigher(by, twin).weigh([row], [reference])
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_allclose(one.weights, alone.weights, atol=1e-4)  # rounding of the classifier's batches
        np.testing.assert_array_equal(one.evidence, alone.evidence)


def test_seconds_are_of_the_last_call(twin):
    made = weigher("combined", twin)
    made.weigh([completion("The heart is large.")], ["Edema."])
    assert made.seconds > made.seconds_classifier > 0
    assert made.weigh([], []) == []
    assert made.seconds_classifier < made.seconds < 0.1


def test_the_page_gets_the_spans_of_tokens_that_wrote_something():
    [found] = weigher("uniform").weigh([completion("Clear.")], ["Clear."])
    assert found.spans() == [[0, 4, 1.0], [4, 5, 1.0], [5, 6, 1.0]]


# ---- what is logged --------------------------------------------------------------------------------------------------


def test_agreement_by_hand():
    text = "Left effusion is seen"
    [found] = weigher("combined").weigh([completion(text, pattern=re.compile(r"\s*\w+"))], ["Effusion."])
    assert found.evidence.tolist() == [False, True, False, False, False]
    logged = agreement([found])
    w = found.weights
    assert logged["effective_share"] == pytest.approx(w.sum() ** 2 / (5 * (w**2).sum()))
    assert logged["evidence"] == pytest.approx(w[1])
    assert logged["rest"] == pytest.approx(w[[0, 2, 3]].mean())
    a, b = (np.minimum(v[:4], np.percentile(v[:4], 95)) for v in (found.tfidf, found.gradient))
    assert logged["correlation"] == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_agreement_leaves_out_what_nothing_says_anything_about():
    assert agreement([]) == {}
    [empty] = weigher("combined").weigh([completion("")], ["Effusion."])
    assert agreement([empty]) == {"effective_share": 1.0}
    [uniform] = weigher("uniform").weigh([completion("Is seen")], ["Effusion."])
    assert agreement([uniform]) == {"effective_share": 1.0, "rest": 1.0}


# ---- which classifier ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["gradient", "combined", "shuffled"])
def test_a_gradient_needs_a_classifier(by):
    with pytest.raises(ConfigError, match=f"token_weight.by={by} takes the gradient of a classifier"):
        TokenWeigher(TokenWeightConfig(by=by), REFERENCES, classifier=None, seed=1)
    TokenWeigher(TokenWeightConfig(by="tfidf"), REFERENCES, classifier=None, seed=1)


def test_the_classifier_is_the_runs_own_or_the_one_that_is_named(tmp_path):
    from radiograd.labelers import embedded

    torch.manual_seed(0)
    encoder = bert_twin.write_encoder(tmp_path / "encoder")
    examples = [embedded.Example(study.sections.report, study.patient_id) for study in studies(20)]
    embedded.train(examples, tmp_path / "own", encoder=encoder, settings=embedded.Settings(epochs=1, composites=0))
    own = load_classifier(TokenWeightConfig(by="gradient"), tmp_path / "own")
    named = TokenWeightConfig(by="gradient", labeler_options={"folder": str(tmp_path / "own"), "device": "cpu"})
    assert own.signature == load_classifier(named, None).signature
    with pytest.raises(ConfigError, match="no folder holds one"):
        load_classifier(TokenWeightConfig(by="gradient"), None)
    [found] = weigher("combined", own).weigh([completion("There is a left pleural effusion.")], ["Effusion."])
    assert found.gradient.max() > 0
