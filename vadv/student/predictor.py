"""Texts to numbers, fast: tokens are made one window ahead, batches hold texts of (nearly) one length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from vadv.student.background import ahead
from vadv.student.buckets import buckets
from vadv.student.engines import Engine, TorchEngine
from vadv.student.folder import Student
from vadv.student.tokens import Tokenizer, Tokens

T = TypeVar("T")
WINDOW = 4096
"""Texts that are sorted by length together: memory is bounded by it, and most lengths fill a batch."""


class Predictor:
    """A loaded student."""

    def __init__(self, student: Student, engine: Engine | None = None) -> None:
        """Load tokenizer and model.

        Args:
            student: what `open_student` found.
            engine: computes the forward pass; default: PyTorch.
        """
        self.student = student
        self.tokenizer = Tokenizer(student)
        self.engine = engine or TorchEngine(student)

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
        out = np.empty(len(tokens), np.float32)
        lengths = np.array([len(t.ids) for t in tokens], dtype=np.int64)
        for rows in buckets(lengths):
            longest = int(lengths[rows].max())
            ids = np.zeros((len(rows), longest), np.int64)
            for at, row in enumerate(rows):
                ids[at, : lengths[row]] = tokens[row].ids
            even = int(lengths[rows].min()) == longest
            mask = None if even else (np.arange(longest) < lengths[rows, None]).astype(np.int64)
            out[rows] = self.engine(ids, mask)
        return out
