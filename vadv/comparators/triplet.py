"""TNN-C-CCA-style: deep triplet networks, then cluster CCA (Zeng et al. 2020).

An anchor of one modality is drawn to the other modality's vectors of its class and driven from those of other classes:

    mean over anchors and their triplets of max(0, margin - cos(anchor, positive) + cos(anchor, negative))

over all triplets of a batch, in both directions. C-CCA is fitted on the networks' outputs afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vadv.comparators import cca
from vadv.comparators.comparator import DIMENSIONS, Pairs, Projections
from vadv.comparators.deep import Networks, Recipe, Tensors, fit_deep, network

MARGIN = 0.5
RIDGE = 1e-2
RECIPE = Recipe(epochs=100, batch=64, lr=1e-3, every=5)


def triplet_loss(anchor: Tensor, other: Tensor, labels: Tensor, margin: float = MARGIN) -> Tensor:
    """All triplets of a batch in one direction.

    Args:
        anchor: (B, K) vectors of one modality.
        other: (B, K) vectors of the other.
        labels: (B,) classes.

    Returns:
        The mean over triplets, 0 where a batch has none.
    """
    similarity = F.normalize(anchor, dim=1) @ F.normalize(other, dim=1).T
    same = labels[:, None] == labels[None]
    # (B, B, B): anchor, positive, negative
    losses = F.relu(margin - similarity[:, :, None] + similarity[:, None, :])
    triplets = same[:, :, None] & ~same[:, None, :]
    return torch.where(triplets, losses, 0.0).sum() / triplets.sum().clamp(min=1)


def fit_triplet(train: Pairs, valid: Pairs, seed: int) -> Projections:
    """TNN-C-CCA-style."""

    def loss(networks: Networks, batch: Tensors) -> Tensor:
        u, v = networks.audio(batch.audio), networks.visual(batch.visual)
        return triplet_loss(u, v, batch.labels) + triplet_loss(v, u, batch.labels)

    def finish(outputs: Pairs) -> Projections:
        c = cca.clustered(outputs.audio, outputs.visual, outputs.labels)
        wx, wy, _ = cca.canonical(c, RIDGE, max(1, len(set(outputs.labels.tolist())) - 1))
        return Projections(audio=lambda a: (a - c.mean_x) @ wx, visual=lambda b: (b - c.mean_y) @ wy)

    return fit_deep(
        train,
        valid,
        seed,
        build=lambda audio, visual: Networks(network(audio, DIMENSIONS), network(visual, DIMENSIONS)),
        loss=loss,
        recipe=RECIPE,
        finish=finish,
    )
