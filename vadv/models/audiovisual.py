"""Video teacher, audio student and visual student as one module (Fig. 4), trained end to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from vadv.models.batch import Batch
from vadv.models.eics import ModalityStudent
from vadv.models.teacher import Teacher
from vadv.models.videoadviser import freeze_unused
from vadv.objectives.joint import Joint
from vadv.objectives.spaces import SpaceLoss


class AudioVisualAdviser(nn.Module):
    """What one DeepSpeed engine trains for retrieval. Without a teacher, the EICS-style baseline of Table 8."""

    def __init__(
        self,
        teacher: Teacher | None,
        students: Mapping[str, ModalityStudent],
        objective: Joint,
        spaces: SpaceLoss,
    ) -> None:
        """Put together.

        Args:
            teacher: with one prompt per class and logits as wide as there are classes.
            students: `audio` and `visual`.
            objective: classifies every logit and distils; see `vadv.objectives.build`.
            spaces: what shapes the students' two spaces.
        """
        super().__init__()
        self.teacher = teacher
        self.student = nn.ModuleDict(dict(students))
        self.objective, self.spaces = objective, spaces
        if teacher is not None:
            freeze_unused(teacher, objective)

    def pretrained_parameters(self) -> Iterator[nn.Parameter]:
        """CLIP's; the students start from random weights."""
        if self.teacher is not None:
            yield from self.teacher.pretrained_parameters()

    def forward(self, batch: Batch) -> dict[str, Any]:
        """One micro-batch; takes `audio`, `image`, and `frames` or `visual` where there is a teacher.

        Returns:
            `loss`: scalar, the sum over the micro-batch of weight x (joint loss + both spaces' losses).
            `terms`: name → the same sum of each term before its coefficient.
            `logits`: audio (B, C), visual (B, C); with a teacher also video, prompt and scores = p of eq. 8. Float32.
        """
        assert batch.audio is not None and batch.image is not None
        students = {"audio": self.student["audio"](batch.audio), "visual": self.student["visual"](batch.image)}
        teacher = self.teacher(batch) if self.teacher is not None else None
        loss, terms = self.objective(teacher, students, batch)
        shaped, space_terms = self.spaces(students, batch)
        logits: dict[str, Tensor] = {name: output.logit for name, output in students.items()}
        if teacher is not None:
            logits |= {"video": teacher.video.logit, "prompt": teacher.prompt.logit, "scores": teacher.scores.exp()}
        return {"loss": loss + shaped, "terms": {**terms, **space_terms}, "logits": logits}
