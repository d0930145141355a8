"""A model and a micro-batch that have shapes but no numbers, to find out what a step needs before there is one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from vadv.config import Config
from vadv.models.batch import Batch
from vadv.models.count import meta_model
from vadv.models.teacher import FACE_FRAMES, FACE_WIDTH
from vadv.models.text import lay


@contextlib.contextmanager
def shapes_of(
    config: Config, clips: int, tokens: int, dtype: torch.dtype = torch.float32
) -> Iterator[tuple[nn.Module, Batch]]:
    """The model of a sentiment configuration, and a micro-batch of so many clips and texts of so many tokens.

    Inside, torch computes shapes and formats of tensors, in no memory and almost no time, as if on a CPU.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = meta_model(config).to(dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        yield model.train(), _micro_batch(config, clips, tokens)


def _micro_batch(config: Config, clips: int, tokens: int) -> Batch:
    data, teacher = config.data, config.teacher
    frames = faces = mask = None
    if teacher is not None:
        frames = torch.zeros(clips, data.frames, 3, data.frame_size, data.frame_size, dtype=torch.uint8)
        if teacher.face:
            faces = torch.zeros(clips, FACE_FRAMES, FACE_WIDTH)
            mask = torch.ones(clips, FACE_FRAMES, dtype=torch.bool)
    return Batch(
        weight=torch.ones(clips),
        label=torch.zeros(clips),
        index=torch.zeros(clips, dtype=torch.int64),
        noise=torch.zeros(clips, dtype=torch.int64),
        text=lay([[5] * tokens] * clips),
        frames=frames,
        faces=faces,
        face_mask=mask,
    )
