"""Texts to numbers, fast: tokens are made one window ahead, batches hold texts of (nearly) one length."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from vadv.student.background import ahead
from vadv.student.buckets import buckets
from vadv.student.engines import Engine
from vadv.student.folder import Student
from vadv.student.tokens import Tokenizer, Tokens

T = TypeVar("T")
WINDOW = 4096
"""Texts that are sorted by length together: memory is bounded by it, and most lengths fill a batch."""


class Predictor:
    """A loaded student."""

    def __init__(self, student: Student, engine: Engine, threads: int | None = None) -> None:
        """Load the tokenizer.

        Args:
            student: what `open_student` found.
            engine: computes the forward pass.
            threads: batches that are computed at once, each by one thread; default: one per core. Batches side by
                side use the cores better than threads that share one batch and wait for each other at every layer.
        """
        self.student = student
        self.tokenizer = Tokenizer(student)
        self.engine = engine
        self._pool = ThreadPoolExecutor(threads or cores(), thread_name_prefix="predict")

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Predictions (n,) float32 in the order of `texts`."""
        windows = (texts[start : start + WINDOW] for start in range(0, len(texts), WINDOW))
        scores = [values for _, values, _ in self.stream(windows, list)]
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def stream(
        self, windows: Iterable[T], texts: Callable[[T], list[str]]
    ) -> Iterator[tuple[T, np.ndarray, np.ndarray]]:
        """Predict window after window; the next one is read and tokenised meanwhile.

        Args:
            windows: groups of texts, in whatever form.
            texts: the texts of a window.

        Yields:
            the window, (n,) float32 predictions, (n,) bool: whether the text was cut.
        """
        prepared = ahead((window, self.tokenizer(texts(window))) for window in windows)
        for window, tokens in prepared:
            yield window, self.scores(tokens), np.array([t.cut for t in tokens], dtype=bool)

    def scores(self, tokens: Sequence[Tokens]) -> np.ndarray:
        """Predictions (n,) float32 of tokenised texts, computed in batches of like length."""
        lengths = np.array([len(t.ids) for t in tokens], dtype=np.int64)
        out = np.empty(len(tokens), np.float32)

        def run(rows: np.ndarray) -> None:
            longest = int(lengths[rows].max())
            ids = np.full((len(rows), longest), self.student.pad, np.int64)
            for at, row in enumerate(rows):
                ids[at, : lengths[row]] = tokens[row].ids
            padded = int(lengths[rows].min()) < longest
            mask = (np.arange(longest) < lengths[rows, None]).astype(np.int64) if padded else None
            out[rows] = self.engine(ids, mask)

        # Longest first: the last batches to finish are the short ones, so no core waits long for another.
        for _ in self._pool.map(run, list(buckets(lengths))[::-1]):
            pass
        return out


def cores() -> int:
    """Cores this process may use: affinity and a container's CPU quota, whichever is less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or the quota is "max"
        return count
