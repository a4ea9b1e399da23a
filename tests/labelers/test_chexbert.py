"""CheXbert's own layout read by our code, with random weights: nothing of the real file is in here."""

import numpy as np
import pytest
import torch
from bert_twin import TEXTS, VOCABULARY, bert, chexbert_state, write_chexbert, write_vocabulary

from radiograd.errors import ConfigError, ModelError, UsageError
from radiograd.labelers import load_labeler
from radiograd.labelers.chexbert import NAMES, CheXbert
from radiograd.labelers.classifier import CLASSES, clean
from radiograd.text.labels import label_set
from radiograd.types import Status


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_chexbert(tmp_path_factory.mktemp("chexbert"))


@pytest.fixture(scope="module")
def labeler(weights):
    return CheXbert(weights, device="cpu")


def by_hand(text):
    """What the published code computes: [CLS] of the last layer through each linear head."""
    state, model = chexbert_state(), bert()
    ids = [VOCABULARY.index("[CLS]")]
    for word in clean(text).lower().replace(".", " . ").replace(",", " , ").replace("?", " ? ").split():
        word = word.strip(";")
        ids.append(VOCABULARY.index(word) if word in VOCABULARY else 1)
        ids += [1] if ";" in text and word == "pneumothorax" else []
    ids.append(VOCABULARY.index("[SEP]"))
    with torch.no_grad():
        vector = model(torch.tensor([ids])).last_hidden_state[0, 0]
        return vector, [
            state[f"module.linear_heads.{k}.weight"] @ vector + state[f"module.linear_heads.{k}.bias"]
            for k in range(14)
        ]


def test_labels_and_vectors_are_those_of_the_published_computation(labeler):
    found, vectors = labeler(TEXTS), labeler.embed(TEXTS)
    assert vectors.shape == (6, 128)
    assert vectors.dtype == np.float32
    seen = set()
    for text, labels, vector in zip(TEXTS, found, vectors, strict=True):
        expected, logits = by_hand(text)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
        assert labels == {name: CLASSES[int(row.argmax())] for name, row in zip(NAMES, logits, strict=True)}
        seen |= set(labels.values())
    assert seen == set(Status)  # the twin says everything somewhere, so a swapped class would show


def test_names_are_those_of_our_label_set_and_no_finding_has_two_classes(labeler):
    assert set(NAMES) == set(label_set("chexpert14").names)
    logits = labeler.logits(TEXTS)
    assert logits.shape == (6, 14, 4)
    assert torch.isneginf(logits[:, NAMES.index("No Finding"), 2:]).all()
    assert torch.isfinite(logits[:, :13]).all()


def test_a_text_does_not_depend_on_its_batch_or_order(labeler):
    together = labeler.embed(TEXTS)
    alone = np.concatenate([labeler.embed([text]) for text in TEXTS])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(labeler.embed(TEXTS[::-1])[::-1], together)
    assert labeler([]) == []
    assert labeler.embed([]).shape == (0, 128)


def test_padded_batches_agree_to_rounding(weights, labeler):
    batched = CheXbert(weights, device="cpu", batch_size=4)
    np.testing.assert_allclose(batched.embed(TEXTS), labeler.embed(TEXTS), atol=1e-5)
    assert batched(TEXTS) == labeler(TEXTS)


def test_white_space_changes_nothing(labeler):
    spread = "  The\theart is\r\nlarge. \n\n Small left\u00a0pleural   effusion.\n"
    np.testing.assert_array_equal(labeler.embed([spread]), labeler.embed([TEXTS[0]]))


