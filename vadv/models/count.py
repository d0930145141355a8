"""How many parameters a configuration has, without memory for a single one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from vadv.config import Config
from vadv.models.student import build_student
from vadv.models.teacher import Teacher, build_teacher
from vadv.models.videoadviser import VideoAdviser
from vadv.objectives.build import build_objective


@dataclass(frozen=True)
class Count:
    """Parameters of one module."""

    module: str
    """Dotted name, e.g. teacher.cct."""
    what: str
    frozen: int
    trainable: int

    @property
    def total(self) -> int:
        """Frozen and trainable ones."""
        return self.frozen + self.trainable


WHAT = {
    "teacher.clip": "CLIP, frozen visual part (eq. 2)",
    "teacher.tail": "CLIP, trained visual blocks (eq. 2)",
    "teacher.cct": "cross-frame communication (eq. 5)",
    "teacher.head": "CLIP, projection of frames",
    "teacher.mit": "multi-frame integration (eq. 5)",
    "teacher.face": "multi-frame integration of faces (eq. 4)",
    "teacher.fuse": "f_v (eq. 6)",
    "teacher.text": "CLIP, text encoder (eq. 3)",
    "teacher.context": "patches to the prompts' space (eq. 7)",
    "teacher.prompting": "video-specific prompting (eq. 7)",
    "teacher.video_logit": "MLP of the video logit",
    "teacher.prompt_logit": "MLP of the prompt logit",
    "student.encoder": "text encoder (eq. 9)",
    "student.head": "MLP of the text logit (eq. 9)",
    "objective": "distiller",
}


def meta_model(config: Config, clips: int = 2) -> VideoAdviser:
    """The model of a sentiment configuration on the meta device: shapes without weights, and without any download
    for the models that the project knows by name.

    Args:
        config: the run's settings.
        clips: number of training clips (CRD's memories are buffers and not counted).

    Raises:
        ValueError: an unknown model name.
    """
    with torch.device("meta"):
        student, _ = build_student(replace(config.student, weights="random"), config.seed)
        teacher: Teacher | None = None
        if config.teacher is not None:
            teacher = build_teacher(
                replace(config.teacher, weights="random", compile=False),
                config.seed,
                frames=config.data.frames,
                frame_size=config.data.frame_size,
            )
        return VideoAdviser(teacher, student, build_objective(config, teacher, student, clips))


def count(config: Config) -> list[Count]:
    """Parameters per module, in the order of the forward pass, modules without any left out."""
    model = meta_model(config)
    rows = []
    for name, what in WHAT.items():
        try:
            module = model.get_submodule(name)
        except AttributeError:
            continue
        frozen, trainable = _split(module)
        if frozen + trainable:
            rows.append(Count(name, what, frozen, trainable))
    return rows


def _split(module: nn.Module | None) -> tuple[int, int]:
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()] if module is not None else []
    return sum(n for n, trained in sizes if not trained), sum(n for n, trained in sizes if trained)
