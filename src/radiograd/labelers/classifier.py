"""An encoder with one head per finding: texts -> labels, embeddings, logits and gradients to every word piece.

What CheXbert and the embedded labeler share. Both use CheXbert's class numbers (:data:`CLASSES`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from radiograd.errors import MissingExtra, ModelError, UsageError, did_you_mean
from radiograd.types import Labels, Status

log = logging.getLogger(__name__)

CLASSES: Final = (Status.UNMENTIONED, Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)
"""Class number -> status, as CheXbert numbers them (stanfordmlgroup/CheXbert, src/constants.py, commit 4c69260)."""
NO_FINDING: Final = "No Finding"
"""The label with two classes only: unmentioned and present."""
BERT_TOKENS: Final = 512

Mode = Literal["input_x_grad", "l2norm", "integrated_gradients"]
MODES: Final = ("input_x_grad", "l2norm", "integrated_gradients")
Target = Sequence[str] | Mapping[str, Status]
Heads = Callable[[Any, Any], Any]
"""(hidden (B, T, H), mask (B, T)) -> logits (B, labels, 4); -inf for a class that a label does not have."""
Pool = Callable[[Any, Any], Any]
"""(hidden (B, T, H), mask (B, T)) -> (B, H)."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """One text as word pieces: ``ids`` with the special tokens, ``offsets`` into the text, (0, 0) for special ones."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class PieceGradients:
    """How much each word piece of one text moves the asked-for labels.

    ``offsets``: (T, 2) character spans, special tokens left out. ``values``: (T,) >= 0; 0 for punctuation.
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.float64]


class FindingClassifier:
    """Satisfies :class:`radiograd.types.Labeler`. A text's result depends neither on its batch nor on its order.

    On a CPU every text is computed alone, without padding: measured as fast as a padded batch, and exact. In batches
    (``batch_size`` > 1, the default on a GPU) values agree to rounding. Gradients are taken in batches on a CPU too,
    of 8 texts unless ``batch_size`` says otherwise: a third less time for short texts. ``cut`` counts the texts longer
    than ``max_tokens`` word pieces so far.
    """

    def __init__(
        self,
        tokenizer: Any,
        encoder: Any,
        heads: Heads,
        pool: Pool,
        names: Sequence[str],
        *,
        device: str,
        batch_size: int | None,
        max_tokens: int = BERT_TOKENS,
    ) -> None:
        self.names = tuple(names)
        self.cut = 0
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}")
        on_gpu = device.startswith("cuda")
        self.batch_size = batch_size or (32 if on_gpu else 1)
        self.gradient_batch_size = batch_size or (32 if on_gpu else 8)
        self._tokenizer, self._encoder, self._heads, self._pool = tokenizer, encoder, heads, pool
        self._device, self._max_tokens = device, max_tokens

    def __call__(self, texts: Sequence[str]) -> list[Labels]:
        """One status per finding for each text, by name."""
        return [self.statuses(row) for row in self.logits(texts).argmax(dim=-1).tolist()]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, hidden): one vector for each text."""
        vectors: NDArray[np.float32] = self._each_text(texts, self._pool, self._encoder.config.hidden_size).numpy()
        return vectors

    def logits(self, texts: Sequence[str]) -> Any:
        """(n, labels, 4) float32 on the CPU, classes as in :data:`CLASSES`; -inf for a class a label does not have."""
        return self._each_text(texts, self._heads, len(self.names), len(CLASSES))

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Word pieces of each text, cut to ``max_tokens`` with the closing token kept."""
        if not texts:
            return []
        encoded = self._tokenizer([clean(text) for text in texts], return_offsets_mapping=True, verbose=False)
        return [
            _cut(ids, [(int(a), int(b)) for a, b in offsets], self._max_tokens)
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def word_embeddings(self, ids: Any) -> Any:
        """ids (B, T) -> (B, T, H): what :meth:`logits_of` is differentiable in."""
        return self._encoder.get_input_embeddings()(ids)

    def logits_of(self, embeddings: Any, mask: Any) -> Any:
        """Word embeddings (B, T, H) and mask (B, T) -> logits (B, labels, 4); gradients flow to the embeddings."""
        return self._heads(self._hidden(embeddings, mask), mask)

    def input_gradients(
        self, texts: Sequence[str], targets: Sequence[Target], mode: Mode = "input_x_grad", steps: int = 16
    ) -> list[PieceGradients]:
        """For each text, how each of its word pieces moves S, the mean log-probability of the target labels.

        A target is finding names, each at the class this model thinks likeliest, or finding -> Status; an empty one
        means No Finding. input_x_grad: ``|dS/dE_u . (E_u - E_pad)|``. l2norm: ``||dS/dE_u||``. integrated_gradients:
        input_x_grad with the gradient averaged over ``steps`` points between E_pad and E (arXiv:1703.01365 eq. 3,
        midpoint rule). Pieces beyond ``max_tokens`` are left out. Raises UsageError for a name that is no label, a
        status a label does not have, or a wrong mode.
        """
        if mode not in MODES:
            raise UsageError(f"no gradient mode is called {mode!r}.{did_you_mean(str(mode), MODES)}")
        wanted = [self._target(target) for _, target in zip(texts, targets, strict=True)]
        encoded = self.pieces(texts)
        found: dict[int, PieceGradients] = {}
        for rows in batches([len(pieces.ids) for pieces in encoded], self.gradient_batch_size):
            values = self._values_of([encoded[row] for row in rows], [wanted[row] for row in rows], mode, steps)
            for row, each in zip(rows, values, strict=True):
                found[row] = _of_words(texts[row], encoded[row], each)
        self._count_cut(texts, {text: pieces.cut for text, pieces in zip(texts, encoded, strict=True)})
        return [found[row] for row in range(len(encoded))]

    def statuses(self, row: Sequence[int]) -> Labels:
        """Class numbers of one text -> its labels by name."""
        return {name: CLASSES[number] for name, number in zip(self.names, row, strict=True)}

    # ---- inside ----

    def _hidden(self, embeddings: Any, mask: Any) -> Any:
        return self._encoder(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state

    def _each_text(self, texts: Sequence[str], read: Callable[[Any, Any], Any], *shape: int) -> Any:
        import torch

        unique = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        encoded = self.pieces(list(unique))
        out = torch.empty((len(unique), *shape), dtype=torch.float32)
        with torch.inference_mode():
            for rows in batches([len(pieces.ids) for pieces in encoded], self.batch_size):
                ids, mask = padded([encoded[row].ids for row in rows], self._tokenizer.pad_token_id, self._device)
                out[rows] = read(self._hidden(self.word_embeddings(ids), mask), mask).float().cpu()
        self._count_cut(texts, {text: encoded[number].cut for text, number in unique.items()})
        return out[[unique[text] for text in texts]]

    def _count_cut(self, texts: Sequence[str], cut: Mapping[str, bool]) -> None:
        now = sum(cut[text] for text in texts)
        first, self.cut = not self.cut, self.cut + now
        if now and first:  # a trainer asks at every rollout
            log.warning("%d of %d texts are longer than %d word pieces and were cut", now, len(texts), self._max_tokens)

    def _target(self, target: Target) -> list[tuple[int, int | None]]:
        statuses: Mapping[str, Status | None]
        statuses = target if isinstance(target, Mapping) else dict.fromkeys(target or (NO_FINDING,))
        wanted: list[tuple[int, int | None]] = []
        for name, status in (statuses or {NO_FINDING: None}).items():
            if name not in self.names:
                raise UsageError(f"no label is called {name!r}.{did_you_mean(name, self.names)}")
            if name == NO_FINDING and status in (Status.ABSENT, Status.UNCERTAIN):
                raise UsageError(f"{name} is present or unmentioned, never {status}")
            wanted.append((self.names.index(name), None if status is None else CLASSES.index(status)))
        return wanted

    def _values_of(
        self,
        encoded: Sequence[Pieces],
        targets: Sequence[Sequence[tuple[int, int | None]]],
        mode: Mode,
        steps: int,
    ) -> list[NDArray[np.float64]]:
        """One value >= 0 for every piece of each text, special ones included; the texts as one padded batch."""
        import torch

        ids, mask = padded([pieces.ids for pieces in encoded], self._tokenizer.pad_token_id, self._device)
        with torch.no_grad():
            here = self.word_embeddings(ids)
            pad = self.word_embeddings(torch.full_like(ids, self._tokenizer.pad_token_id))
            away = here - pad
            for row, pieces in enumerate(encoded):
                away[row, [k for k, (start, end) in enumerate(pieces.offsets) if start == end]] = 0.0
        asked = [(row, label, k) for row, target in enumerate(targets) for label, k in target]
        rows, labels = (torch.tensor([entry[k] for entry in asked], device=ids.device) for k in (0, 1))
        share = torch.tensor([1.0 / len(targets[row]) for row, _, _ in asked], device=ids.device)
        classes: list[Any] = []

        def gradient_at(embeddings: Any) -> Any:
            with torch.enable_grad():
                at = embeddings.detach().requires_grad_(True)
                log_p = self.logits_of(at, mask).log_softmax(dim=-1)[rows, labels]
                if not classes:
                    likeliest = log_p.argmax(dim=-1).tolist()
                    chosen = [mine if k is None else k for mine, (_, _, k) in zip(likeliest, asked, strict=True)]
                    classes.append(torch.tensor(chosen, device=ids.device))
                # a text's embeddings move its own score only, so one pass gives every text its own gradient
                score = (log_p.gather(1, classes[0].unsqueeze(1)).squeeze(1) * share).sum()
            return torch.autograd.grad(score, at)[0]

        gradient = gradient_at(here)
        if mode == "integrated_gradients":
            points = [(k + 0.5) / steps for k in range(steps)]
            gradient = sum(gradient_at(here - (1.0 - point) * away) for point in points) / steps
        each = gradient.norm(dim=-1) if mode == "l2norm" else (gradient * away).sum(dim=-1).abs()
        values = each.double().cpu().numpy()
        return [values[row, : len(pieces.ids)] for row, pieces in enumerate(encoded)]


def _of_words(text: str, pieces: Pieces, values_T: NDArray[np.float64]) -> PieceGradients:
    """The values without those of special tokens; punctuation 0."""
    kept = [k for k, (start, end) in enumerate(pieces.offsets) if start < end]
    spans = [pieces.offsets[k] for k in kept]
    words = np.array([any(c.isalnum() for c in text[start:end]) for start, end in spans], dtype=bool)
    return PieceGradients(np.array(spans, dtype=np.int64).reshape(-1, 2), np.where(words, values_T[kept], 0.0))


def clean(text: str) -> str:
    """White space of any kind as blanks, one for one, so that places in the text stay what they are.

    The published labeler also strips and collapses them; a BERT tokenizer gives the same pieces either way.
    """
    return re.sub(r"\s", " ", text)


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Row numbers by ascending length, ``size`` at a time, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> tuple[Any, Any]:
    """ids and mask, both (B, T) int64: rows filled up on the right with ``pad``."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask


