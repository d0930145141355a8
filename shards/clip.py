"""A clip as it leaves the data path: what training sees of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(kw_only=True)
class Clip:
    """One decoded sample, or an empty slot, or a sample that could not be read (`fault`).

    Attributes:
        id: the sample's id, unique in its dataset; "" in an empty slot.
        dataset: name of the dataset.
        index: number of the sample in its split (over all combined folders), -1 in an empty slot.
        text: transcript.
        label: sentiment in [-3, 3], or the number of the event class.
        frames: (T, 3, H, W) uint8 RGB, or None when no video was asked for (or the slot is empty or bad).
        faces: (64, 8) float32 face-expression log-scores, rows of zeros where no face was found, or None.
        audio, visual: (D,) float32 features, or None.
        features: what the reader asked for features found in place of frames, or None.
        fault: why the sample could not be read, or None.
    """

    id: str = ""
    dataset: str = ""
    index: int = -1
    text: str = ""
    label: float = 0.0
    frames: np.ndarray | None = None
    faces: np.ndarray | None = None
    audio: np.ndarray | None = None
    visual: np.ndarray | None = None
    features: Any = None
    fault: Fault | None = None

    @property
    def counts(self) -> bool:
        """Whether the sample has weight 1 in its batch."""
        return self.index >= 0 and self.fault is None


@dataclass(kw_only=True, frozen=True)
class Fault:
    """Why a sample was skipped.

    Attributes:
        id: sample id, or "" when its KEY.json could not be read either.
        cause: a short fixed word: unreadable, undecodable, timeout, crash, missing, damaged, ...
        detail: one line for a person.
        where: shard and member, `train/000003.tar:00000042.mp4`.
    """

    id: str
    cause: str
    detail: str
    where: str
