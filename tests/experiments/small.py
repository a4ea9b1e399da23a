"""A small experiment: the tiny model, sixty studies, two cells that share their fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tests import tiny

RGRO, MORE = "RGRO-50", "SFT-50, then SFT"


def values(folder: Path, model: Path, **changed: Any) -> dict[str, Any]:
    """What the file says; ``changed`` replaces keys."""
    base = {
        "data": {"source": "csv", "path": str(tiny.write_table(folder / "rows.csv", 60)), "limit": {"test": 8}},
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
        "sft": {"fraction": 0.5, "batch_size": 8, "epochs": 10.0, "lr": 3e-2},
        "align": {
            "type": "dpo",
            "candidates": 2,
            "rejected_source": "both",
            "prompts": 6,
            "max_new_tokens": 8,
            "batch_size": 8,
            "lr": 1e-2,
        },
        "generate": {"max_new_tokens": 8},
        "evaluate": {"resamples": 100, "baselines": ["constant", "retrieval"]},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    return {
        "name": "small",
        "title": "A small experiment",
        "base": "base.yaml",
        "set": {"data.split.seed": 7},
        "seeds": [7],
        "metrics": ["rougeL", "rouge1", "label_f1_14", "length_ratio"],
        "cells": [
            {"name": "rgro", "rows": {"sft": "SFT-50", "aligned": RGRO}},
            {"name": "more", "set": {"align": {"type": "sft", "batch_size": 8, "lr": 1e-2}}, "rows": {"aligned": MORE}},
        ],
        "compare": [[RGRO, "SFT-50"], [RGRO, MORE]],
        "judges": [{"judge": "rules"}],
        "paper": {
            "source": "nobody's",
            "note": "invented for a test",
            "rows": {RGRO: {"rouge1": 40.0, "rougeL": 41.0}},
        },
        "resamples": 200,
        **changed,
    }


def written(folder: Path, content: dict[str, Any], name: str = "small.yaml") -> Path:
    """The file."""
    path = folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
