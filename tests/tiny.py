"""A random two-layer model with a tokenizer of its own, and synthetic studies: enough to run every stage for real."""

from __future__ import annotations

import random
from pathlib import Path

from radiograd.config import RunConfig
from radiograd.runs import Run, open_run, run_stages
from radiograd.types import Sections, Study

_SIDES = ("left", "right")
_FINDINGS = {
    "pleural effusion": "There is a small {side} pleural effusion.",
    "pneumothorax": "A {side} apical pneumothorax is seen.",
    "nodule": "A round nodule projects over the {side} lung.",
    "atelectasis": "Linear opacity at the {side} base suggests atelectasis.",
}
_NORMAL = ("Heart size is normal.", "The lungs are clear.", "No bony abnormality.", "Mediastinal contours are normal.")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def studies(n: int, seed: int = 0) -> list[Study]:
    """``n`` synthetic studies of different patients; about a third are normal. Written by us, not taken from data."""
    rng = random.Random(seed)
    made = []
    for number in range(n):
        normal = [s for s in _NORMAL if rng.random() < 0.6]
        name = rng.choice(list(_FINDINGS)) if rng.random() < 0.65 else None
        side = rng.choice(_SIDES)
        found = [] if name is None else [_FINDINGS[name].format(side=side)]
        findings = " ".join(rng.sample(normal + found, len(normal) + len(found))) or "Unremarkable film."
        findings += f" Film number {rng.randrange(10**6)} of series {rng.randrange(10**6)} view {rng.randrange(10**6)}."
        impression = "No acute abnormality." if name is None else f"{side.capitalize()} {name}."
        made.append(
            Study(
                study_id=f"s{number:04d}",
                patient_id=f"p{number:04d}",
                source="synthetic",
                sections=Sections(findings=findings, impression=impression),
                normal=name is None,
            )
        )
    return made


def write_table(path: Path, n: int, seed: int = 0) -> Path:
    """The same studies as a CSV file."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["study_id", "patient_id", "findings", "impression", "normal"])
        for s in studies(n, seed):
            writer.writerow([s.study_id, s.patient_id, s.sections.findings, s.sections.impression, s.normal])
    return path


def write_model(folder: Path, chat: bool = True, layers: int = 2, seed: int = 0) -> Path:
    """A random Llama-shaped model with a byte-level tokenizer, saved as ``from_pretrained`` reads it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{s.sections.findings} {s.sections.impression}" for s in studies(200)]
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def finish(config: RunConfig, root: Path) -> Run:
    """Every stage of a run of ``config`` in ``root``, names checked first."""
    from radiograd import stages

    stages.check_names(config)
    with open_run(config, root, "radiograd run") as run:
        run_stages(run, stages.programs(config))
    return run
