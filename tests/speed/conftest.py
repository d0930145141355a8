"""Fixtures of speed tests: settings of a small run whose frozen features can be cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny(sample_shards: Path) -> dict[str, Any]:
    """Settings of a whole small run: tiny random CLIP and RoBERTa on small frames of the packed sample clips."""
    return {
        "data": {"shards": str(sample_shards), "workers": 1, "frames": 4, "frame_size": 64, "views": 1},
        "teacher": {"clip": "configs/clip/tiny.json", "weights": "random"},
        "student": {"model": "tiny-roberta", "weights": "random"},
        "train": {"epochs": 2, "batch_size": 12, "lr": 1e-3, "warmup_steps": 2},
        "log": {"every": 1},
    }
