"""How many parameters the modules of a model have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Count:
    """Parameters of one module."""

    module: str
    """Dotted name, e.g. teacher.cct."""
    what: str
    """For people; empty for a module of somebody's own task."""
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
    "student.audio": "audio student (Fig. 4)",
    "student.visual": "visual student (Fig. 4)",
    "objective": "distiller",
}


def count(model: nn.Module) -> list[Count]:
    """Parameters per module, in the order of the forward pass, modules without any left out."""
    rows = []
    for name, module in _modules(model):
        sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
        frozen, trainable = (sum(n for n, trained in sizes if trained == kind) for kind in (False, True))
        if sizes:
            rows.append(Count(name, WHAT.get(name, ""), frozen, trainable))
    return rows


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of teacher and student, and what there is beside these."""
    for name, module in model.named_children():
        if name in ("teacher", "student"):
            yield from ((f"{name}.{part}", inner) for part, inner in module.named_children())
        else:
            yield name, module
