"""Metrics of audio-visual retrieval (section 5.2, Table 4): mAP by cosine similarity, recall@k, precision-scope curve.

Legend: N pairs, D dimensions, C queries ranked at a time.
Every query ranks the whole other modality, its own pair included. Items of equal similarity share their place, so no
result depends on the order of the rows: a precision counts all items down to the last equal one (as scikit-learn's
average_precision_score does), a cut through equal items is counted by its expectation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_CHUNK_BYTES = 64 * 2**20
"""Size of one block of similarities. Three are alive at a time, so 28,103 x 28,103 pairs stay far below 1 GB."""
_DECIMALS = 12
"""Similarities are rounded to so many places: matrix products differ in the last bits with the block's shape, and
equal vectors must stay equal whichever block they fall into."""


def retrieval(audio: ArrayLike, visual: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Mean average precision in both directions; an item is relevant if it has the query's label.

    Args:
        audio: (N, D) vectors.
        visual: (N, D) vectors; row i belongs to the same clip as audio's.
        labels: (N,) classes.

    Returns:
        map_a2v: audio asks, visual is ranked. map_v2a: the reverse. map_mean: their mean.

    Raises:
        ValueError: no rows, shapes that do not fit, or a value that is not finite.
    """
    a, v = _unit(audio, "audio"), _unit(visual, "visual")
    y = _classes(labels, len(a))
    _same_shape(a, v)
    forth, back = _mean_average_precision(a, v, y), _mean_average_precision(v, a, y)
    return {"map_a2v": forth, "map_v2a": back, "map_mean": (forth + back) / 2}


def recall_at_k(queries: ArrayLike, gallery: ArrayLike, ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Share of queries whose own pair (the same row of the gallery) is among the first k.

    Args:
        queries: (N, D) vectors of one modality.
        gallery: (N, D) vectors of the other.
        ks: cuts, each at least 1.

    Returns:
        k → share.

    Raises:
        ValueError: no rows, shapes that differ, a value that is not finite, or k < 1.
    """
    q, g = _unit(queries, "queries"), _unit(gallery, "gallery")
    _same_shape(q, g)
    cuts = _cuts(ks)
    found = np.zeros(len(cuts))
    for rows, similarity in _blocks(q, g, np.arange(len(q))):
        own = similarity[np.arange(len(rows)), rows][:, None]
        above = np.count_nonzero(similarity > own, axis=1)[:, None]
        equal = np.count_nonzero(similarity == own, axis=1)[:, None]
        found += np.clip((cuts[None, :] - above) / equal, 0, 1).sum(axis=0)
    return {int(k): float(share) for k, share in zip(cuts, found / len(q), strict=True)}


def precision_scope(queries: ArrayLike, gallery: ArrayLike, labels: ArrayLike, scopes: Sequence[int]) -> Floats:
    """The precision-scope curve: mean over queries of the share of relevant items among the first K.

    Args:
        queries: (N, D) vectors of one modality.
        gallery: (N, D) vectors of the other.
        labels: (N,) classes of both.
        scopes: numbers K, each from 1 to N.

    Returns:
        (len(scopes),) mean precision at each K.

    Raises:
        ValueError: as for `retrieval`, or a K outside 1 … N.
    """
    q, g = _unit(queries, "queries"), _unit(gallery, "gallery")
    _same_shape(q, g)
    y, cuts = _classes(labels, len(q)), _cuts(scopes)
    if len(cuts) and cuts.max() > len(g):
        raise ValueError(f"precision_scope: expected scopes up to the {len(g)} items, found {cuts.max()}")
    total = np.zeros(len(cuts))
    for relevant, similarity in _blocks_by_class(q, g, y):
        hits = np.sort(similarity[:, relevant], axis=1)
        similarity.sort(axis=1)
        for all_, own in zip(similarity, hits, strict=True):
            last = all_[len(all_) - cuts]
            above, own_above = _count_above(all_, last), _count_above(own, last)
            equal, own_equal = _count_from(all_, last) - above, _count_from(own, last) - own_above
            total += (own_above + (cuts - above) * own_equal / equal) / cuts
    return total / len(q)


def _mean_average_precision(queries: Floats, gallery: Floats, labels: NDArray[np.int64]) -> float:
    total = 0.0
    for relevant, similarity in _blocks_by_class(queries, gallery, labels):
        hits = np.sort(similarity[:, relevant], axis=1)
        similarity.sort(axis=1)
        # Only the places of relevant items matter: sorting values and looking these up is much faster than argsort.
        for all_, own in zip(similarity, hits, strict=True):
            total += float((_count_from(own, own) / _count_from(all_, own)).mean())
    return total / len(queries)


def _blocks_by_class(
    queries: Floats, gallery: Floats, labels: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Per block of queries of one class: the gallery's rows of that class, and the similarities (C, N)."""
    for label in np.unique(labels):
        relevant = np.flatnonzero(labels == label)
        for _, similarity in _blocks(queries, gallery, relevant):
            yield relevant, similarity


def _blocks(queries: Floats, gallery: Floats, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    size = max(1, _CHUNK_BYTES // (8 * len(gallery)))
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        similarity = queries[chunk] @ gallery.T
        yield chunk, np.round(similarity, _DECIMALS, out=similarity)


def _count_from(ascending: Floats, values: Floats) -> NDArray[np.int64]:
    """How many of the sorted numbers are at least each of the values."""
    return len(ascending) - np.searchsorted(ascending, values, side="left")


def _count_above(ascending: Floats, values: Floats) -> NDArray[np.int64]:
    """How many of the sorted numbers are greater than each of the values."""
    return len(ascending) - np.searchsorted(ascending, values, side="right")


def _unit(vectors: ArrayLike, name: str) -> Floats:
    """Rows of length 1; a row of zeros stays, its similarity to everything being 0."""
    array: Floats = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"retrieval: expected {name} of shape (N, D), found {array.shape}")
    if not len(array):
        raise ValueError(f"retrieval: expected at least one row of {name}, found none; does the split hold clips?")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(
            f"retrieval: expected finite numbers as {name}, found others in row {bad[0]} ({len(bad)} such rows)"
        )
    # By the largest component first, so that lengths neither overflow nor vanish.
    largest = np.abs(array).max(axis=1, keepdims=True, initial=0.0)
    array = array / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.where(length > 0, length, 1.0)


def _same_shape(a: Floats, b: Floats) -> None:
    if a.shape != b.shape:
        raise ValueError(f"retrieval: expected both modalities in the same shape (N, D), found {a.shape} and {b.shape}")


def _classes(labels: ArrayLike, rows: int) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.shape != (rows,):
        raise ValueError(f"retrieval: expected one label for each of {rows} rows, found labels of shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("retrieval: expected a class for each row, found labels that are not finite")
    return np.unique(array, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _cuts(ks: Sequence[int]) -> NDArray[np.int64]:
    cuts = np.asarray(ks, dtype=np.int64)
    if cuts.ndim != 1 or (cuts < 1).any():
        raise ValueError(f"retrieval: expected cuts of 1 or more, found {list(ks)}")
    return cuts
