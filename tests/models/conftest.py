"""Tiny real models and batches for the tests of the method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vadv import config
from vadv.models.batch import Batch
from vadv.models.text import lay

TEXTS = ["I love it", "so so bad, really", "well", "not what I had hoped for, but fine"]


@pytest.fixture
def tiny() -> Callable[..., config.Config]:
    """A configuration of tiny random models; keyword arguments are fields of `Teacher`."""

    def make(**teacher: Any) -> config.Config:
        settings = config.Config()
        settings.teacher = config.Teacher(clip="configs/clip/tiny.json", weights="random", **teacher)
        settings.student = config.Student(model="tiny-roberta", weights="random")
        settings.data.frames, settings.data.frame_size = 4, 64
        return settings

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of B clips whose contents depend on their numbers alone."""

    def make(tokenizer: Any, rows: int = 4, frames: int = 4, size: int = 64) -> Batch:
        text = tokenizer([TEXTS[i % len(TEXTS)] for i in range(rows)])
        generators = [torch.Generator().manual_seed(i) for i in range(rows)]
        pixels = [torch.randint(0, 256, (frames, 3, size, size), generator=g, dtype=torch.uint8) for g in generators]
        faces = torch.stack([torch.randn(64, 8, generator=g) for g in generators])
        mask = torch.stack([torch.rand(64, generator=g) > 0.3 for g in generators])
        return Batch(
            weight=torch.ones(rows),
            label=torch.tensor([1.6, -2.2, 0.0, -0.4, 3.0, 0.8])[:rows],
            index=torch.arange(rows),
            noise=torch.arange(rows) * 7919 + 2**40,
            text=lay(text["input_ids"]),
            frames=torch.stack(pixels),
            faces=torch.where(mask[..., None], faces, 0.0),
            face_mask=mask,
        )

    return make
