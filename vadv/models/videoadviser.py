"""Teacher, student and objective as one module, trained end to end (section 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from vadv.models.batch import Batch
from vadv.models.student import Student
from vadv.models.teacher import Teacher
from vadv.objectives.joint import Joint


class VideoAdviser(nn.Module):
    """What one DeepSpeed engine trains. Without a teacher, the student alone."""

    def __init__(self, teacher: Teacher | None, student: Student, objective: Joint) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.objective = objective
        if teacher is not None:
            freeze_unused(teacher, objective)

    def pretrained_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that do not start from random weights: `train.new_module_lr_factor` spares them."""
        if self.teacher is not None:
            yield from self.teacher.pretrained_parameters()
        yield from self.student.pretrained_parameters()

    def forward(self, batch: Batch) -> dict[str, Any]:
        """One micro-batch.

        Returns:
            `loss`: scalar, the sum over the micro-batch of weight x joint loss (eq. 15); the trainer divides by the
            number of clips in the whole step. `terms`: name → the same sum of each term before its coefficient.
            `logits`: text (B,), video (B,), prompt (B,), and scores (B, C) = p of eq. 8; the last three with a
            teacher only. All float32.
        """
        student = self.student(batch)
        teacher = self.teacher(batch) if self.teacher is not None else None
        loss, terms = self.objective(teacher, {"text": student}, batch)
        logits: dict[str, Tensor] = {"text": student.logit.squeeze(-1)}
        if teacher is not None:
            logits |= {
                "video": teacher.video.logit.squeeze(-1),
                "prompt": teacher.prompt.logit.squeeze(-1),
                "scores": teacher.scores.exp(),
            }
        return {"loss": loss, "terms": terms, "logits": logits}


def freeze_unused(teacher: Teacher, objective: Joint) -> None:
    """Do not train what no term of the objective reaches.

    Without the first step (delta = 0) the prompt logit's MLP gets no gradient at all. An optimizer would still shrink
    its weights, and sharding engines would wait for gradients that never come.
    """
    used = objective.uses
    if not {"prompt.logit", "prompt.hidden"} & used:
        teacher.prompt_logit.requires_grad_(False)
        if "scores" not in used:
            for module in (teacher.context, teacher.prompting, teacher.text):
                if module is not None:
                    module.requires_grad_(False)
    if not {"video.logit", "video.hidden"} & used:
        teacher.video_logit.requires_grad_(False)
    for side, mlp in (("video", teacher.video_logit), ("prompt", teacher.prompt_logit)):
        if f"{side}.logit" not in used:
            mlp.out.requires_grad_(False)
