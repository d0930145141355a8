"""A model and a micro-batch that have shapes but no numbers, to find out what a step needs before there is one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from shards.clip import Clip
from vadv import tasks
from vadv.config import Config
from vadv.models.batch import Batch
from vadv.models.teacher import FACE_FRAMES, FACE_WIDTH
from vadv.tasks import Task


def meta_task(config: Config) -> Task:
    """The task of a configuration with its model on the meta device: shapes without weights, and without any download
    for the models that the project knows by name.

    Raises:
        ValueError, OSError: an unknown model name; shards that the task takes its sizes from are not there.
    """
    student, teacher = replace(config.student, weights="random"), config.teacher
    if teacher is not None:
        teacher = replace(teacher, weights="random", compile=False)
    with torch.device("meta"):
        return tasks.build(replace(config, student=student, teacher=teacher), clips=2)


@contextlib.contextmanager
def shapes_of(
    config: Config, clips: int, tokens: int, dtype: torch.dtype = torch.float32
) -> Iterator[tuple[nn.Module, Batch]]:
    """The model of a configuration, and a micro-batch of so many clips with texts of so many tokens.

    Inside, torch computes shapes and formats of tensors, in no memory and almost no time, as if on a CPU.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    task = meta_task(replace(config, student=replace(config.student, max_tokens=tokens)))
    model, batch = task.module.to(dtype), task.collate(_clips(config, task, clips, tokens), epoch=0)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model.to_empty(device="cpu")
        yield model.train(), batch.each(mode.from_tensor)


def _clips(config: Config, task: Task, count: int, tokens: int) -> list[Clip]:
    """Clips with all that the task reads; their texts are cut to `student.max_tokens`."""
    shape = (config.data.frames, 3, config.data.frame_size, config.data.frame_size)
    frames = np.zeros(shape, np.uint8) if task.video else None
    faces = np.ones((FACE_FRAMES, FACE_WIDTH), np.float32) if task.faces else None
    return [Clip(index=0, text="a " * tokens, frames=frames, faces=faces) for _ in range(count)]
