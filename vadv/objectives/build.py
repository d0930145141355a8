"""The joint loss of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from vadv import parts
from vadv.config import DISTILLERS
from vadv.models.outputs import Widths
from vadv.models.seeding import seeded
from vadv.objectives.joint import Joint
from vadv.objectives.transfer import Gather, Pair, Transfer, alone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from vadv.config import Config
    from vadv.models.teacher import Teacher
    from vadv.objectives.distillers import Distiller


def build_objective(
    config: Config,
    teacher: Teacher | None,
    student: nn.Module | Mapping[str, nn.Module],
    clips: int,
    gather: Gather = alone,
    *,
    labels: Literal["real", "class"] = "real",
) -> Joint:
    """Build the joint loss, with the distiller that `objective.variant` names.

    Args:
        config: the run's settings.
        teacher: None for a student alone; the variant then has nothing to say.
        student: the text student, or several by name; each has a `head` with `widths`, as `LogitMLP` has.
        clips: number of training clips, for distillers with a memory of all of them.
        gather: joins the ranks' micro-batches, for distillers that compare clips.
        labels: what the task's labels are; see `Joint`.

    Raises:
        ValueError: the variant is not defined for these outputs.
    """
    if teacher is None:
        return Joint(config.objective, labels=labels)
    distiller = cast("Distiller", parts.load(DISTILLERS, config.objective.variant))

    def pair(teaching: Widths, learning: Widths) -> Pair:
        return Pair(teacher=teaching, student=learning, settings=config.objective, clips=clips, gather=gather)

    video = teacher.video_logit.widths
    with seeded(config.seed, "objective.first"):
        first = distiller.first(pair(teacher.prompt_logit.widths, video))
    students: Mapping[str, nn.Module] = student if isinstance(student, dict) else {"text": student}
    second: dict[str, Transfer] = {}
    for name, module in students.items():
        with seeded(config.seed, f"objective.{name}"):
            transfer = distiller.second(pair(video, cast(Any, module).head.widths))
        if transfer is not None:
            second[name] = transfer
    return Joint(config.objective, labels=labels, first=first, second=second)
