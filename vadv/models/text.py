"""Texts of a micro-batch laid end to end, so that no computation goes into padding.

Padded to the longest of its micro-batch, a third of a text batch is often padding. Here texts share rows instead:
attention is limited to tokens of the same text, and positions start anew with each, so that every text has the states
that it would have alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

ROW = 256
"""Tokens that a row should not exceed by much: attention costs L² in a row of L, little beside the linear layers yet."""
WASTE = 0.05
"""Share of filler up to which texts are spread over several rows; beyond it they get fewer, longer ones."""
FILLER = -1


@dataclass(kw_only=True)
class Text:
    """B texts in R rows of L tokens."""

    ids: Tensor
    """(R, L) int64 token ids, 0 in filler."""
    clip: Tensor
    """(R, L) int64: the text, 0 … B - 1, that a token belongs to; -1 in filler."""
    place: Tensor
    """(R, L) int64: the token's place in its text, from 0."""
    first: Tensor
    """(B,) int64: where each text begins in the flattened (R · L) tokens."""
    filler: int
    """Tokens that are computed for nothing."""

    def each(self, change: Callable[[Tensor], Tensor]) -> Text:
        """The same with its tensors changed."""
        return replace(self, **{k: change(v) for k, v in vars(self).items() if isinstance(v, Tensor)})

    @property
    def mask(self) -> Tensor:
        """(R, 1, L, L) bool: who attends to whom. Filler attends to filler, as attention to nothing is undefined."""
        return (self.clip[:, :, None] == self.clip[:, None, :])[:, None]


def lay(texts: Sequence[Sequence[int]]) -> Text:
    """Spread texts over rows of about equal length, in at most ceil(tokens / ROW) rows and with at most WASTE filler.

    Args:
        texts: token ids, at least one per text.

    The result depends on the texts alone.
    """
    lengths = list(map(len, texts))
    total = sum(lengths)
    for count in range(-(-total // ROW), 0, -1):
        rows, length = _spread(lengths, count)
        if count * length - total <= WASTE * count * length:
            break
    ids, clip, place = ([[fill] * length for _ in rows] for fill in (0, FILLER, 0))
    first = [0] * len(texts)
    for r, row in enumerate(rows):
        at = 0
        for number in row:
            size = lengths[number]
            ids[r][at : at + size] = texts[number]
            clip[r][at : at + size] = [number] * size
            place[r][at : at + size] = range(size)
            first[number] = r * length + at
            at += size
    return Text(
        ids=torch.tensor(ids),
        clip=torch.tensor(clip),
        place=torch.tensor(place),
        first=torch.tensor(first),
        filler=len(rows) * length - total,
    )


def _spread(lengths: list[int], count: int) -> tuple[list[list[int]], int]:
    """Numbers of the texts in each row, the longest first and each to the row that is shortest yet; the longest row."""
    rows: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        shortest = sizes.index(min(sizes))
        rows[shortest].append(number)
        sizes[shortest] += lengths[number]
    return rows, max(sizes)
