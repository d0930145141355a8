"""What the loop must remember besides the engine's own state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class State:
    """Saved with every checkpoint.

    Attributes:
        step: optimizer steps taken.
        epoch: epochs completed.
        position: samples consumed in the current epoch.
        bad: clips of the current epoch that could not be read, all ranks together.
        skipped: steps skipped for non-finite numbers.
        best: {"epoch", "step", the measure's metric: value} of the best validation so far.
        seconds: wall time of all attempts.
        data: fingerprint of the training data.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    bad: int = 0
    skipped: int = 0
    best: dict[str, Any] | None = None
    seconds: float = 0.0
    data: str = ""
