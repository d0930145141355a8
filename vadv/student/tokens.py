"""Texts to token ids with the `tokenizers` library alone: transformers takes seconds to load, this milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vadv.student.folder import Student


class Tokens(NamedTuple):
    """One text as the model sees it."""

    ids: np.ndarray
    """(L,) int64 token ids with the special tokens, not padded."""
    cut: bool
    """Whether the text was longer than the limit."""


class Tokenizer:
    """The tokenizer of a student folder. Safe to use from several threads; the work runs outside Python's lock."""

    def __init__(self, student: Student) -> None:
        """Load tokenizer.json, or convert an older folder's tokenizer files through transformers.

        Raises:
            ValueError: the folder has no tokenizer that can be read.
        """
        from tokenizers import Tokenizer as Backend

        path = student.path / "tokenizer.json"
        try:
            if path.is_file():
                self._backend = Backend.from_file(str(path))
            else:
                from transformers import AutoTokenizer

                self._backend = AutoTokenizer.from_pretrained(student.path, local_files_only=True).backend_tokenizer
        except Exception as error:  # the library raises bare Exception for a damaged file
            raise ValueError(
                f"{student.path}: expected tokenizer.json, found no readable tokenizer: {error}"
            ) from error
        self._backend.no_padding()
        self._backend.enable_truncation(max_length=student.max_tokens)
        self.limit = student.max_tokens

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, in order.

        Args:
            texts: valid Unicode (no lone surrogates).
        """
        encoded = self._backend.encode_batch_fast(list(texts))
        return [
            Tokens(np.array(ids := e.ids, dtype=np.int64), len(ids) >= self.limit and bool(e.overflowing))
            for e in encoded
        ]
