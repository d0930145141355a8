"""What can be learnt: one file for each value of `task`, named like it, whose `TASK` is a class as `Task` describes.

A task names its model, its batches and its metrics; training knows nothing else. docs/extend.md shows how to write another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vadv import parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor, nn

    from shards.clip import Clip
    from vadv.config import Config
    from vadv.models.batch import Batch


@dataclass(frozen=True)
class Measure:
    """The metric that a task's students are judged by: on the validation split it selects the best one.

    result.json and the validations in metrics.jsonl repeat it, so that reports and the status of a sweep need no task.
    """

    output: str
    """The output that is scored, as `Task.metrics` names it."""
    metric: str
    """The metric of that output."""
    name: str
    """What people call it."""
    better: Literal["low", "high"]
    """Which values are the better ones."""

    @property
    def sign(self) -> int:
        """A value times this is the smaller the better."""
        return 1 if self.better == "low" else -1


class Task(Protocol):
    """The interface between training and what is trained.

    What is said of the class itself is known before a model is built.
    """

    measure: Measure
    """Of the class: what selects the best student."""
    text: bool
    """Of the class: whether the student is the pretrained text encoder of `student`."""
    sample: str
    """Of the class: the source (launch/pack.py) of drawn clips, on which debug mode trains where there are no shards."""
    shards: str
    """Of the class: the task in the manifests of shards that it learns from, which says what their labels mean."""
    config: Config
    """The run's settings."""
    module: nn.Module
    """Teacher, student and objective: `module(batch)` returns {"loss", "terms", "logits"} (vadv/models/videoadviser.py)."""
    video: bool
    """Whether clips need their frames."""
    faces: bool
    """Whether clips need their face features."""

    def __init__(self, config: Config, clips: int) -> None:
        """Build the model.

        Args:
            config: the run's settings.
            clips: number of training clips, for objectives with a memory of all of them.
        """

    def collate(self, clips: Sequence[Clip], epoch: int) -> Batch:
        """One micro-batch as tensors."""

    def columns(self, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        """The model's outputs as named columns, (B,) each, of the prediction table."""

    def metrics(self, table: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """Metrics per output from columns `label` and those of `columns`, each (N,)."""

    def save_student(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write the student in the form it is used in afterwards; the module holds whole weights on this rank."""


def kind(config: Config) -> type[Task]:
    """The class of the task that `config.task` names."""
    found: type[Task] = parts.load(__name__, config.task).TASK
    return found


def build(config: Config, clips: int) -> Task:
    """The task itself, with its model; see `Task`."""
    return kind(config)(config, clips)
