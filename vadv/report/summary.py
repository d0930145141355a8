"""The report in a few sentences: what each way of teaching gives, and whether the teacher helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vadv.report.groups import Group
from vadv.report.scenes import Scene
from vadv.report.significance import compare
from vadv.report.tables import VARIANTS

OURS = VARIANTS["step"]


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A dataset and a student.

    Attributes:
        title: which.
        lines: sentences.
    """

    title: str
    lines: list[str]


def glances(scenes: Sequence[Scene], split: str = "test") -> list[Glance]:
    """The summary of each scene that has scores."""
    found = []
    for scene in scenes:
        scores = {name: values for name, group in scene.groups.items() if (values := _mae(group, split))}
        lines = [f"{name}: MAE {_spread(values)}" for name, values in sorted(scores.items(), key=_mean)]
        ours = scores.get(OURS)
        if ours:
            lines += [_verdict(name, ours, other) for name, other in scores.items() if name != OURS]
        if lines:
            found.append(Glance(title=scene.title, lines=lines))
    return found


def _verdict(name: str, ours: list[float], other: list[float]) -> str:
    """Step-distillation against another way, in words that claim no more than the seeds show."""
    result = compare(ours, other, lower_is_better=True)
    start = f"Step-distillation against “{name}”: MAE {'lower' if result.difference < 0 else 'higher'} by "
    size = f"{abs(result.difference):.3f}"
    if result.low is None or result.high is None or result.epsilon is None:
        return f"{start}{size}, from too few seeds to tell chance from effect"
    if result.low <= 0 <= result.high:
        ends = (result.low, result.high)
        return f"{start}{size}, not told from chance (95 % interval of the difference {ends[0]:+.3f} to {ends[1]:+.3f})"
    ends = (min(abs(result.low), abs(result.high)), max(abs(result.low), abs(result.high)))
    return f"{start}{size} (95 % interval {ends[0]:.3f} to {ends[1]:.3f}; ε_min {result.epsilon:.2f})"


def _mae(group: Group, split: str) -> list[float]:
    return [value for value in group.scores("text", "mae", split).values() if value is not None]


def _mean(item: tuple[str, list[float]]) -> float:
    return float(np.mean(item[1]))


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f} over {len(values)} seeds" if len(values) > 1 else f"{mean}, one seed"
