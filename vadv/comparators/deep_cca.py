"""DCCA-style (Andrew et al. 2013) and C-DCCA-style (Yu et al. 2019): CCA, or cluster CCA, of two networks' outputs.

The loss is minus the sum of the canonical correlations of the outputs,

    - tr √(Tᵀ T) = - Σ singular values of T,   T = (Cxx + r·I)^-1/2 Cxy (Cyy + r·I)^-1/2

over all training clips at once; afterwards the linear method is fitted on the outputs. C-DCCA counts all pairs of a class,
as C-CCA does, which is how category-based deep CCA uses the labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vadv.comparators import cca
from vadv.comparators.comparator import DIMENSIONS, Pairs, Projections
from vadv.comparators.deep import Networks, Recipe, Tensors, fit_deep, network

RIDGE = 1e-2
"""r; outputs are of order 1."""
RECIPE = Recipe(epochs=150, batch=None, lr=1e-3, every=10)


def correlation(x: Tensor, y: Tensor, labels: Tensor | None = None, ridge: float = RIDGE) -> Tensor:
    """The sum of canonical correlations, differentiable.

    Args:
        x, y: (n, K) outputs.
        labels: (n,) classes to count all pairs of a class; None counts the clips' own pairs.
    """
    n = len(x)
    if labels is None:
        weights, together = torch.full((n,), 1 / n, dtype=x.dtype), torch.eye(n, dtype=x.dtype) / n
    else:
        same = (labels[:, None] == labels[None]).to(x.dtype)
        together = same / same.sum()
        weights = together.sum(dim=1)
    x, y = x - weights @ x, y - weights @ y
    cxx, cyy, cxy = (x * weights[:, None]).T @ x, (y * weights[:, None]).T @ y, x.T @ together @ y
    t = _inverse_root(cxx, ridge) @ cxy @ _inverse_root(cyy, ridge)
    return torch.linalg.svdvals(t).sum()


def fit_dcca(train: Pairs, valid: Pairs, seed: int) -> Projections:
    """DCCA-style."""
    return _fit(train, valid, seed, by_class=False)


def fit_cluster_dcca(train: Pairs, valid: Pairs, seed: int) -> Projections:
    """C-DCCA-style."""
    return _fit(train, valid, seed, by_class=True)


def _fit(train: Pairs, valid: Pairs, seed: int, by_class: bool) -> Projections:
    def loss(networks: Networks, batch: Tensors) -> Tensor:
        x, y = networks.audio(batch.audio).double(), networks.visual(batch.visual).double()
        return -correlation(x, y, batch.labels if by_class else None)

    def finish(outputs: Pairs) -> Projections:
        x, y = outputs.audio, outputs.visual
        c = cca.clustered(x, y, outputs.labels) if by_class else cca.paired(x, y)
        wx, wy, correlations = cca.canonical(c, RIDGE, DIMENSIONS)
        # Directions weighted by how much they correlate: those that do not would only add noise to the cosine.
        return Projections(
            audio=lambda a: (a - c.mean_x) @ wx * correlations, visual=lambda v: (v - c.mean_y) @ wy * correlations
        )

    return fit_deep(
        train,
        valid,
        seed,
        build=lambda audio, visual: Networks(network(audio, DIMENSIONS), network(visual, DIMENSIONS)),
        loss=loss,
        recipe=RECIPE,
        finish=finish,
    )


def _inverse_root(covariance: Tensor, ridge: float) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype))
    return (vectors * values.clamp(min=1e-12).rsqrt()) @ vectors.T
