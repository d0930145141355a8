"""What can be learnt: one file for each value of `task`, named like it.

A task names its model, its batches and its metrics; training knows nothing else. docs/extend.md shows how to write another.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vadv import parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor, nn

    from shards.clip import Clip
    from vadv.config import Config
    from vadv.models.batch import Batch


class Task(Protocol):
    """The interface between training and what is trained."""

    module: nn.Module
    """Teacher, student and objective: `module(batch)` returns {"loss", "terms", "logits"} (vadv/models/videoadviser.py)."""
    video: bool
    """Whether clips need their frames."""
    faces: bool
    """Whether clips need their face features."""
    score_name: str
    """Name of the validation metric that selects the best student; smaller is better."""

    def collate(self, clips: Sequence[Clip], epoch: int) -> Batch:
        """One micro-batch as tensors."""

    def columns(self, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        """The model's outputs as named columns, (B,) each, of the prediction table."""

    def metrics(self, table: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """Metrics per output from columns `label` and those of `columns`, each (N,)."""

    def score(self, metrics: dict[str, dict[str, float]]) -> float:
        """What selects the best student; smaller is better."""

    def save_student(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write the student in the form it is used in afterwards; the module holds whole weights on this rank."""


def build(config: Config, clips: int) -> Task:
    """The task that `config.task` names.

    Args:
        config: the run's settings.
        clips: number of training clips, for objectives with a memory of all of them.
    """
    task: Task = parts.load(__name__, config.task).build(config, clips)
    return task
