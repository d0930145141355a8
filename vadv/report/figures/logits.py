"""What the logits look like with and without step-distillation (Fig. 5)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from vadv.report.figures.style import LOOKS, PAGE, escaped, figure

COLUMNS = {
    "label": "ground truth",
    "text_logit": "text logit (student)",
    "video_logit": "video logit (teacher)",
    "prompt_logit": "prompt logit (teacher)",
}


def logit_histograms(runs: Mapping[str, Mapping[str, np.ndarray]]) -> Any:
    """A row of histograms per run: labels and the three logits; a column shares its axis.

    Args:
        runs: name of the run → `label`, `text_logit`, and the teacher's logits where it had one, (N,) each.
    """
    drawn, axes = figure(PAGE, 0.6 + 1.35 * len(runs), rows=len(runs), columns=len(COLUMNS), squeeze=False)
    for column, (key, title) in enumerate(COLUMNS.items()):
        values = np.concatenate([table[key] for table in runs.values() if key in table] or [np.zeros(1)])
        edges = bins(float(values.min()), float(values.max()))
        for row, (name, table) in enumerate(runs.items()):
            axis = axes[row, column]
            if key in table:
                axis.hist(table[key], edges, color=LOOKS[0].colour, edgecolor="white", linewidth=0.4)
                spread = f"mean {table[key].mean():.2f}, sd {table[key].std():.2f}"
                axis.text(0.98, 0.98, spread, transform=axis.transAxes, ha="right", va="top", fontsize=6)
                axis.set_ylim(top=axis.get_ylim()[1] * 1.18)
            else:
                axis.text(0.5, 0.5, "no teacher", transform=axis.transAxes, ha="center", va="center", color="#555555")
                axis.set_yticks([])
            axis.set_xlim(edges[0], edges[-1])
            if row == 0:
                axis.set_title(title)
            if row < len(runs) - 1:
                axis.tick_params(labelbottom=False)
            if column == 0:
                axis.set_ylabel("\n".join(textwrap.wrap(escaped(name), 20)) + "\nclips")
    drawn.supxlabel("value", fontsize=8)
    return drawn


def bins(low: float, high: float) -> np.ndarray:
    """Edges of bins. Labels are multiples of 0.2 or so: edges 0.4 apart between them keep a histogram free of combs."""
    if high - low > 4:
        first, last = np.floor((low + 0.1) / 0.4), np.ceil((high + 0.1) / 0.4)
        return np.arange(first, last + 1) * 0.4 - 0.1
    middle, half = (low + high) / 2, max((high - low) / 2, 0.05)
    return np.linspace(middle - half, middle + half, 25)
