"""The joint loss, eq. 15, of its terms, eqs. 10 to 14.

Every term is a sum over the micro-batch, not a mean: the trainer divides by the number of clips in the whole step, so
that any split over ranks and micro-batches has exactly the gradient of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vadv.objectives.transfer import Transfer

if TYPE_CHECKING:
    from vadv import config
    from vadv.models.batch import Batch
    from vadv.models.outputs import Output, TeacherOutput

Record = TypeVar("Record")


class Joint(nn.Module):
    """L = α L_v + β L_t + γ L_c + δ L_p→v + ψ L_v→t."""

    def __init__(
        self,
        settings: config.Objective,
        *,
        labels: Literal["real", "class"],
        first: Transfer | None = None,
        second: Mapping[str, Transfer] | None = None,
    ) -> None:
        """Put the terms together.

        Args:
            settings: `objective` of the configuration, for α, β, γ, δ, ψ and `detach_teacher`.
            labels: `real` numbers are regressed (MSE) and give the two classes of eq. 12 by their sign, 0 being
                positive; a `class` is classified (cross entropy).
            first: from the prompt's output to the video's (eq. 13).
            second: per student, from the video's output to it (eq. 14).
        """
        super().__init__()
        self.settings, self.labels = settings, labels
        self.first = first
        self.second = nn.ModuleDict(second or {})
        if first is not None and not settings.delta:
            first.requires_grad_(False)
        if not settings.psi:
            self.second.requires_grad_(False)

    @property
    def uses(self) -> set[str]:
        """Outputs of the teacher that some term with a coefficient sends a gradient to: video.logit, scores, …"""
        s = self.settings
        used: set[str] = set()
        if s.alpha:
            used.add("video.logit")
        if s.gamma:
            used.add("scores")
        if self.first is not None and s.delta:
            used |= {f"prompt.{self.first.acts_on}", f"video.{self.first.acts_on}"}
        if s.psi and not s.detach_teacher:
            used |= {f"video.{transfer.acts_on}" for transfer in self.second.values()}
        return used

    def forward(
        self, teacher: TeacherOutput | None, students: Mapping[str, Output], batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the terms.

        Args:
            teacher: None for a student alone.
            students: by name; `text` for sentiment.
            batch: labels and weights.

        Returns:
            The weighted sum of eq. 15, a scalar; each term before its coefficient, a scalar by name. All float32.
        """
        s, counts = self.settings, batch.weight > 0
        label = torch.where(counts, batch.label, torch.zeros_like(batch.label))
        students = {name: masked(output, counts) for name, output in students.items()}
        terms: list[tuple[str, float, Tensor]] = []
        kind = "mse" if self.labels == "real" else "ce"
        for name, output in students.items():  # eq. 11
            terms.append((f"{name}_{kind}", s.beta, self._supervised(output.logit, label)))
        if teacher is not None:
            teacher = masked(teacher, counts)
            terms.append((f"video_{kind}", s.alpha, self._supervised(teacher.video.logit, label)))  # eq. 10
            classes = (label >= 0).long() if self.labels == "real" else label
            terms.append(("prompt_ce", s.gamma, F.nll_loss(teacher.scores, classes, reduction="none")))  # eq. 12
            if self.first is not None:  # eq. 13
                loss = self._step(self.first, teacher.prompt, teacher.video, batch)
                terms.append(("prompt_to_video", s.delta, loss))
            video = detached(teacher.video) if s.detach_teacher else teacher.video
            for name, transfer in self.second.items():  # eq. 14
                assert isinstance(transfer, Transfer)
                loss = self._step(transfer, video, students[name], batch)
                terms.append((self._second_name(transfer, name), s.psi, loss))
        sums = {name: (loss * batch.weight).sum() for name, _, loss in terms}
        total = torch.stack([factor * sums[name] for name, factor, _ in terms if factor]).sum()
        return total, {name: value.detach() for name, value in sums.items()}

    def _supervised(self, logit: Tensor, label: Tensor) -> Tensor:
        """(B, K), (B,) → (B,): squared error of a real label, cross entropy of a class."""
        if self.labels == "real":
            return (logit.squeeze(1) - label).square()
        return F.cross_entropy(logit, label, reduction="none")

    def _step(self, transfer: Transfer, teacher: Output, student: Output, batch: Batch) -> Tensor:
        if not (self.training or transfer.per_clip):
            return torch.zeros_like(batch.weight)
        part = transfer.acts_on
        return transfer(getattr(teacher, part), getattr(student, part), batch)

    def _second_name(self, transfer: Transfer, student: str) -> str:
        if transfer.name == "step":
            return f"video_to_{student}"
        return transfer.name if len(self.second) == 1 else f"{transfer.name}_{student}"


def masked(record: Record, counts: Tensor) -> Record:
    """Outputs with zeros in the rows of clips that do not count.

    Not a product with the weight: 0 x NaN is NaN, in the loss and in the gradient.
    """
    return _map(record, lambda x: torch.where(counts.view(-1, *[1] * (x.ndim - 1)), x, torch.zeros_like(x)))


def detached(record: Record) -> Record:
    """Outputs that send no gradient back."""
    return _map(record, torch.Tensor.detach)


def _map(record: Any, function: Any) -> Any:
    parts = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(record, **{k: function(v) if isinstance(v, Tensor) else _map(v, function) for k, v in parts.items()})
