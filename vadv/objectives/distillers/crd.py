"""CRD, contrastive representation distillation (Tian et al. 2020), in the form of RepDistiller.

f_t, f_s: linear maps of V and V^(t) to 128 channels, scaled to norm 1. Two memories hold both for all n training clips.
Clip i is told from m others j by the scores exp(⟨f_i, memory_j⟩ / τ) / Z, where Z is fixed by the first batch:
    loss_i = -log h(positive) - Σ_negatives log(1 - h),   h(x) = x / (x + m / n)
for f_s against the teacher's memory plus f_t against the student's. Memories then move: normalise(½ memory + ½ f).

The paper does not say whether its first step was kept beside CRD. Here it is; `objective.delta=0` takes it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vadv.models.keyed import keyed_bits
from vadv.models.mlp import FullPrecisionLinear
from vadv.objectives.distillers.step import first
from vadv.objectives.transfer import Gather, Pair, Transfer

if TYPE_CHECKING:
    from vadv.models.batch import Batch

__all__ = ["CRD", "first", "second"]

WIDTH = 128
TEMPERATURE = 0.07
MOMENTUM = 0.5
EPSILON = 1e-7
STREAM = 0x43524400
"""Number of the stream of random bits that negatives come from (`keyed_bits`)."""


class CRD(Transfer):
    """Contrast V with V^(t) against other clips.

    Negatives are other clips, drawn by a hash of the clip's key, never from a global generator. With at least n - 1
    of them, all others are taken once. The memories are part of the state that a checkpoint holds; they are kept as
    the bits of float32 numbers, so that a model cast to bfloat16 does not round them.
    """

    name = "crd"
    acts_on: Literal["representation"] = "representation"
    per_clip = False
    memory_teacher: Tensor
    memory_student: Tensor
    normaliser: Tensor

    def __init__(self, teacher_width: int, student_width: int, clips: int, negatives: int, gather: Gather) -> None:
        """Build.

        Args:
            teacher_width: of V.
            student_width: of V^(t).
            clips: n, number of training clips.
            negatives: m, capped at n - 1.
            gather: joins the ranks' clips, for the memories.
        """
        super().__init__()
        if clips < 2:
            raise ValueError(f"objective.variant: crd needs at least 2 training clips to contrast, found {clips}")
        self.clips, self.negatives, self.gather = clips, min(negatives, clips - 1), gather
        self.embed_teacher: nn.Module = FullPrecisionLinear(teacher_width, WIDTH)
        self.embed_student: nn.Module = FullPrecisionLinear(student_width, WIDTH)
        bound = 1 / (WIDTH / 3) ** 0.5
        for name in ("memory_teacher", "memory_student"):
            # One row more than clips: clips of weight 0 are written there.
            memory = torch.empty(clips + 1, WIDTH).uniform_(-bound, bound)
            self.register_buffer(name, memory.view(torch.int32))
        self.register_buffer("normaliser", torch.full((2,), -1.0).view(torch.int32))

    def forward(self, teacher: Tensor, student: Tensor, batch: Batch) -> Tensor:
        """(B, D), (B, W) → (B,), and move the memories."""
        t = F.normalize(self.embed_teacher(teacher), dim=1)
        s = F.normalize(self.embed_student(student), dim=1)
        memory_t, memory_s = self.memory_teacher.view(torch.float32), self.memory_student.view(torch.float32)
        others = self._others(batch.index, batch.noise)
        # Clones: backward needs the memories as they were before they move.
        from_s = self._scores(s, memory_t[:-1].clone(), batch.index, others)
        from_t = self._scores(t, memory_s[:-1].clone(), batch.index, others)
        counts = self.gather(batch.weight.float()) > 0
        z = self._fix_normaliser(torch.stack([from_s, from_t]).detach(), counts)
        loss = self._contrast(from_s / z[0]) + self._contrast(from_t / z[1])
        with torch.no_grad():
            rows = torch.where(counts, self.gather(batch.index), self.clips)
            for memory, new in ((memory_t, t), (memory_s, s)):
                moved = MOMENTUM * memory[rows] + (1 - MOMENTUM) * self.gather(new.detach())
                memory[rows] = F.normalize(moved, dim=1)
        return loss

    def _others(self, index: Tensor, noise: Tensor) -> Tensor:
        """(B,), (B,) → (B, m) indices of negatives, none of them the clip itself."""
        n = self.clips
        if self.negatives == n - 1:
            steps = torch.arange(n - 1, device=index.device).expand(len(index), -1)
        else:
            steps = keyed_bits(noise, STREAM, self.negatives) % (n - 1)
        return (index[:, None] + 1 + steps) % n

    def _scores(self, x: Tensor, memory: Tensor, index: Tensor, others: Tensor) -> Tensor:
        """(B, 128) against (n, 128) → (B, 1 + m): the positive's and the negatives' exp(similarity / τ)."""
        similarity = x @ memory.T
        return torch.exp(similarity.gather(1, torch.cat([index[:, None], others], dim=1)) / TEMPERATURE)

    def _fix_normaliser(self, scores: Tensor, counts: Tensor) -> Tensor:
        """(2, B, 1 + m) scores of the first batch that has a clip → (2,) Z = n · their mean; later the same Z."""
        fixed = self.normaliser.view(torch.float32)
        means = self.gather(scores.mean(dim=2).T)
        found = self.clips * torch.where(counts[:, None], means, 0.0).sum(dim=0) / counts.sum().clamp(min=1)
        with torch.no_grad():
            fixed.copy_(torch.where((fixed < 0) & counts.any(), found, fixed))
        return torch.where(fixed < 0, 1.0, fixed)

    def _contrast(self, scores: Tensor) -> Tensor:
        """(B, 1 + m) → (B,)."""
        noise = self.negatives / self.clips
        positive, negative = scores[:, 0], scores[:, 1:]
        log_positive = torch.log(positive / (positive + noise + EPSILON))
        log_negative = torch.log(noise / (negative + noise + EPSILON))
        return -(log_positive + log_negative.sum(dim=1))


def second(pair: Pair) -> Transfer:
    """CRD of V and V^(t)."""
    widths = pair.teacher.representation, pair.student.representation
    return CRD(*widths, pair.clips, pair.settings.crd_negatives, pair.gather)
