"""The report in a few sentences: what each way of teaching gives, and whether the teacher helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vadv.report.scenes import OURS, Scene
from vadv.report.significance import compare
from vadv.tasks import Measure


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
        measure = scene.measure
        scores = {series: values for series, group in scene.groups.items() if (values := group.main_scores(split))}
        ordered = sorted(scores.items(), key=lambda item: measure.sign * float(np.mean(item[1])))
        lines = [f"{series}: {measure.name} {_spread(values)}" for series, values in ordered]
        ours = scores.get(OURS)
        if ours:
            lines += [_verdict(measure, series, ours, other) for series, other in scores.items() if series != OURS]
        if lines:
            found.append(Glance(title=scene.title, lines=lines))
    return found


def _verdict(measure: Measure, series: str, ours: list[float], other: list[float]) -> str:
    """Step-distillation against another way, in words that claim no more than the seeds show."""
    result = compare(ours, other, lower_is_better=measure.better == "low")
    direction = "lower" if result.difference < 0 else "higher"
    start = f"Step-distillation against “{series}”: {measure.name} {direction} by {abs(result.difference):.3f}"
    if result.low is None or result.high is None or result.epsilon is None:
        return f"{start}, from too few seeds to tell chance from effect"
    if result.low <= 0 <= result.high:
        ends = f"{result.low:+.3f} to {result.high:+.3f}"
        return f"{start}, not told from chance (95 % interval of the difference {ends})"
    near, far = sorted((abs(result.low), abs(result.high)))
    return f"{start} (95 % interval {near:.3f} to {far:.3f}; ε_min {result.epsilon:.2f})"


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f} over {len(values)} seeds" if len(values) > 1 else f"{mean}, one seed"
