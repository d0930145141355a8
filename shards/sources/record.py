"""What a source hands to the packer: one record per clip, or the reason why a row is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

import numpy as np

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Raw:
    """One clip of a dataset, not yet opened.

    Attributes:
        id: unique in the dataset over all splits.
        text: transcript.
        label: sentiment in [-3, 3], or the number of an event class.
        split: train, valid or test.
        video: file that holds the clip; None for a dataset that has feature vectors only.
        video_id, clip_id: the longer recording and the part of it, where the dataset has such.
        start, end: seconds to cut out of `video`; None means its beginning, its end.
        audio, visual: (D,) float32 feature vectors that the dataset brings along, or None.
        common_modalities: reject the clip unless it has sound and shows a face in some frame.
    """

    id: str
    text: str
    label: float
    split: str
    video: Path | None = None
    video_id: str = ""
    clip_id: str = ""
    start: float | None = None
    end: float | None = None
    audio: np.ndarray | None = None
    visual: np.ndarray | None = None
    common_modalities: bool = False


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A row or a clip that packing leaves out; a line of rejected.csv.

    Attributes:
        id: as far as it is known.
        cause: a short fixed phrase that can be counted.
        detail: one line for a person.
    """

    id: str
    cause: str
    detail: str


class Source(Protocol):
    """A dataset's layout on disk. Iterating reads tables, never opens a video.

    A wrong table (missing file or column) raises ValueError or FileNotFoundError at once; a wrong row is `Rejected`.
    """

    @property
    def dataset(self) -> str:
        """Short name, kept in the manifest and in each sample."""

    @property
    def task(self) -> Literal["sentiment", "retrieval"]:
        """Whether labels are sentiment in [-3, 3] or numbers of classes."""

    def __iter__(self) -> Iterator[Raw | Rejected]:
        """Records in a fixed order: the order of packing, hence of the shards."""


class UnsafePath(ValueError):
    """A path in a table would leave the dataset's folder."""


def path_below(root: Path, *parts: str) -> Path:
    """`root`/`parts` when that stays below `root`, whatever a table says.

    Raises:
        UnsafePath: a part is empty or absolute, climbs with "..", or holds NUL or a backslash.
    """
    for part in parts:
        pieces = PurePosixPath(part).parts
        if not pieces or pieces[0].startswith("/") or ".." in pieces or "\0" in part or "\\" in part:
            raise UnsafePath(f"expected a path below {root}, found {part!r}")
    return root.joinpath(*parts)


def to_number(text: str) -> float:
    """A decimal number of a table's cell; anything else is NaN, which the packer rejects with its cause."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
