"""Is one method better than another, given a score per seed: almost stochastic order (section 5.7) and a bootstrap.

Source: Del Barrio et al., 2018; Dror et al., 2019 (Deep dominance). With the quantile functions F⁻¹ of A and G⁻¹ of B,
ε̂ is the share of the squared Wasserstein distance where B lies above A, and

    ε_min = clip(ε̂ − √((n+m)/(nm)) · σ̂ · Φ⁻¹(1 − confidence), 0, 1),   σ̂² = Var √(nm/(n+m)) (ε* − ε̂) over bootstraps

is what ε is not above, with that confidence. 0: A dominates; below 0.5: A dominates almost. Higher scores are better.

Legend: n, m scores of A and B; R bootstrap resamples; K pieces on which both quantile functions are constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A against B.

    Attributes:
        epsilon: ε_min of the almost stochastic order; None below two scores a side.
        difference: mean of A minus mean of B, in the metric's own direction.
        low, high: bootstrap confidence interval of the difference; None below two scores a side.
        n, m: scores of A and B.
    """

    epsilon: float | None
    difference: float
    low: float | None
    high: float | None
    n: int
    m: int


def compare(a: ArrayLike, b: ArrayLike, *, lower_is_better: bool, confidence: float = 0.95) -> Comparison:
    """Compare scores of two methods, one per seed, in either direction of "better".

    Raises:
        ValueError: a side has no scores, or one that is not finite.
    """
    x, y = _scores(a, "A"), _scores(b, "B")
    difference = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return Comparison(epsilon=None, difference=difference, low=None, high=None, n=len(x), m=len(y))
    sign = -1.0 if lower_is_better else 1.0
    low, high = bootstrap_interval(x, y, confidence=confidence)
    epsilon = almost_stochastic_order(sign * x, sign * y, confidence=confidence)
    return Comparison(epsilon=epsilon, difference=difference, low=low, high=high, n=len(x), m=len(y))


def almost_stochastic_order(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> float:
    """ε_min of "A is better than B"; higher scores are better, so pass −MAE.

    Args:
        a: (n,) scores of A, n ≥ 2.
        b: (m,) scores of B, m ≥ 2.
        confidence: 1 − α.
        resamples: bootstraps behind σ̂.
        seed: of the bootstraps; the result is a function of the arguments.

    Raises:
        ValueError: fewer than two scores a side, a score that is not finite, or a confidence outside (0, 1).
    """
    from scipy.stats import norm

    x, y = _scores(a, "A"), _scores(b, "B")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"expected at least two scores a side (one per seed), found {len(x)} and {len(y)}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, found {confidence}")
    estimate = float(violation_ratio(x, y))
    rng = np.random.default_rng(seed)
    many = violation_ratio(_resampled(x, resamples, rng), _resampled(y, resamples, rng))
    scale = np.sqrt(len(x) * len(y) / (len(x) + len(y)))
    sigma = float(np.std(scale * (many - estimate)))
    return float(np.clip(estimate - sigma / scale * norm.ppf(1 - confidence), 0.0, 1.0))


def violation_ratio(a: Floats, b: Floats) -> Floats:
    """ε̂: ∫ over B⁻¹ > A⁻¹ of (B⁻¹ − A⁻¹)², divided by ∫ (B⁻¹ − A⁻¹)². Exact, both being step functions.

    Args:
        a: (…, n) scores. b: (…, m) scores.

    Returns:
        (…,) ratios in [0, 1]; 0.5 where the distributions are the same and neither dominates.
    """
    x, y = np.sort(a, axis=-1), np.sort(b, axis=-1)
    n, m = x.shape[-1], y.shape[-1]
    # Quantile functions of n and m scores jump at i/n and j/m: whole numbers over n·m, so no rounding decides a piece.
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # (K + 1,)
    width, left = np.diff(edges) / (n * m), edges[:-1]
    gap = y[..., left // n] - x[..., left // m]  # (…, K)
    total = (width * gap**2).sum(axis=-1)
    violated = (width * np.maximum(gap, 0.0) ** 2).sum(axis=-1)
    return np.where(total > 0, violated / np.where(total > 0, total, 1.0), 0.5)


def bootstrap_interval(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of mean(A) − mean(B), each side resampled on its own.

    Raises:
        ValueError: as `almost_stochastic_order`.
    """
    x, y = _scores(a, "A"), _scores(b, "B")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"expected at least two scores a side (one per seed), found {len(x)} and {len(y)}")
    rng = np.random.default_rng(seed)
    many = _resampled(x, resamples, rng).mean(axis=1) - _resampled(y, resamples, rng).mean(axis=1)
    low, high = np.quantile(many, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _resampled(scores: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """(R, n) draws with replacement."""
    return scores[rng.integers(0, len(scores), (resamples, len(scores)))]


def _scores(values: ArrayLike, name: str) -> Floats:
    array: Floats = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"expected a list of finite scores for {name}, found {array.tolist()}")
    return array
