"""What the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests import tiny

from radiograd import models
from radiograd.config import ModelConfig
from radiograd.prompts import Prompter


@pytest.fixture(scope="session")
def sharp_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with logits large enough that its text varies and can be steered."""
    folder = tmp_path_factory.mktemp("sharp")
    model = models.load_policy(ModelConfig(name=str(tiny_model), dtype="float32", device="cpu"))
    model.get_input_embeddings().weight.data *= 8
    model.save_pretrained(str(folder))
    models.load_tokenizer(ModelConfig(name=str(tiny_model))).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def writing_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model taught, all weights at once, until it writes most impressions of ``tiny.studies`` as they are."""
    folder = tmp_path_factory.mktemp("writing")
    config = ModelConfig(name=str(tiny_model), dtype="float32", device="cpu")
    tokenizer, model = models.load_tokenizer(config), models.load_policy(config).train()
    prompter = Prompter(tokenizer, config, "findings_to_impression")
    rows = [
        (prompter.ids(prompter.prompt(s).content), prompter.target_ids(s.sections.impression or ""))
        for s in tiny.studies(400, seed=5)
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    drawn = torch.Generator().manual_seed(0)
    for _ in range(150):
        some = [rows[i] for i in torch.randperm(len(rows), generator=drawn)[:32].tolist()]
        width = max(len(prompt) + len(answer) for prompt, answer in some)
        ids, labels = torch.zeros(len(some), width, dtype=torch.long), torch.full((len(some), width), -100)
        for row, (prompt, answer) in enumerate(some):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor([*prompt, *answer])
            labels[row, len(prompt) : end] = torch.tensor(answer)
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder
