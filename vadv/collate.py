"""Clips to one micro-batch of tensors: what is the same for every task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shards.clip import Clip
from vadv.models.batch import Batch
from vadv.tasks import Task


def collate(task: Task, clips: Sequence[Clip], epoch: int, *, label: Tensor, **of_task: Any) -> Batch:
    """Tensors of B clips; what does not count holds zeros.

    Args:
        task: whether it watches video and faces; frames are left out where no clip brings any (all come from the
            feature cache).
        clips: slots of one micro-batch.
        epoch: decides the clips' random numbers.
        label: (B,), as the task reads it.
        of_task: further fields of `Batch`.
    """
    config = task.config
    frames = seen = mask = None
    counted = [(row, clip) for row, clip in enumerate(clips) if clip.counts]
    if task.video and any(clip.frames is not None for clip in clips):
        size = config.data.frame_size
        frames = torch.zeros(len(clips), config.data.frames, 3, size, size, dtype=torch.uint8)
        for row, clip in counted:
            if clip.frames is not None:
                frames[row] = torch.from_numpy(clip.frames)
    if task.faces:
        seen = torch.zeros(len(clips), 64, 8)
        for row, clip in counted:
            if clip.faces is not None:
                seen[row] = torch.from_numpy(clip.faces)
        mask = seen.ne(0).any(-1)
    return Batch(
        weight=torch.tensor([float(clip.counts) for clip in clips]),
        label=label,
        index=torch.tensor([max(0, clip.index) for clip in clips]),
        noise=torch.tensor([_noise_key(config.seed, epoch, clip) for clip in clips]),
        frames=frames,
        faces=seen,
        face_mask=mask,
        **of_task,
    )


def _noise_key(seed: int, epoch: int, clip: Clip) -> int:
    """Key of a clip's random numbers in one epoch: 63 bits, the same on any number of ranks."""
    text = f"{seed}/{epoch}/{clip.dataset}/{clip.id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
