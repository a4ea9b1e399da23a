"""The embedded labeler: a small encoder that learns a teacher's labels (our rules) on the user's own reports.

It stands in offline where a classifier must be differentiable or give an embedding. It is called "embedded" wherever
its numbers appear; it is not CheXbert, and it is never better than its teacher.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from radiograd import assets
from radiograd.errors import DataError, ModelError, UsageError
from radiograd.labelers import classifier
from radiograd.labelers.classifier import CLASSES, NO_FINDING, FindingClassifier
from radiograd.labelers.rules import Rules
from radiograd.text.labels import label_set
from radiograd.text.sentences import sentence_spans
from radiograd.types import Labeler, Labels, Status, Study

log = logging.getLogger(__name__)

NAMES: Final = label_set("chexpert14").names
FORMAT: Final = 1
_FACTS, _WEIGHTS, _CONFIG, _TOKENIZER = "labeler.json", "model.safetensors", "config.json", "tokenizer.json"
_IMPOSSIBLE: Final = tuple(
    tuple(name == NO_FINDING and status in (Status.ABSENT, Status.UNCERTAIN) for status in CLASSES) for name in NAMES
)


@dataclass(frozen=True, slots=True)
class Example:
    """One text to learn from, and whose it is."""

    text: str
    patient_id: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How the labeler is trained. ``held_out`` and ``stop`` are shares of the patients: the first for the accuracy that
    is reported, the second (of the rest) to end training. ``composites``: made-up texts for each report.
    """

    seed: int = 17
    held_out: float = 0.2
    stop: float = 0.1
    composites: float = 1.0
    epochs: int = 6
    patience: int = 2
    batch_size: int = 16
    encoder_rate: float = 2e-4
    heads_rate: float = 3e-3
    weight_cap: float = 5.0
    max_tokens: int = 512


class EmbeddedLabeler(FindingClassifier):
    """A trained labeler read back from its folder. ``facts`` is what :func:`train` found out about it.

    Raises ModelError when the folder is not one that :func:`train` wrote or its weights were changed since.
    """

    name = "embedded"

    def __init__(self, folder: Path | str, *, device: str = "auto", batch_size: int | None = None) -> None:
        classifier.require_train_extra("The embedded labeler")
        import safetensors.torch

        path = Path(folder).expanduser()
        self.facts = _read_facts(path)
        where = classifier.choose_device(device)
        weights = safetensors.torch.load_file(path / _WEIGHTS)
        encoder = _empty_encoder(path / _CONFIG)
        encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")})
        heads = {k.removeprefix("heads."): v.to(where) for k, v in weights.items() if k.startswith("heads.")}
        super().__init__(
            classifier.bert_tokenizer(path),
            encoder.to(where).eval().requires_grad_(False),
            _Reader(heads),
            classifier.mean_pool,
            self.facts["labels"],
            device=where,
            batch_size=batch_size,
            max_tokens=self.facts["settings"]["max_tokens"],
        )

    @property
    def signature(self) -> str:
        """Who labelled: name and the weights' hash; the teacher stands in ``facts``."""
        return f"labeler=embedded|sha256={self.facts['weights_sha256'][:12]}"


