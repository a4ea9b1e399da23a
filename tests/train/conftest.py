"""What the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from radiograd import models
from radiograd.config import ModelConfig


@pytest.fixture(scope="session")
def sharp_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with logits large enough that its text varies and can be steered."""
    folder = tmp_path_factory.mktemp("sharp")
    model = models.load_policy(ModelConfig(name=str(tiny_model), dtype="float32", device="cpu"))
    model.get_input_embeddings().weight.data *= 8
    model.save_pretrained(str(folder))
    models.load_tokenizer(ModelConfig(name=str(tiny_model))).save_pretrained(str(folder))
    return folder
