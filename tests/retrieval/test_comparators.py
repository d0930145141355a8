"""Comparators against scikit-learn, brute force and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vadv.comparators import COMPARATORS, Pairs, cca
from vadv.comparators.comparator import Standardiser
from vadv.comparators.deep_cca import correlation
from vadv.comparators.dscmr import GAP, LIKELIHOOD, dscmr_loss
from vadv.comparators.triplet import triplet_loss


def related(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two views of three common directions."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 3))
    x = common @ rng.normal(size=(3, 6)) + 0.8 * rng.normal(size=(n, 6))
    y = common @ rng.normal(size=(3, 5)) + 0.8 * rng.normal(size=(n, 5))
    return x, y


def events(n: int, seed: int, noise: float = 2.0) -> Pairs:
    """Ten classes, of which each modality tells half by a product that no linear map sees."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99)
    label = np.arange(n) % 10
    audio, visual = (centres.normal(size=(10, width))[label] for width in (20, 30))
    sign = rng.choice([-1.0, 1.0], size=(n, 1))
    return Pairs(
        audio=audio * sign + noise * 0.2 * rng.normal(size=audio.shape),
        visual=visual + noise * 0.5 * rng.normal(size=visual.shape),
        labels=label,
    )


def test_cca_finds_sklearns_correlations() -> None:
    from sklearn.cross_decomposition import CCA

    x, y = related()
    c = cca.paired(x, y)
    wx, wy, correlations = cca.canonical(c, penalty=0.0, dimensions=3)
    theirs = CCA(n_components=3, max_iter=5000, tol=1e-10).fit(x, y)
    a, b = theirs.transform(x, y)
    expected = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(correlations, expected, atol=1e-4)
    u, v = (x - c.mean_x) @ wx, (y - c.mean_y) @ wy
    np.testing.assert_allclose([np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(3)], correlations, atol=1e-8)
    np.testing.assert_allclose(u.T @ u / len(u), np.eye(3), atol=1e-8)
    for k in range(3):  # the same directions, up to sign and scale
        assert abs(np.corrcoef(u[:, k], a[:, k])[0, 1]) > 0.999


def test_cluster_cca_is_cca_of_all_pairs_of_a_class() -> None:
    x, y = related(60)
    labels = np.random.default_rng(1).integers(0, 4, 60)
    i, j = np.nonzero(labels[:, None] == labels[None])
    listed, ours = cca.paired(x[i], y[j]), cca.clustered(x, y, labels)
    for name in ("xx", "yy", "xy", "mean_x", "mean_y"):
        np.testing.assert_allclose(getattr(ours, name), getattr(listed, name), atol=1e-10)


@pytest.mark.parametrize("by_class", [False, True])
def test_deep_ccas_loss_is_the_sum_of_ccas_correlations(by_class: bool) -> None:
    x, y = related(80)
    labels = np.random.default_rng(2).integers(0, 4, 80)
    c = cca.clustered(x, y, labels) if by_class else cca.paired(x, y)
    expected = cca.canonical(c, penalty=0.0, dimensions=5)[2].sum()
    classes = torch.from_numpy(labels) if by_class else None
    found = correlation(torch.from_numpy(x), torch.from_numpy(y), classes, ridge=0.0)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_deep_ccas_gradient_is_right() -> None:
    x, y = (torch.from_numpy(z[:12, :3]).requires_grad_() for z in related(12))
    assert torch.autograd.gradcheck(lambda a, b: correlation(a, b), (x, y), atol=1e-5)


def test_dscmrs_loss_equals_loops() -> None:
    rng = np.random.default_rng(3)
    u, v = rng.normal(size=(7, 5)), rng.normal(size=(7, 5))
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    torch.manual_seed(0)
    classifier = nn.Linear(5, 3).double()
    weight, bias = classifier.weight.detach().numpy(), classifier.bias.detach().numpy()
    expected = 0.0
    for x in (u, v):
        expected += np.mean([np.linalg.norm(weight @ x[i] + bias - np.eye(3)[labels[i]]) for i in range(7)])
    for a, b in ((u, v), (u, u), (v, v)):
        total = 0.0
        for i in range(7):
            for j in range(7):
                gamma = 0.5 * a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j])
                total += np.log(1 + np.exp(gamma)) - (labels[i] == labels[j]) * gamma
        expected += LIKELIHOOD * total / 49
    expected += GAP * np.mean([np.linalg.norm(u[i] - v[i]) for i in range(7)])
    found = dscmr_loss(torch.from_numpy(u), torch.from_numpy(v), torch.from_numpy(labels), classifier, 3)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_triplet_loss_equals_loops() -> None:
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    labels = np.array([0, 0, 1, 1, 2, 2])

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    losses = [
        max(0.0, 0.5 - cosine(u[a], v[p]) + cosine(u[a], v[n]))
        for a in range(6)
        for p in range(6)
        for n in range(6)
        if labels[a] == labels[p] != labels[n]
    ]
    found = triplet_loss(torch.from_numpy(u), torch.from_numpy(v), torch.from_numpy(labels), margin=0.5)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_random_scores_what_chance_does() -> None:
    """0.109 on ten balanced classes, Table 4's first row."""
    pairs = events(600, seed=0)
    scores = [COMPARATORS["random"].fit(pairs, pairs, seed).score(pairs)["map_mean"] for seed in range(3)]
    assert np.mean(scores) == pytest.approx(0.109, abs=0.004)


@pytest.mark.parametrize("key", list(COMPARATORS))
def test_every_comparator_learns_and_repeats(key: str) -> None:
    train, valid, test = events(200, 1), events(60, 2), events(100, 3)
    comparator = COMPARATORS[key]
    first, again = (comparator.fit(train, valid, 5).score(test)["map_mean"] for _ in range(2))
    assert first == pytest.approx(again, abs=1e-9)
    if key in ("c-dcca", "dscmr", "tnn-c-cca"):
        assert first > 0.5  # a network sees through the sign that a line cannot
    elif key != "random":
        assert first > 0.12
    assert comparator.title.endswith("-style") or comparator.source[0].isupper() or key == "random"


def test_comparators_do_not_change_with_the_features_units() -> None:
    train, valid, test = events(200, 1), events(60, 2), events(100, 3)

    def scaled(pairs: Pairs) -> Pairs:
        return Pairs(audio=pairs.audio * 1000 + 5, visual=pairs.visual / 50 - 3, labels=pairs.labels)

    plain = COMPARATORS["c-cca"].fit(train, valid, 0).score(test)["map_mean"]
    other = COMPARATORS["c-cca"].fit(scaled(train), scaled(valid), 0).score(scaled(test))["map_mean"]
    assert plain == pytest.approx(other, abs=1e-6)


def test_a_constant_feature_is_left_out() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    features[:, 1] = 4.0
    assert np.array_equal(Standardiser.of(features)(features + 9)[:, 1], np.zeros(50))


def test_pairs_must_belong_together() -> None:
    with pytest.raises(ValueError, match="as many audio and visual vectors as labels, found 3, 4 and 3"):
        Pairs(audio=np.zeros((3, 2)), visual=np.zeros((4, 2)), labels=np.zeros(3))
