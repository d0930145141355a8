"""What the trained comparators share: one network per modality, and a loop that keeps the best epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vadv.comparators.comparator import Pairs, Projections, Standardiser, standardised
from vadv.models.seeding import seeded

HIDDEN = 128
"""Hidden units, as the students have (Table 3)."""


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """A batch: (B, Da), (B, Dv) float32 and (B,) int64."""

    audio: Tensor
    visual: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a comparator is trained.

    Attributes:
        epochs: passes over the training clips.
        batch: clips per step; None takes all of them.
        lr: of Adam.
        betas: of Adam.
        every: epochs between validations.
    """

    epochs: int
    batch: int | None
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    every: int = 5


def network(width: int, outputs: int) -> nn.Module:
    """Three layers with 128 hidden units, as the students' MLPs, so that comparators differ in their losses."""
    return nn.Sequential(
        nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


class Networks(nn.Module):
    """Both modalities' networks, and what else a loss trains."""

    def __init__(self, audio: nn.Module, visual: nn.Module, extra: nn.Module | None = None) -> None:
        super().__init__()
        self.audio, self.visual, self.extra = audio, visual, extra


def fit_deep(
    train: Pairs,
    valid: Pairs,
    seed: int,
    *,
    build: Callable[[int, int], Networks],
    loss: Callable[[Networks, Tensors], Tensor],
    recipe: Recipe,
    finish: Callable[[Pairs], Projections] | None = None,
) -> Projections:
    """Train, and keep the epoch with the highest validation mAP.

    Args:
        train, valid: clips.
        seed: of weights and order.
        build: networks from the widths Da and Dv.
        loss: of one batch, a mean.
        recipe: how long and how fast.
        finish: fits a linear method on the networks' outputs for the training clips; None compares the outputs.
    """
    z, to_audio, to_visual = standardised(train)
    with seeded(seed, "comparator"):
        networks = build(z.audio.shape[1], z.visual.shape[1])
    rng = np.random.default_rng(seed)
    data = Tensors(
        audio=torch.from_numpy(z.audio).float(),
        visual=torch.from_numpy(z.visual).float(),
        labels=torch.from_numpy(np.asarray(z.labels, np.int64)),
    )
    optimizer = torch.optim.Adam(networks.parameters(), lr=recipe.lr, betas=recipe.betas)
    best_score, best = -1.0, None
    for epoch in range(recipe.epochs):
        networks.train()
        for batch in _batches(data, recipe.batch, rng):
            optimizer.zero_grad()
            loss(networks, batch).backward()
            optimizer.step()
        if (epoch + 1) % recipe.every == 0 or epoch + 1 == recipe.epochs:
            candidate = _projections(copy.deepcopy(networks).eval(), to_audio, to_visual, train, finish)
            score = candidate.score(valid)["map_mean"]
            if score > best_score:
                best_score, best = score, candidate
    assert best is not None
    return best


def _batches(data: Tensors, size: int | None, rng: np.random.Generator) -> Iterator[Tensors]:
    """Shuffled batches of equal size; what is left over waits for another epoch."""
    order = torch.from_numpy(rng.permutation(len(data.labels)))
    size = min(size or len(order), len(order))
    for start in range(0, len(order) - size + 1, size):
        rows = order[start : start + size]
        yield Tensors(audio=data.audio[rows], visual=data.visual[rows], labels=data.labels[rows])


def _projections(
    networks: Networks,
    to_audio: Standardiser,
    to_visual: Standardiser,
    train: Pairs,
    finish: Callable[[Pairs], Projections] | None,
) -> Projections:
    def through(network: nn.Module, standardise: Standardiser) -> Callable[[np.ndarray], np.ndarray]:
        def project(features: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return np.asarray(network(torch.from_numpy(standardise(features)).float()).double())

        return project

    audio, visual = through(networks.audio, to_audio), through(networks.visual, to_visual)
    if finish is None:
        return Projections(audio=audio, visual=visual)
    last = finish(Pairs(audio=audio(train.audio), visual=visual(train.visual), labels=train.labels))
    return Projections(audio=lambda x: last.audio(audio(x)), visual=lambda y: last.visual(visual(y)))