def train(
    examples: Sequence[Example],
    folder: Path,
    *,
    encoder: Path | None = None,
    teacher: Labeler | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Teach ``encoder`` (a BERT folder; None = the fetched MiniLM) the teacher's labels and write ``folder``.

    The teacher (None = our rules) labels over chexpert14. Reports of one patient stay on one side. Deterministic for
    one seed on one machine and thread count. Returns the facts that are also written to ``labeler.json``. Raises
    DataError with fewer than 10 patients, UsageError when ``folder`` is not empty, ModelError for a folder that is no
    BERT encoder.
    """
    classifier.require_train_extra("Training the embedded labeler")
    settings = settings or Settings()
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; give a new folder for the labeler")
    source = encoder or assets.locate("minilm")
    tokenizer, network = classifier.bert_tokenizer(source), _load_encoder(source)
    settings = replace(settings, max_tokens=min(settings.max_tokens, network.config.max_position_embeddings))
    rng = np.random.default_rng(settings.seed)
    fit, stop, held_out = split(examples, settings.held_out, settings.stop, rng)
    teacher = teacher or Rules()
    fit_texts = [example.text for example in fit]
    fit_texts += composites(fit_texts, teacher, round(settings.composites * len(fit)), rng)
    with _seeded(settings.seed):
        heads = _new_heads(network.config.hidden_size)
        read = _Reader(heads)
        model = FindingClassifier(
            tokenizer,
            network,
            read,
            classifier.mean_pool,
            NAMES,
            device="cpu",
            batch_size=1,
            max_tokens=settings.max_tokens,
        )
        history = _Training(model, network, read, settings, rng).run(
            fit_texts,
            class_numbers(teacher(fit_texts)),
            [example.text for example in stop],
            class_numbers(teacher([example.text for example in stop])),
        )
    texts = [example.text for example in held_out]
    facts = {
        "format": FORMAT,
        "name": EmbeddedLabeler.name,
        "teacher": getattr(teacher, "signature", type(teacher).__name__),
        "encoder": {"id": source.name, "sha256": _sha256(source / _WEIGHTS)},
        "labels": list(NAMES),
        "classes": [status.value for status in CLASSES],
        "settings": asdict(settings),
        "texts": {"fit": len(fit), "composites": len(fit_texts) - len(fit), "stop": len(stop), "held_out": len(texts)},
        "history": history,
        "held_out": agreement(model(texts), teacher(texts), NAMES),
    }
    return _write(folder, source, network, heads, facts)


def whole_reports(studies: Sequence[Study]) -> list[Example]:
    """One example for each study that has findings or an impression: both, in that order."""
    made = [
        Example("\n".join(part for part in (s.sections.findings, s.sections.impression) if part), s.patient_id)
        for s in studies
    ]
    return [example for example in made if example.text.strip()]


# ---- pure: parts, composites, weights, agreement ---------------------------------------------------------------------


def split(
    examples: Sequence[Example], held_out: float, stop: float, rng: np.random.Generator
) -> tuple[list[Example], list[Example], list[Example]]:
    """(fit, stop, held-out): whole patients, drawn by ``rng``. DataError with fewer than 10 patients."""
    patients = sorted({example.patient_id for example in examples})
    if len(patients) < 10:
        raise DataError(f"the embedded labeler needs reports of at least 10 patients, not {len(patients)}")
    order = rng.permutation(len(patients))
    n_held = max(1, round(held_out * len(patients)))
    n_stop = max(1, round(stop * (len(patients) - n_held)))
    part = {patients[k]: 2 if rank < n_held else 1 if rank < n_held + n_stop else 0 for rank, k in enumerate(order)}
    parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for example in examples:
        parts[part[example.patient_id]].append(example)
    return parts


def composites(texts: Sequence[str], teacher: Labeler, n: int, rng: np.random.Generator) -> list[str]:
    """``n`` made-up texts of 1 to 8 sentences from different reports, so that rare statuses are seen often enough.

    The first sentence of each is drawn by rarity: a label and status is drawn evenly among those that sentences have,
    then a sentence having it; the others evenly among distinct sentences.
    """
    sentences = sorted({text[a:b] for text in texts for a, b in sentence_spans(text)})
    if not sentences:
        return []
    having: dict[tuple[int, int], list[int]] = {}
    for row, numbers in enumerate(class_numbers(teacher(sentences))):
        for label, number in enumerate(numbers.tolist()):
            if number and NAMES[label] != NO_FINDING:
                having.setdefault((label, number), []).append(row)
    kinds = [having[key] for key in sorted(having)] or [list(range(len(sentences)))]
    made = []
    for _ in range(n):
        kind = kinds[int(rng.integers(len(kinds)))]
        chosen = [kind[int(rng.integers(len(kind)))], *rng.integers(len(sentences), size=int(rng.integers(8))).tolist()]
        rng.shuffle(chosen)
        made.append(" ".join(sentences[row] for row in chosen))
    return made


def class_numbers(labels: Sequence[Labels]) -> NDArray[np.int64]:
    """(n, 14) class numbers over :data:`NAMES`. DataError for a labeling that lacks a name."""
    number = {status: k for k, status in enumerate(CLASSES)}
    try:
        rows = [[number[row[name]] for name in NAMES] for row in labels]
    except KeyError as error:
        raise DataError(f"the teacher does not label {error}; it must label all of chexpert14") from error
    return np.array(rows, dtype=np.int64).reshape(-1, len(NAMES))


def class_weights(targets_N_L: NDArray[np.int64], cap: float) -> NDArray[np.float64]:
    """(L, 4) weights of the cross-entropy: sqrt(N / (4 * count)), at most ``cap``; 0 for a class never seen.

    Square root, because full inverse frequency makes rare labels fire everywhere.
    """
    counts = np.stack([(targets_N_L == k).sum(axis=0) for k in range(len(CLASSES))], axis=1).astype(np.float64)
    even = len(targets_N_L) / len(CLASSES)
    weights: NDArray[np.float64] = np.zeros_like(counts)
    np.divide(even, counts, out=weights, where=counts > 0)
    return np.minimum(np.sqrt(weights), cap)


def agreement(labels: Sequence[Labels], truth: Sequence[Labels], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy over all cells, and for each label its accuracy and the F1 and support of each status.

    ``macro_f1``: mean F1 over the (label, status) pairs that ``truth`` has, unmentioned left out. F1 is None where
    neither side has the status.
    """
    per_label: dict[str, Any] = {}
    seen: list[float] = []
    for name in names:
        ours, theirs = [row[name] for row in labels], [row[name] for row in truth]
        same = sum(a is b for a, b in zip(ours, theirs, strict=True))
        row: dict[str, Any] = {"accuracy": round(same / len(theirs), 4) if theirs else None}
        for status in CLASSES[1:]:
            tp = sum(a is status and b is status for a, b in zip(ours, theirs, strict=True))
            mine, support = sum(a is status for a in ours), sum(b is status for b in theirs)
            f1 = 2 * tp / (mine + support) if mine + support else None
            row[status.value] = {"f1": None if f1 is None else round(f1, 4), "support": support}
            if support and f1 is not None:
                seen.append(f1)
        per_label[name] = row
    accuracies = [row["accuracy"] for row in per_label.values() if row["accuracy"] is not None]
    return {
        "accuracy": round(sum(accuracies) / len(accuracies), 4) if accuracies else None,
        "macro_f1": round(sum(seen) / len(seen), 4) if seen else None,
        "per_label": per_label,
    }


# ---- the network -----------------------------------------------------------------------------------------------------


class _Reader:
    """Each label looks at the tokens with a query of its own and classifies what it sees there."""

    def __init__(self, heads: Mapping[str, Any]) -> None:
        import torch

        self.heads = heads
        self._impossible = torch.tensor(_IMPOSSIBLE, device=heads["query"].device)

    def __call__(self, hidden: Any, mask: Any) -> Any:
        """hidden (B, T, H), mask (B, T) -> (B, labels, 4)."""
        import torch

        scores = hidden @ self.heads["query"].T / math.sqrt(hidden.shape[-1])
        looked = scores.masked_fill(mask.unsqueeze(-1) == 0, -math.inf).softmax(dim=1)
        seen = looked.transpose(1, 2) @ hidden
        logits = torch.einsum("blh,lkh->blk", seen, self.heads["weight"].to(seen.dtype)) + self.heads["bias"]
        return logits.masked_fill(self._impossible, -math.inf)


class _Training:
    def __init__(
        self,
        model: FindingClassifier,
        encoder: Any,
        read: _Reader,
        settings: Settings,
        rng: np.random.Generator,
    ) -> None:
        self.model, self.encoder, self.read, self.settings, self.rng = model, encoder, read, settings, rng

    def run(
        self,
        texts: Sequence[str],
        targets: NDArray[np.int64],
        stop_texts: Sequence[str],
        stop_targets: NDArray[np.int64],
    ) -> list[dict[str, float]]:
        """Train until the stop part's macro F1 has not risen for ``patience`` epochs; the best weights stay."""
        import torch

        settings = self.settings
        encoded = [pieces.ids for pieces in self.model.pieces(texts)]
        weights = torch.tensor(class_weights(targets, settings.weight_cap), dtype=torch.float32)
        truth = [self.model.statuses(row) for row in stop_targets.tolist()]
        steps = settings.epochs * math.ceil(len(texts) / settings.batch_size)
        optimizer, schedule = self._optimizer(steps)
        best, best_f1, waited = self._copy(), -1.0, 0
        history: list[dict[str, float]] = []
        for epoch in range(1, settings.epochs + 1):
            losses = [
                self._step([encoded[k] for k in rows], torch.tensor(targets[rows]), weights, optimizer, schedule)
                for rows in epoch_batches([len(ids) for ids in encoded], settings.batch_size, self.rng)
            ]
            self.encoder.eval()
            found = agreement(self.model(stop_texts), truth, NAMES)
            history.append(
                {
                    "epoch": epoch,
                    "loss": round(float(np.mean(losses)), 4),
                    "stop_accuracy": found["accuracy"],
                    "stop_macro_f1": found["macro_f1"] or 0.0,
                }
            )
            log.info("epoch %d: loss %.4f, macro F1 %.4f", epoch, history[-1]["loss"], history[-1]["stop_macro_f1"])
            if history[-1]["stop_macro_f1"] > best_f1:
                best, best_f1, waited = self._copy(), history[-1]["stop_macro_f1"], 0
            else:
                waited += 1
            if waited >= settings.patience:
                break
        self._restore(best)
        return history

    def _optimizer(self, steps: int) -> tuple[Any, Any]:
        import torch

        self.encoder.get_input_embeddings().requires_grad_(False)
        body = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        heads = [tensor.requires_grad_(True) for tensor in self.read.heads.values()]
        optimizer = torch.optim.AdamW(
            [
                {"params": body, "lr": self.settings.encoder_rate, "weight_decay": 0.01},
                {"params": heads, "lr": self.settings.heads_rate, "weight_decay": 0.0},
            ]
        )
        warm = max(1, steps // 20)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm, max(0.02, (steps - step) / max(1, steps - warm)))
        )
        return optimizer, schedule

    def _step(self, rows: Sequence[Sequence[int]], targets: Any, weights: Any, optimizer: Any, schedule: Any) -> float:
        import torch

        self.encoder.train()
        ids, mask = classifier.padded(rows, 0, "cpu")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_native_bfloat16()):
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        log_p = self.read(hidden.float(), mask).log_softmax(dim=-1)
        picked = -log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        importance = weights.expand(len(rows), -1, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        loss = (picked * importance).sum() / importance.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        schedule.step()
        return float(loss.detach())

    def _copy(self) -> tuple[dict[str, Any], dict[str, Any]]:
        body = {name: tensor for name, tensor in self.encoder.state_dict().items() if "word_embeddings" not in name}
        return copy.deepcopy(body), {name: tensor.detach().clone() for name, tensor in self.read.heads.items()}

    def _restore(self, kept: tuple[dict[str, Any], dict[str, Any]]) -> None:
        body, heads = kept
        self.encoder.load_state_dict(body, strict=False)
        self.encoder.eval().requires_grad_(False)
        for name, tensor in heads.items():
            self.read.heads[name].requires_grad_(False).copy_(tensor)


def epoch_batches(lengths: Sequence[int], size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Every row once, in batches of similar length that come in random order: shuffled, sorted within 16 batches."""
    order = rng.permutation(len(lengths)).tolist()
    chunk = 16 * size
    grouped = [
        row
        for start in range(0, len(order), chunk)
        for row in sorted(order[start : start + chunk], key=lengths.__getitem__)
    ]
    made = [grouped[start : start + size] for start in range(0, len(grouped), size)]
    for k in rng.permutation(len(made)).tolist():
        yield made[k]


def _new_heads(hidden: int) -> dict[str, Any]:
    import torch

    labels, classes = len(NAMES), len(CLASSES)
    return {
        "query": torch.randn(labels, hidden) * 0.02,
        "weight": torch.randn(labels, classes, hidden) * 0.02,
        "bias": torch.zeros(labels, classes),
    }


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch (dropout, first weights) inside; outside its random state is what it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _native_bfloat16() -> bool:
    import torch

    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(native() or amx())


# ---- the folder ------------------------------------------------------------------------------------------------------


def _load_encoder(folder: Path) -> Any:
    import safetensors
    import safetensors.torch

    encoder = _empty_encoder(folder / _CONFIG)
    try:
        weights = safetensors.torch.load_file(folder / _WEIGHTS)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder / _WEIGHTS} cannot be read as weights; fetch or copy it again") from error
    weights = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
    lacking = sorted(set(encoder.state_dict()) - set(weights))
    if lacking:
        raise ModelError(f"{folder / _WEIGHTS} lacks {lacking[0]!r}; the embedded labeler needs a BERT encoder")
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder


def _empty_encoder(config_file: Path) -> Any:
    from transformers import BertConfig

    try:
        values = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{config_file} cannot be read; give the folder of a BERT encoder") from error
    if values.get("model_type") != "bert":
        raise ModelError(
            f"{config_file}: model_type is {values.get('model_type')!r}; the embedded labeler needs 'bert'"
        )
    return classifier.empty_bert(BertConfig(**{k: v for k, v in values.items() if k != "architectures"}))


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        form, expected = facts["format"], facts["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} holds no embedded labeler ({_FACTS}); train one first") from error
    if form != FORMAT:
        raise ModelError(f"{folder / _FACTS} is of format {form}, this version reads {FORMAT}; train the labeler again")
    if not (folder / _WEIGHTS).is_file() or _sha256(folder / _WEIGHTS) != expected:
        raise ModelError(f"{folder / _WEIGHTS} is not what was trained (another SHA-256); train the labeler again")
    return facts


def _write(folder: Path, source: Path, encoder: Any, heads: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Write everything beside ``folder`` and rename: a folder that is there is whole."""
    import safetensors.torch

    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    ready = part / folder.name  # made here, because what mkdtemp makes only its owner may read
    try:
        ready.mkdir()
        for name in (_CONFIG, _TOKENIZER, "vocab.txt"):
            if (source / name).is_file():
                shutil.copyfile(source / name, ready / name)
        tensors = {f"encoder.{name}": tensor.contiguous() for name, tensor in encoder.state_dict().items()}
        tensors |= {f"heads.{name}": tensor.contiguous() for name, tensor in heads.items()}
        safetensors.torch.save_file(tensors, ready / _WEIGHTS)
        (ready / _WEIGHTS).chmod((ready / _CONFIG).stat().st_mode)
        facts = {**facts, "weights_sha256": _sha256(ready / _WEIGHTS)}
        (ready / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        ready.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return facts


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
