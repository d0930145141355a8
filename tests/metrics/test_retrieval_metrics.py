"""Retrieval metrics against scikit-learn, against values by hand, and their independence of order and blocks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from vadv.metrics import precision_scope, ranking, recall_at_k, retrieval

pytestmark = pytest.mark.filterwarnings("error")
rng = np.random.default_rng(5)


def by_sklearn(queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> float:
    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    similarity = np.round(unit(queries) @ unit(gallery).T, 12)
    return float(np.mean([average_precision_score(labels == labels[i], row) for i, row in enumerate(similarity)]))


def test_values_by_hand() -> None:
    # The only query of class 1 ranks: other, own → precision 1/2. Queries of class 0 are right at once.
    audio = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.0]])
    visual = np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]])
    scores = retrieval(audio[[0, 2]], visual[[0, 2]], [0, 1])
    assert scores["map_a2v"] == pytest.approx((1 + 1 / 2) / 2)
    # One audio vector twice: each visual query finds both equal, so its own is one of two.
    assert scores["map_v2a"] == pytest.approx(1 / 2)
    assert scores["map_mean"] == pytest.approx((3 / 4 + 1 / 2) / 2)


@pytest.mark.parametrize("levels", [0, 2])
def test_map_equals_scikit_learn_with_and_without_ties(levels: int) -> None:
    labels = rng.integers(0, 7, 90)
    audio, visual = rng.normal(size=(90, 6)), rng.normal(size=(90, 6))
    audio += labels[:, None] * 0.3
    if levels:
        audio, visual = np.round(audio / levels) + 0.5, np.round(visual / levels) + 0.5
    scores = retrieval(audio, visual, labels)
    assert scores["map_a2v"] == pytest.approx(by_sklearn(audio, visual, labels), abs=1e-12)
    assert scores["map_v2a"] == pytest.approx(by_sklearn(visual, audio, labels), abs=1e-12)


def test_random_vectors_of_ten_balanced_classes_give_the_papers_random_row() -> None:
    labels = np.repeat(np.arange(10), 100)
    scores = retrieval(rng.normal(size=(1000, 10)), rng.normal(size=(1000, 10)), labels)
    assert scores["map_mean"] == pytest.approx(0.109, abs=0.004)


def test_perfect_and_collapsed_students() -> None:
    labels = np.repeat(np.arange(5), 8)
    one_hot = np.eye(5)[labels]
    assert retrieval(one_hot, one_hot * 3, labels)["map_mean"] == 1.0
    # Everything in one place: all 40 are equal and a fifth of them is relevant, whatever the order of the rows.
    assert retrieval(np.full((40, 3), 0.1), np.full((40, 3), 0.7), labels)["map_mean"] == pytest.approx(0.2)
    assert retrieval(np.zeros((40, 3)), np.ones((40, 3)), labels)["map_mean"] == pytest.approx(0.2)


def test_neither_blocks_nor_order_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = rng.integers(0, 4, 61)
    audio, visual = rng.normal(size=(61, 33)), rng.normal(size=(61, 33))
    visual[10:30] = visual[40]
    whole = retrieval(audio, visual, labels)
    curve, recall = precision_scope(audio, visual, labels, [1, 5, 61]), recall_at_k(audio, visual, [1, 5, 61])
    monkeypatch.setattr(ranking, "_CHUNK_BYTES", 8 * 61 * 3)
    order = rng.permutation(61)
    blocks = retrieval(audio[order], visual[order], labels[order])
    assert blocks == pytest.approx(whole, abs=1e-14)
    assert precision_scope(audio[order], visual[order], labels[order], [1, 5, 61]) == pytest.approx(curve, abs=1e-14)
    assert recall_at_k(audio[order], visual[order], [1, 5, 61]) == pytest.approx(recall, abs=1e-14)


def test_recall_counts_the_own_pair() -> None:
    queries = np.eye(4)
    gallery = np.eye(4)[[0, 1, 3, 2]]
    assert recall_at_k(queries, gallery, [1]) == {1: 0.5}
    # Rows 2 and 3 tie with two others at 0 for places 2 to 4: their own is among the first two in one of three orders.
    assert recall_at_k(queries, gallery, [2, 4]) == pytest.approx({2: (2 + 2 / 3) / 4, 4: 1.0})


def test_precision_scope_ends_at_the_share_of_the_class() -> None:
    labels = np.repeat(np.arange(4), 5)
    vectors = rng.normal(size=(20, 3)) + 4 * np.eye(4)[labels][:, :3]
    curve = precision_scope(vectors, vectors, labels, [1, 2, 5, 20])
    assert curve[0] == 1.0
    assert curve[-1] == pytest.approx(5 / 20)
    similarity = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(similarity @ similarity.T), axis=1)[:, :5]
    assert curve[2] == pytest.approx((labels[nearest] == labels[:, None]).mean())


def test_memory_stays_bounded() -> None:
    n = 6000
    labels = np.arange(n) % 10
    audio, visual = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
    tracemalloc.start()
    retrieval(audio, visual, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The whole matrix would be 288 MB.
    assert peak < 3 * ranking._CHUNK_BYTES


@pytest.mark.slow
def test_all_of_vegas_takes_less_than_a_gigabyte() -> None:
    """28,103 clips against 28,103, of ten classes; the matrix would have 6.3 GB."""
    n = 28_103
    labels = np.arange(n) % 10
    audio, visual = rng.normal(size=(n, 10)), rng.normal(size=(n, 10))
    tracemalloc.start()
    score = retrieval(audio, visual, labels)["map_mean"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e9 and score == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(
    ("audio", "visual", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), [], "at least one row of audio"),
        (np.ones(3), np.ones((3, 1)), [0, 0, 1], r"audio of shape \(N, D\), found \(3,\)"),
        (np.ones((3, 2)), np.ones((3, 1)), [0, 0, 1], r"found \(3, 2\) and \(3, 1\)"),
        (np.ones((2, 2)), np.array([[1.0, np.nan], [1, 1]]), [0, 1], "visual, found others in row 0"),
        (np.ones((2, 2)), np.ones((2, 2)), [0], r"2 rows, found labels of shape \(1,\)"),
        (np.ones((2, 2)), np.ones((2, 2)), [0, np.nan], "labels that are not finite"),
    ],
)
def test_bad_input_is_named(audio: np.ndarray, visual: np.ndarray, labels: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval(audio, visual, labels)


def test_bad_cuts_are_named() -> None:
    with pytest.raises(ValueError, match=r"cuts of 1 or more, found \[0\]"):
        recall_at_k(np.eye(2), np.eye(2), [0])
    with pytest.raises(ValueError, match="up to the 2 items, found 3"):
        precision_scope(np.eye(2), np.eye(2), [0, 1], [3])
