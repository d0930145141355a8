"""The precision-scope curve of retrieval: precision among the first K, for K from 1 to the whole test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vadv.metrics import precision_scope
from vadv.report.figures.style import LOOKS, PAGE, figure, shorten


def precision_scope_curves(runs: Mapping[str, Mapping[str, np.ndarray]]) -> Any:
    """Both directions side by side, a line per run and the share of the class as chance.

    Args:
        runs: name → `audio` (N, C), `visual` (N, C) and `label` (N,).
    """
    from matplotlib.ticker import FuncFormatter

    drawn, axes = figure(PAGE, 2.5, columns=2, sharey=True)
    for axis, title, (queries, gallery) in zip(
        axes, ("audio → video", "video → audio"), (("audio", "visual"), ("visual", "audio")), strict=True
    ):
        for look, (name, table) in zip(LOOKS, runs.items(), strict=False):
            count = len(table["label"])
            scopes = np.unique(np.geomspace(1, count, 40).round().astype(int))
            values = precision_scope(table[queries], table[gallery], table["label"], scopes.tolist())
            axis.plot(
                scopes,
                values,
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                markevery=6,
                label=shorten(name, 46),
            )
        labels = next(iter(runs.values()))["label"]
        shares = np.unique(labels, return_counts=True)[1] / len(labels)
        axis.axhline(float((shares**2).sum()), color="#777777", linewidth=0.8, linestyle=(0, (1, 2)), label="chance")
        axis.set(title=title, xscale="log", xlabel="scope K", ylim=(0, 1.02))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].set_ylabel("precision among the first K")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawn
