"""CCA, canonical correlation analysis (Hotelling 1936), and C-CCA, cluster CCA (Rasiwasia et al. 2014).

Both maximise the correlation of linear maps of audio x and visual y:

    max tr(Wxᵀ Cxy Wy)   with   Wxᵀ (Cxx + r·s·I) Wx = Wyᵀ (Cyy + r·s·I) Wy = I,   s = mean of the diagonal

solved by the singular vectors of Cxx^-1/2 Cxy Cyy^-1/2. They differ in the covariances: CCA takes the pairs of the clips;
C-CCA takes all pairs of an audio and a visual vector of one class, of any two clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vadv.comparators.comparator import DIMENSIONS, Pairs, Projections, best, standardised

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""r, from which validation chooses."""


@dataclass(frozen=True, kw_only=True)
class Covariances:
    """Of centred x and y: (Da, Da), (Dv, Dv), (Da, Dv), and the means that were taken off."""

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray


def paired(x: np.ndarray, y: np.ndarray) -> Covariances:
    """Over the pairs of the clips: (n, Da), (n, Dv)."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    return Covariances(xx=x.T @ x / len(x), yy=y.T @ y / len(x), xy=x.T @ y / len(x), mean_x=mean_x, mean_y=mean_y)


def clustered(x: np.ndarray, y: np.ndarray, labels: np.ndarray) -> Covariances:
    """Over all pairs of an x and a y of one class.

    The pairs are never listed: with n_c clips in class c and M = Σ n_c² pairs, every x of class c is in n_c of them, so
    Cxx = Σ_c n_c Xcᵀ Xc / M, and Cxy = Σ_c (Σ x)(Σ y)ᵀ / M.
    """
    classes, number = np.unique(labels, return_inverse=True)
    counts = np.bincount(number, minlength=len(classes)).astype(np.float64)
    weights = counts[number] / np.sum(counts**2)
    mean_x, mean_y = weights @ x, weights @ y
    x, y = x - mean_x, y - mean_y
    sums_x, sums_y = (np.stack([z[number == c].sum(axis=0) for c in range(len(classes))]) for z in (x, y))
    return Covariances(
        xx=(x * weights[:, None]).T @ x,
        yy=(y * weights[:, None]).T @ y,
        xy=sums_x.T @ sums_y / np.sum(counts**2),
        mean_x=mean_x,
        mean_y=mean_y,
    )


def canonical(c: Covariances, penalty: float, dimensions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve.

    Args:
        c: covariances.
        penalty: r.
        dimensions: K, at most min(Da, Dv).

    Returns:
        Wx (Da, K), Wy (Dv, K), and the (K,) correlations, falling.
    """
    root_x, root_y = _inverse_root(c.xx, penalty), _inverse_root(c.yy, penalty)
    left, correlations, right = np.linalg.svd(root_x @ c.xy @ root_y)
    k = min(dimensions, len(correlations))
    return root_x @ left[:, :k], root_y @ right[:k].T, correlations[:k]


def fit_cca(train: Pairs, valid: Pairs, seed: int) -> Projections:
    """CCA; nothing in it is random."""
    z, audio, visual = standardised(train)
    return _fit(paired(z.audio, z.visual), DIMENSIONS, valid, audio, visual)


def fit_cluster_cca(train: Pairs, valid: Pairs, seed: int) -> Projections:
    """C-CCA; its Cxy has the rank of C - 1 class means, so that is how many dimensions there are."""
    z, audio, visual = standardised(train)
    dimensions = max(1, len(np.unique(train.labels)) - 1)
    return _fit(clustered(z.audio, z.visual, z.labels), dimensions, valid, audio, visual)


def _fit(c: Covariances, dimensions: int, valid: Pairs, audio, visual) -> Projections:  # type: ignore[no-untyped-def]
    def candidate(penalty: float) -> Projections:
        wx, wy, _ = canonical(c, penalty, dimensions)
        return Projections(
            audio=lambda x: (audio(x) - c.mean_x) @ wx,
            visual=lambda y: (visual(y) - c.mean_y) @ wy,
        )

    return best((candidate(penalty) for penalty in PENALTIES), valid)


def _inverse_root(covariance: np.ndarray, penalty: float) -> np.ndarray:
    """(C + r·s·I)^-1/2; directions without any variance are left out."""
    scale = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    values, vectors = np.linalg.eigh(covariance + penalty * scale * np.eye(len(covariance)))
    kept = values > 1e-10 * values.max()
    inverse = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    return (vectors * inverse) @ vectors.T
