"""Where a student errs: predicted against true, the seven classes, by label and by length of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vadv.metrics import sentiment, seven_classes
from vadv.report.figures.style import COLUMN, LOOKS, PAGE, figure, shorten


def predicted_true(predicted: np.ndarray, true: np.ndarray) -> Any:
    """Each clip's prediction over its label; the line is where they are equal. (N,) each."""
    drawn, axis = figure(COLUMN, 2.6)
    scores = sentiment(predicted, true)
    low = min(-3.0, float(predicted.min())) - 0.1
    high = max(3.0, float(predicted.max())) + 0.1
    alpha = float(np.clip(120 / max(1, len(true)), 0.08, 0.7))
    axis.plot([low, high], [low, high], color="black", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    axis.scatter(true, predicted, s=8, color=LOOKS[0].colour, alpha=alpha, linewidths=0, zorder=2)
    axis.axhline(0, color="#aaaaaa", linewidth=0.4, zorder=0)
    axis.axvline(0, color="#aaaaaa", linewidth=0.4, zorder=0)
    axis.set(xlim=(-3.1, 3.1), ylim=(low, high), xlabel="label", ylabel="predicted", xticks=range(-3, 4))
    text = f"n = {len(true):,}\nMAE {scores['mae']:.3f}\nr {scores['corr']:.3f}"
    axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", fontsize=7)
    return drawn


def confusion(predicted: np.ndarray, true: np.ndarray) -> Any:
    """Counts of the seven classes, shaded by their share of the true class. (N,) each."""
    rows, columns = seven_classes(true) + 3, seven_classes(predicted) + 3
    counts = np.zeros((7, 7), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn, axis = figure(COLUMN, 2.9)
    # One hue from white to dark: the order survives in grey.
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="lower")
    for row in range(7):
        for column in range(7):
            dark = shares[row, column] > 0.55
            axis.text(
                column,
                row,
                counts[row, column] or "·",
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if dark else "black",
            )
    names = [str(value).replace("-", "−") for value in range(-3, 4)]
    axis.set(xticks=range(7), yticks=range(7), xticklabels=names, yticklabels=names, xlabel="predicted", ylabel="true")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    bar = drawn.colorbar(image, ax=axis, shrink=0.85, aspect=25)
    bar.set_label("share of the true class", fontsize=7)
    bar.outline.set_visible(False)
    return drawn


def error_by_label_and_length(runs: Mapping[str, Mapping[str, Any]]) -> Any:
    """Mean absolute error in each of the seven classes, and in fifths of the texts by length.

    Args:
        runs: name → `label` and `text_logit`, (N,) each, and `text`: N transcripts. All of one split.
    """
    drawn, axes = figure(PAGE, 2.4, columns=2, sharey=True)
    first = next(iter(runs.values()))
    classes = seven_classes(first["label"])
    present = [value for value in range(-3, 4) if (classes == value).any()]
    words = np.array([len(text.split()) for text in first["text"]])
    edges = np.unique(np.quantile(words, [0, 0.2, 0.4, 0.6, 0.8, 1]).round().astype(int))
    bins = np.clip(np.searchsorted(edges, words, side="right") - 1, 0, max(0, len(edges) - 2))
    lengths = [index for index in range(max(1, len(edges) - 1)) if (bins == index).any()]
    for number, (look, (name, table)) in enumerate(zip(LOOKS, runs.items(), strict=False)):
        error = np.abs(table["text_logit"] - table["label"])
        shift = (number - (min(len(runs), len(LOOKS)) - 1) / 2) * 0.1
        own = seven_classes(table["label"])
        own_bins = bins if len(table["text"]) == len(words) else None
        _points(axes[0], present, [error[own == value] for value in present], shift, look, name)
        if own_bins is not None:
            _points(axes[1], range(len(lengths)), [error[own_bins == index] for index in lengths], shift, look, name)
    counts = [int((classes == value).sum()) for value in present]
    names = [f"{value}\n{count:,}".replace("-", "−") for value, count in zip(present, counts, strict=True)]
    axes[0].set(xticks=present, xticklabels=names, xlabel="class of the label; clips", ylabel="mean absolute error")
    spans = [_span(edges, index, last=index == lengths[-1]) for index in lengths]
    sizes = [int((bins == index).sum()) for index in lengths]
    axes[1].set(xticks=range(len(lengths)), xlabel="words of the transcript; clips")
    axes[1].set_xticklabels([f"{span}\n{size:,}" for span, size in zip(spans, sizes, strict=True)])
    axes[0].set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=2)
    return drawn


def _points(
    axis: Any, places: Sequence[int] | range, groups: Sequence[np.ndarray], shift: float, look: Any, name: str
) -> None:
    """Means with the 95 % interval of the mean where there are at least two clips."""
    means = [group.mean() if len(group) else np.nan for group in groups]
    spans = [1.96 * group.std(ddof=1) / len(group) ** 0.5 if len(group) > 1 else 0.0 for group in groups]
    axis.errorbar(
        np.array(places) + shift,
        means,
        yerr=spans,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        capsize=1.5,
        elinewidth=0.7,
        label=shorten(name, 34),
    )


def _span(edges: np.ndarray, index: int, *, last: bool) -> str:
    low, high = int(edges[index]), int(edges[min(index + 1, len(edges) - 1)])
    high = high if last else high - 1
    return str(low) if high <= low else f"{low}–{high}"