def test_long_texts_are_cut_with_the_last_token_kept_and_counted(weights, caplog):
    labeler = CheXbert(weights, device="cpu")
    [short], [long] = labeler.pieces(["heart " * 62]), labeler.pieces(["heart " * 63])
    assert (len(short.ids), short.cut) == (64, False)
    assert (len(long.ids), long.cut) == (64, True)
    assert long.ids[-1] == VOCABULARY.index("[SEP]")
    labeler(["heart " * 62, "heart " * 63, "heart " * 63])
    assert labeler.cut == 2
    assert "2 of 3 texts are longer than 64 word pieces" in caplog.text
    assert "heart" not in caplog.text


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_weights_load_with_and_without_the_data_parallel_prefix(tmp_path, labeler, prefix):
    other = CheXbert(write_chexbert(tmp_path, chexbert_state(prefix=prefix)), device="cpu")
    np.testing.assert_array_equal(other.embed(TEXTS), labeler.embed(TEXTS))


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("module.linear_heads.4.weight", None, "lacks the tensor 'linear_heads.4.weight'"),
        ("module.linear_heads.13.bias", torch.zeros(4), r"'linear_heads.13.bias' has shape \(4,\), not \(2,\)"),
        ("module.bert.encoder.layer.1.output.dense.bias", None, "lacks the tensor 'bert.encoder.layer.1.output"),
        ("module.bert.embeddings.word_embeddings.weight", None, "lacks the tensor 'bert.embeddings.word_embeddings"),
        ("module.linear_heads.14.weight", torch.zeros(4, 128), "holds the tensor 'linear_heads.14.weight'"),
    ],
)
def test_a_wrong_checkpoint_is_refused_by_key(tmp_path, key, change, said):
    state = chexbert_state()
    if change is None:
        del state[key]
    else:
        state[key] = change
    with pytest.raises(ModelError, match=said):
        CheXbert(write_chexbert(tmp_path, state), device="cpu")


def test_files_that_are_no_such_checkpoint_are_refused(tmp_path):
    write_vocabulary(tmp_path)
    path = tmp_path / "chexbert.pth"
    with pytest.raises(ConfigError, match=r"chexbert\.pth are not there"):
        CheXbert(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="cannot be read as a torch checkpoint"):
        CheXbert(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ModelError, match="has no 'model_state_dict'"):
        CheXbert(path)
    torch.save({"model_state_dict": print}, path)  # code, which is never run
    with pytest.raises(ModelError, match="cannot be read as a torch checkpoint"):
        CheXbert(path)


def test_the_vocabulary_must_be_there_and_fit(tmp_path, weights):
    with pytest.raises(ConfigError, match=r"holds no vocab\.txt"):
        CheXbert(weights, tmp_path)
    with pytest.raises(ConfigError, match=r"vocabulary .*nowhere does not exist"):
        CheXbert(weights, tmp_path / "nowhere")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY[:-1]), encoding="utf-8")
    with pytest.raises(ModelError, match="the vocabulary has"):
        CheXbert(weights, tmp_path)


def test_it_loads_by_name_with_a_signature(weights):
    labeler = load_labeler("chexbert", {"weights": weights, "device": "cpu"})
    assert labeler.signature.startswith("labeler=chexbert|sha256=")


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_gradients_equal_finite_differences_of_the_log_probability(labeler):
    text, name = "The heart is large.", "Edema"
    [found] = labeler.input_gradients([text], [[name]])
    ids = torch.tensor([labeler.pieces([text])[0].ids])
    mask = torch.ones_like(ids)
    here = labeler.word_embeddings(ids).detach()
    pad = labeler.word_embeddings(torch.zeros_like(ids)).detach()
    label = NAMES.index(name)

    def log_p(embeddings, k):
        return labeler.logits_of(embeddings, mask)[0, label].double().log_softmax(-1)[k]

    with torch.no_grad():
        k = int(labeler.logits_of(here, mask)[0, label].argmax())
        for piece, value in enumerate(found.values[:4], start=1):  # token 0 is [CLS]
            step = torch.zeros_like(here)
            step[0, piece] = (here - pad)[0, piece] * 1e-2
            slope = float(log_p(here + step, k) - log_p(here - step, k)) / 2e-2
            assert value == pytest.approx(abs(slope), rel=0.05, abs=2e-3)