def mean_pool(hidden: Any, mask: Any) -> Any:
    """The mean over real tokens: hidden (B, T, H), mask (B, T) -> (B, H)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def choose_device(device: str) -> str:
    """``auto`` -> cuda where there is one, else cpu. ModelError when CUDA is asked for and not there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device is {device} but no CUDA device is visible; use device=cpu or auto")
    return device


def empty_bert(config: Any) -> Any:
    """A BertModel without pooler, to be filled with weights; torch's random state stays what it was."""
    import torch
    from transformers import BertModel

    with torch.random.fork_rng(devices=[]):
        return BertModel(config, add_pooling_layer=False)


def bert_tokenizer(folder: Path) -> Any:
    """The fast BERT tokenizer of a folder: its tokenizer.json, else its vocab.txt (or that file itself), lower-casing.

    No network. Raises ModelError when there is neither file.
    """
    from transformers import BertTokenizerFast, PreTrainedTokenizerFast

    vocab = folder / "vocab.txt" if folder.is_dir() else folder
    if (folder / "tokenizer.json").is_file():
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            pad_token="[PAD]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            unk_token="[UNK]",
        )
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    elif vocab.is_file():
        words = vocab.read_text(encoding="utf-8").splitlines()
        tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}, do_lower_case=True)
    else:
        raise ModelError(f"{folder} holds neither tokenizer.json nor vocab.txt; give the folder of a BERT tokenizer")
    tokenizer.model_max_length = 10**9
    return tokenizer


def require_train_extra(what: str) -> None:
    """MissingExtra unless torch, transformers and safetensors are installed. Imports nothing."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "transformers", "safetensors")):
        raise MissingExtra(what, "train")


def _cut(ids: Sequence[int], offsets: Sequence[tuple[int, int]], limit: int) -> Pieces:
    if len(ids) <= limit:
        return Pieces(tuple(ids), tuple(offsets), cut=False)
    return Pieces((*ids[: limit - 1], ids[-1]), (*offsets[: limit - 1], offsets[-1]), cut=True)
