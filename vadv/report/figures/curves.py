"""Loss and validation score while training, the seeds as a band."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vadv.report.figures.style import LOOKS, PAGE, figure, shorten
from vadv.report.groups import Group
from vadv.tasks import Measure

History = Sequence[dict[str, Any]]


def training_curves(groups: Mapping[str, Group], measure: Measure) -> Any | None:
    """Left: the training loss, a running mean. Right: the students' validation score. Lines are means over seeds.

    Args:
        groups: name → group; their metrics.jsonl are read.
        measure: the validation score.

    Returns:
        None where no run has logged anything.
    """
    panels = [
        ("training loss (running mean)", lambda history: smoothed(*series(history, "train", ("loss",)))),
        (f"validation {measure.name}", lambda history: series(history, "valid", (measure.output, measure.metric))),
    ]
    histories = {name: [run.history() for run in group.runs.values()] for name, group in groups.items()}
    drawn, axes = figure(PAGE, 2.3, columns=len(panels))
    some = False
    for axis, (title, read) in zip(axes, panels, strict=True):
        for look, (name, runs) in zip(LOOKS, histories.items(), strict=False):
            steps, values = together(runs, read)
            if not len(steps):
                continue
            some = True
            mean = values.mean(axis=0)
            label = f"{shorten(name, 34)} (n = {len(values)})"
            every = max(1, len(steps) // 8)
            axis.plot(
                steps, mean, color=look.colour, linestyle=look.line, marker=look.marker, markevery=every, label=label
            )
            if len(values) > 1:
                axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=look.colour, alpha=0.18, lw=0)
        axis.set(title=title, xlabel="optimizer step")
        axis.margins(x=0.02)
    if not some:
        return None
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) < len(axes[1].get_legend_handles_labels()[1]):
        handles, labels = axes[1].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=2)
    return drawn


def series(history: History, split: str, path: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (K,) and one value of metrics.jsonl at each (K,), lines without it left out."""
    found: dict[int, float] = {}
    for line in history:
        value: Any = line if line.get("split") == split else None
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, (int, float)) and np.isfinite(value):
            found[line["step"]] = float(value)
    steps = np.array(sorted(found), dtype=np.int64)
    return steps, np.array([found[step] for step in steps.tolist()])


def smoothed(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A centred running mean over an eleventh of the points."""
    half = len(values) // 22
    if half:
        sums = np.concatenate([[0.0], np.cumsum(values)])
        index = np.arange(len(values))
        low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
        values = (sums[high] - sums[low]) / (high - low)
    return steps, values


def together(
    runs: Sequence[History], read: Callable[[History], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Steps that all runs have (K,) and their values (runs, K); runs without any are left out."""
    found = [(steps, values) for steps, values in map(read, runs) if len(steps)]
    if not found:
        return np.zeros(0, np.int64), np.zeros((0, 0))
    common = found[0][0]
    for steps, _ in found[1:]:
        common = np.intersect1d(common, steps)
    return common, np.stack([values[np.isin(steps, common)] for steps, values in found])
