"""How many floating-point operations the model needs, per tower, from its shapes alone: what MFU is computed from.

Counted are matrix products (linear layers, patch embedding, attention), a multiplication and an addition as two; what
is computed again by activation checkpointing is not. Agrees with torch's FlopCounterMode to 1 % (tests/speed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from vadv.models.batch import Batch
from vadv.models.clip import FrozenFrames, TextTower
from vadv.models.cross_frame import CrossFrameBlock
from vadv.models.multi_frame import MultiFrameTransformer
from vadv.models.student import Student
from vadv.models.teacher import FACE_FRAMES, Teacher
from vadv.models.transformer import Block, CrossAttention, FeedForward


@dataclass(frozen=True)
class Flops:
    """Operations of the forward and of the backward pass."""

    forward: float = 0.0
    backward: float = 0.0

    @property
    def total(self) -> float:
        """Of both passes."""
        return self.forward + self.backward

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: float) -> Flops:
        return Flops(self.forward * times, self.backward * times)


class Work:
    """Operations of a model's micro-batches.

    Args:
        module: `VideoAdviser` or `AudioVisualAdviser`, before DeepSpeed or a feature cache has it.

    Attributes:
        frozen: of frozen CLIP, for one clip.
        teacher: of all else that the teacher does with one clip: CLIP's trained blocks, CCT, MIT, prompting, logits.
        prompts: of CLIP's text tower in one micro-batch, when it is trained.
    """

    def __init__(self, module: nn.Module) -> None:
        teacher: Teacher | None = getattr(module, "teacher", None)
        student: Any = getattr(module, "student", None)
        self.frozen = self.teacher = self.prompts = Flops()
        if teacher is not None:
            self.frozen = _frozen(teacher.clip, teacher)
            self.teacher = _teacher(teacher)
            if teacher.text is not None:
                self.prompts = _text(teacher.text, *teacher.prompt_ids.shape)
        self._tokens, self._texts, self._attention = Flops(), Flops(), Flops()
        if isinstance(student, Student):
            encoder: Any = student.encoder
            trained = any(p.requires_grad for p in encoder.parameters())
            layers = list(encoder.encoder.layer)
            self._tokens = sum((linears(layer, 1, trained) for layer in layers), Flops())
            self._attention = attention(1, 1, encoder.config.hidden_size, trained) * len(layers)
            self._texts = linears(student.head, 1, trained)
        elif student is not None:  # students of features: one vector is one text here
            self._texts = linears(student, 1)

    def student(self, texts: int, rows: int = 0, length: int = 0) -> Flops:
        """Of the student for so many texts in rows of `length` tokens, or of the students of features."""
        return (self._tokens * length + self._attention * length**2) * rows + self._texts * texts

    def micro_batch(self, batch: Batch, encoded: int) -> Flops:
        """Of one training micro-batch.

        Args:
            batch: its tensors' shapes are what counts: empty slots and padding are computed as well.
            encoded: clips that frozen CLIP encodes; the others come from the cache.
        """
        slots = len(batch.weight)
        shape = batch.text.ids.shape if batch.text is not None else ()
        return self.student(slots, *shape) + self.teacher * slots + self.prompts + self.frozen * encoded


def linears(module: nn.Module, tokens: float, gradient: bool = True) -> Flops:
    """Of all linear layers in `module`, each applied once to so many tokens.

    Args:
        gradient: whether the inputs want a gradient too.
    """
    found = Flops()
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            forward = 2.0 * tokens * layer.in_features * layer.out_features
            found += Flops(forward, forward * (gradient + layer.weight.requires_grad))
    return found


def attention(queries: float, keys: float, width: int, gradient: bool = True) -> Flops:
    """Of softmax(q k) v, all heads of one sequence together; the backward pass has twice as many products."""
    forward = 4.0 * queries * keys * width
    return Flops(forward, 2 * forward * gradient)


def _block(block: Block, length: int, gradient: bool) -> Flops:
    return linears(block, length, gradient) + attention(length, length, block.norm1.normalized_shape[0], gradient)


def _frozen(tower: FrozenFrames, teacher: Teacher) -> Flops:
    g = teacher.geometry
    patches = Flops(2.0 * g.patches * 3 * g.patch**2 * g.width)
    blocks = sum((_block(block, g.patches + 1, False) for block in tower.blocks), Flops())
    return Flops((patches + blocks).forward * teacher.frames)


def _teacher(teacher: Teacher) -> Flops:
    g, t = teacher.geometry, teacher.frames
    found = Flops()
    if teacher.tail is not None:
        found += sum((_block(block, g.patches + 1, True) for block in teacher.tail.blocks), Flops()) * t
    for number, block in enumerate(teacher.cct.blocks):
        # What comes from frozen layers wants no gradient.
        found += _cross_frame(block, t, g.patches + 1, gradient=number > 0 or teacher.tail is not None)
    found += linears(teacher.head, t) + _multi_frame(teacher.mit, t)
    if teacher.face is not None:
        found += linears(teacher.face.embed, FACE_FRAMES, False) + _multi_frame(teacher.face.mit, FACE_FRAMES)
    found += linears(teacher.fuse, 1) + linears(teacher.video_logit, 1) + linears(teacher.prompt_logit, 1)
    if teacher.context is not None and teacher.prompting is not None:
        classes = len(teacher.prompts) if teacher.text is None else len(teacher.prompt_ids)
        found += linears(teacher.context, g.patches)
        for layer in teacher.prompting.modules():
            if isinstance(layer, CrossAttention):
                found += linears(layer.q, classes, teacher.text is not None or teacher.prompting.mode == "xclip")
                found += linears(layer.out, classes)
                found += linears(layer.k, g.patches) + linears(layer.v, g.patches)
                found += attention(classes, g.patches, g.embed)
            elif isinstance(layer, FeedForward):
                found += linears(layer, classes)
    return found


def _cross_frame(block: Any, frames: int, tokens: int, gradient: bool) -> Flops:
    assert isinstance(block, CrossFrameBlock)
    width = block.norm1.normalized_shape[0]
    message = linears(block.message, frames, gradient) + linears(block.message_attention, frames)
    message += attention(frames, frames, width)
    own = linears(block.attention, tokens + 1) + attention(tokens + 1, tokens + 1, width) + linears(block.mlp, tokens)
    return message + own * frames


def _multi_frame(mit: MultiFrameTransformer, frames: int) -> Flops:
    return sum((_block(block, frames, True) for block in mit.blocks if isinstance(block, Block)), Flops())


def _text(tower: TextTower, prompts: int, length: int) -> Flops:
    blocks = sum((_block(block, length, True) for block in tower.blocks if isinstance(block, Block)), Flops())
    return (blocks + linears(tower.projection, 1)) * prompts
