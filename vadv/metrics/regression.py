"""Metrics of sentiment intensity (section 5.2), as MMSA computes them, so that tables of the field can be compared.

Legend: N clips. Accuracies and F1 are fractions, not per cent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def sentiment(prediction: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Score predicted sentiment intensity.

    Args:
        prediction: (N,) or (N, 1) real numbers, not bounded.
        target: (N,) or (N, 1) real numbers, usually in [-3, 3].

    Returns:
        mae: mean absolute error of the values as they are.
        acc7, acc5: agreement after clipping both to ±3 (±2) and rounding half to even.
        acc2, f1: `prediction >= 0` against `target >= 0`, all rows; F1 is weighted by the classes' support. Table 2's
            A2 and F1.
        acc2_nonzero, f1_nonzero: `prediction > 0` against `target > 0`, rows whose target is not 0; nan if there are
            none.
        corr: Pearson's r; 0.0 where either side is constant (r is undefined there; a constant explains nothing).
        n: number of rows.

    Raises:
        ValueError: no rows, shapes that differ, or a value that is not finite.
    """
    p, t = _column(prediction, "prediction"), _column(target, "target")
    if len(p) != len(t):
        raise ValueError(f"sentiment: expected as many predictions as targets, found {len(p)} and {len(t)}")
    if not len(p):
        raise ValueError("sentiment: expected at least one row, found none; does the split hold clips?")
    nonzero = t != 0
    return {
        "mae": float(np.abs(p - t).mean()),
        "acc7": float((seven_classes(p) == seven_classes(t)).mean()),
        "acc5": float((_rounded(p, 2) == _rounded(t, 2)).mean()),
        "acc2": _accuracy(p >= 0, t >= 0),
        "f1": _weighted_f1(p >= 0, t >= 0),
        "acc2_nonzero": _accuracy(p[nonzero] > 0, t[nonzero] > 0),
        "f1_nonzero": _weighted_f1(p[nonzero] > 0, t[nonzero] > 0),
        "corr": _pearson(p, t),
        "n": len(p),
    }


def seven_classes(values: ArrayLike) -> NDArray[np.int64]:
    """The Likert class -3 … 3 of each value: clipped, then rounded half to even, as `acc7` does."""
    return _rounded(np.asarray(values, dtype=np.float64), 3)


def _column(values: ArrayLike, name: str) -> Floats:
    array: NDArray[Any] = np.asarray(values, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"sentiment: expected {name} of shape (N,) or (N, 1), found {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise ValueError(
            f"sentiment: expected finite numbers as {name}, found {array[bad[0]]} in row {bad[0]} "
            f"({len(bad)} such of {len(array)}); leave out rows without a label or prediction"
        )
    return array


def _rounded(values: Floats, bound: int) -> NDArray[np.int64]:
    return np.round(np.clip(values, -bound, bound)).astype(np.int64)


def _accuracy(prediction: Bools, target: Bools) -> float:
    return float((prediction == target).mean()) if len(target) else float("nan")


def _weighted_f1(prediction: Bools, target: Bools) -> float:
    """F1 of either class, averaged with the number of its true rows as weight (scikit-learn's average="weighted")."""
    if not len(target):
        return float("nan")
    total = 0.0
    for value in (False, True):
        both = np.count_nonzero((prediction == value) & (target == value))
        support = np.count_nonzero(target == value)
        either = np.count_nonzero(prediction == value) + support
        total += support * (2 * both / either if either else 0.0)
    return total / len(target)


def _pearson(a: Floats, b: Floats) -> float:
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    # Scaling by powers of two is exact, and keeps the squares of extreme values from overflowing or vanishing.
    a, b = (np.ldexp(x, -np.frexp(np.abs(x).max())[1]) for x in (a, b))
    return float(np.corrcoef(a, b)[0, 1])
