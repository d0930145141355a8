"""What figures and the clip explorer show: for each dataset and student, one group of runs per way of teaching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vadv.report.groups import Group, shown, slug
from vadv.report.tables import VARIANTS

NAMES = {**VARIANTS, "alone": "student alone"}
"""How series are called, by variant; also the order in which they are drawn."""
ORDER = ("step", "none", "alone", "crd", "step-without-first", "fitnet", "kd", "pkt")


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


def scenes(groups: Sequence[Group]) -> list[Scene]:
    """All scenes of the sentiment task, in the order of their names.

    Where several settings were tried for one way of teaching, the group with the lowest validation MAE stands for it.
    """
    sorted_: dict[tuple[tuple[str, ...], str], dict[str, list[Group]]] = {}
    for group in groups:
        kind = group.traits
        if kind.task == "sentiment" and group.runs and (kind.whole or not kind.teacher) and not kind.frozen:
            sorted_.setdefault((kind.datasets, kind.student), {}).setdefault(kind.variant, []).append(group)
    found = []
    for (datasets, student), variants in sorted(sorted_.items()):
        series = {NAMES[key]: min(variants[key], key=_validation) for key in ORDER if key in variants}
        title = f"{shown(datasets)}, {student}"
        found.append(Scene(name=slug("-".join([*datasets, student])), title=title, groups=series))
    return found


def _validation(group: Group) -> tuple[float, int]:
    scores = [score for score in group.scores("text", "mae", "valid").values() if score is not None]
    return (float(np.mean(scores)) if scores else float("inf"), -len(group.runs))