def test_gradients_have_places_in_the_text_and_none_for_punctuation(labeler):
    text = "The  heart\nis large, no edema."
    for mode in ("input_x_grad", "l2norm", "integrated_gradients"):
        [found] = labeler.input_gradients([text], [["Edema", "Cardiomegaly"]], mode)
        words = [text[a:b] for a, b in found.offsets]
        assert words == ["The", "heart", "is", "large", ",", "no", "edema", "."]
        assert (found.values >= 0).all()
        assert [w for w, v in zip(words, found.values, strict=True) if v == 0] == [",", "."]


def test_integrated_gradients_sum_to_the_difference_before_signs_are_dropped(labeler):
    """Completeness, |sum| <= sum of |.|: the difference of log p between the text and padding bounds the sum."""
    text = "The heart is large"
    [found] = labeler.input_gradients([text], [{"Edema": Status.PRESENT}], "integrated_gradients", steps=64)
    ids = torch.tensor([labeler.pieces([text])[0].ids])
    mask = torch.ones_like(ids)
    blank = torch.where((ids == 2) | (ids == 3), ids, torch.zeros_like(ids))
    with torch.no_grad():
        log_p = [labeler.logits_of(labeler.word_embeddings(x), mask)[0].log_softmax(-1) for x in (ids, blank)]
    difference = float((log_p[0] - log_p[1])[NAMES.index("Edema"), 1])
    assert found.values.sum() >= abs(difference) - 1e-2


@pytest.mark.parametrize("mode", ["input_x_grad", "l2norm", "integrated_gradients"])
def test_gradients_of_a_padded_batch_are_those_of_each_text_alone(weights, mode):
    targets = [["Edema"], [], ["Fracture", "Edema", "Support Devices"], {"Edema": Status.ABSENT}, ["Pneumonia"], []]
    alone = CheXbert(weights, device="cpu", batch_size=1).input_gradients(TEXTS, targets, mode)
    for size in (4, 6):
        batched = CheXbert(weights, device="cpu", batch_size=size).input_gradients(TEXTS, targets, mode)
        for one, other in zip(alone, batched, strict=True):
            np.testing.assert_array_equal(one.offsets, other.offsets)
            np.testing.assert_allclose(other.values, one.values, rtol=1e-4, atol=1e-5)
    assert not np.allclose(alone[0].values, alone[5].values)  # the same text, another target


def test_every_text_needs_a_target(labeler):
    with pytest.raises(ValueError, match="zip"):
        labeler.input_gradients(TEXTS, [["Edema"]])
    assert labeler.input_gradients([], []) == []


def test_targets_are_names_or_statuses_and_empty_means_no_finding(labeler):
    [empty] = labeler.input_gradients([TEXTS[0]], [[]])
    [named] = labeler.input_gradients([TEXTS[0]], [["No Finding"]])
    np.testing.assert_array_equal(empty.values, named.values)
    [likeliest] = labeler(TEXTS[:1])
    [chosen] = labeler.input_gradients([TEXTS[0]], [{"Edema": likeliest["Edema"]}])
    [default] = labeler.input_gradients([TEXTS[0]], [["Edema"]])
    np.testing.assert_array_equal(chosen.values, default.values)
    assert labeler.input_gradients([""], [["Edema"]])[0].offsets.shape == (0, 2)


@pytest.mark.parametrize(
    ("target", "mode", "said"),
    [
        (["Oedema"], "l2norm", "no label is called 'Oedema'. Did you mean 'Edema'"),
        ({"No Finding": Status.ABSENT}, "l2norm", "present or unmentioned"),
        (["Edema"], "l2", "no gradient mode is called 'l2'"),
    ],
)
def test_wrong_targets_are_refused(labeler, target, mode, said):
    with pytest.raises(UsageError, match=said):
        labeler.input_gradients(["x"], [target], mode)
