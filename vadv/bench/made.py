"""Clips, batches and models of real proportions and random content, for benchmarks that need no data."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shards.clip import Clip
    from vadv.config import Config
    from vadv.models.batch import Batch

TOKENS = 30
"""Mean length of a made text: sentences of MOSI and MOSEI have 12 to 20 words, 1.2 to 1.5 tokens each."""


def config_of(changes: dict[str, Any], clip: str, student: str) -> Config:
    """A configuration with random weights.

    Args:
        changes: settings by dotted key; `teacher: None` leaves the teacher out.
        clip: open_clip's name of the teacher's CLIP, or the path of its JSON.
        student: name of the student's encoder.
    """
    from vadv.config_file import load

    base = {"student.model": student, "student.weights": "random"}
    if changes.get("teacher", clip) is not None:
        base |= {"teacher.clip": clip, "teacher.weights": "random"}
    return load(None, base | changes)


def made_clips(config: Config, count: int) -> list[Clip]:
    """Clips with random frames, face features and texts; random weights come with a vocabulary of single bytes."""
    from shards.clip import Clip

    random, data = np.random.default_rng(1), config.data
    start_and_end = 2
    shape = (data.frames, 3, data.frame_size, data.frame_size)
    return [
        Clip(
            id=str(number),
            dataset="made",
            index=number,
            text="x" * (int(random.integers(TOKENS // 2, TOKENS + TOKENS // 2 + 1)) - start_and_end),
            label=float(random.uniform(-3, 3)),
            frames=random.integers(0, 256, shape, np.uint8) if config.teacher is not None else None,
            faces=random.standard_normal((64, 8)).astype(np.float32),
        )
        for number in range(count)
    ]


def made_batch(config: Config, clips: int, tokens: int) -> Batch:
    """A micro-batch of random content, all texts of `tokens` tokens."""
    import torch

    from vadv.models.batch import Batch
    from vadv.models.text import lay

    generator = torch.Generator().manual_seed(1)
    data, teacher = config.data, config.teacher
    frames = faces = mask = None
    if teacher is not None:
        shape = (clips, data.frames, 3, data.frame_size, data.frame_size)
        frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        if teacher.face:
            faces = torch.randn(clips, 64, 8, generator=generator)
            mask = torch.ones(clips, 64, dtype=torch.bool)
    return Batch(
        weight=torch.ones(clips),
        label=torch.randn(clips, generator=generator),
        index=torch.arange(clips) % 2,
        noise=torch.arange(clips),
        text=lay(torch.randint(5, 200, (clips, tokens), generator=generator).tolist()),
        frames=frames,
        faces=faces,
        face_mask=mask,
    )


def alone() -> None:
    """Make this process the only rank, on the CPU when there is no GPU."""
    from vadv.training.distributed import choose_accelerator

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    choose_accelerator()
