"""Label distribution (Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vadv.report.figures.style import COLUMN, NEGATIVE, POSITIVE, figure

EDGES = np.arange(-3, 3.01, 0.5)
"""No bin holds both classes: 0 opens one."""


def label_distribution(labels: Mapping[str, Sequence[float]]) -> Any:
    """Histograms of sentiment labels, one panel per dataset, the binary classes apart.

    Args:
        labels: dataset → labels in [-3, 3].
    """
    drawn, axes = figure(COLUMN, 0.3 + 1.6 * len(labels), rows=len(labels), squeeze=False)
    for axis, (name, values) in zip(axes[:, 0], labels.items(), strict=True):
        counts, _ = np.histogram(np.clip(values, -3, 3), EDGES)
        negative = EDGES[:-1] < 0
        for side, look, label in (
            (negative, NEGATIVE, "negative, [−3, 0)"),
            (~negative, POSITIVE, "non-negative, [0, 3]"),
        ):
            axis.bar(
                EDGES[:-1][side],
                counts[side],
                width=0.5,
                align="edge",
                color=look.colour,
                edgecolor="white",
                hatch=look.hatch,
                label=label,
                linewidth=0.6,
            )
        axis.set(title=f"{name} (n = {len(values):,})", ylabel="clips", xticks=range(-3, 4))
        axis.margins(x=0.01)
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    axes[-1, 0].set_xlabel("sentiment label")
    return drawn
