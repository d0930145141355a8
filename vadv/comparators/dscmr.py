"""DSCMR-style: deep supervised cross-modal retrieval (Zhen et al. 2019).

Vectors u (audio) and v (visual) come from two networks whose last layer is shared; a linear classifier P is learnt too.

    label space          mean_i |P u_i - y_i| + |P v_i - y_i|
    common space, x 1e-3 mean_ij of log(1 + e^Γ) - S Γ for Γ = ½ cos(u_i, v_j), ½ cos(u_i, u_j), ½ cos(v_i, v_j)
    modality gap, x 1e-1 mean_i |u_i - v_i|

S_ij is 1 where the classes are the same. Trained with Adam, 1e-4, betas (0.5, 0.999), as the paper does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vadv.comparators.comparator import Pairs, Projections
from vadv.comparators.deep import HIDDEN, Networks, Recipe, Tensors, fit_deep

LIKELIHOOD, GAP = 1e-3, 1e-1
RECIPE = Recipe(epochs=200, batch=100, lr=1e-4, betas=(0.5, 0.999), every=5)
WIDTH = 128
"""Of the common space."""


def dscmr_loss(u: Tensor, v: Tensor, labels: Tensor, classifier: nn.Module, classes: int) -> Tensor:
    """The three terms, weighted.

    Args:
        u, v: (B, K) vectors of the two modalities.
        labels: (B,) classes.
        classifier: P, (B, K) → (B, C).
        classes: C.
    """
    target = F.one_hot(labels, classes).to(u.dtype)
    label_space = torch.stack([(classifier(x) - target).norm(dim=1).mean() for x in (u, v)]).sum()
    same = (labels[:, None] == labels[None]).to(u.dtype)
    common = torch.stack([_likelihood(a, b, same) for a, b in ((u, v), (u, u), (v, v))]).sum()
    gap = (u - v).norm(dim=1).mean()
    return label_space + LIKELIHOOD * common + GAP * gap


def _likelihood(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    gamma = 0.5 * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    return (F.softplus(gamma) - same * gamma).mean()


def fit_dscmr(train: Pairs, valid: Pairs, seed: int) -> Projections:
    """DSCMR-style."""
    classes = int(train.labels.max()) + 1

    def build(audio: int, visual: int) -> Networks:
        shared = nn.Linear(HIDDEN, WIDTH)
        branches = [
            nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), shared)
            for width in (audio, visual)
        ]
        return Networks(branches[0], branches[1], extra=nn.Linear(WIDTH, classes))

    def loss(networks: Networks, batch: Tensors) -> Tensor:
        assert networks.extra is not None
        u, v = networks.audio(batch.audio), networks.visual(batch.visual)
        return dscmr_loss(u, v, batch.labels, networks.extra, classes)

    return fit_deep(train, valid, seed, build=build, loss=loss, recipe=RECIPE)
