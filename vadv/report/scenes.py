"""What figures and the clip explorer show: for each dataset and student, one group of runs per way of teaching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vadv.report.groups import Group, Traits, shown, slug
from vadv.report.tables import VARIANTS
from vadv.tasks import Measure

NAMES = {**VARIANTS, "alone": "student alone"}
"""How series are called, by variant."""
ORDER = ("step", "none", "alone", "crd", "step-without-first", "fitnet", "kd", "pkt")
"""In which they are drawn."""
SIDES = {"both": "", "visual": ", video student only", "audio": ", audio student only"}
"""What is said of the retrieval task's students that the teacher reached."""
OURS = NAMES["step"]
"""The method as it is by default."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Groups that may be shown side by side: the same data and the same student.

    Attributes:
        name: for files, `mosi-roberta-large`.
        title: for people.
        groups: series name → group, the most telling first.
    """

    name: str
    title: str
    groups: dict[str, Group]

    @property
    def measure(self) -> Measure:
        """What the students are judged by."""
        return next(iter(self.groups.values())).measure


def scenes(groups: Sequence[Group]) -> list[Scene]:
    """All scenes, in the order of their names.

    Where several settings were tried for one way of teaching, the group that is best on the validation split stands
    for it.
    """
    sorted_: dict[tuple[str, tuple[str, ...], str], dict[tuple[int, str], list[Group]]] = {}
    for group in groups:
        kind = group.traits
        if group.runs and _shown(kind):
            place = ORDER.index(kind.variant) if kind.variant in ORDER else len(ORDER)
            name = NAMES.get(kind.variant, kind.variant)  # a distiller that the paper does not have
            series = (place, name + (SIDES[kind.sides] if kind.teacher else ""))
            sorted_.setdefault((kind.task, kind.datasets, kind.student), {}).setdefault(series, []).append(group)
    found = []
    for (_, datasets, student), variants in sorted(sorted_.items()):
        found.append(
            Scene(
                name=slug("-".join([*datasets, student])),
                title=f"{shown(datasets)}, {student}",
                groups={name: min(tried, key=_validation) for (_, name), tried in sorted(variants.items())},
            )
        )
    return found


def _shown(kind: Traits) -> bool:
    if kind.task == "sentiment":  # the ablations have their tables
        return (kind.whole or not kind.teacher) and not kind.frozen
    return kind.method == "ours"


def _validation(group: Group) -> tuple[float, int]:
    """Smaller is better."""
    scores = group.main_scores("valid")
    return (group.measure.sign * float(np.mean(scores)) if scores else float("inf"), -len(group.runs))
