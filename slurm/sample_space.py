"""Random search: trials drawn from ranges, log ranges and choices, the same ones each time the sweep is expanded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vadv.config_file import fill


@dataclass(kw_only=True)
class Dimension:
    """Values that one setting may take: either `choices`, or numbers from `low` to `high`."""

    choices: list[Any] | None = None
    """Values drawn with equal probability."""
    low: float | None = None
    """Least number."""
    high: float | None = None
    """Greatest number."""
    log: bool = False
    """Draw the logarithm uniformly: each power of ten is as likely as the next."""
    integer: bool = False
    """Whole numbers only; both ends can be drawn."""

    def __post_init__(self) -> None:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None:
                raise ValueError("expected choices with at least one value, or low and high")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(f"expected low below high, or choices, found low {self.low} and high {self.high}")
        elif self.log and self.low <= 0:
            raise ValueError(f"expected low above 0 for a log range, found {self.low}")

    def at(self, u: float) -> Any:
        """The value for a number `u` in [0, 1)."""
        if self.choices is not None:
            return self.choices[int(u * len(self.choices))]
        assert self.low is not None and self.high is not None
        low, high = self.low, self.high + self.integer
        value = math.exp(math.log(low) + u * math.log(high / low)) if self.log else low + u * (high - low)
        return math.floor(value) if self.integer else float(f"{value:.6g}")


@dataclass(kw_only=True)
class Random:
    """A random search: `trials` points, each with a value for every setting in `space`."""

    trials: int
    """Points drawn. More trials later leave the first ones as they are."""
    space: dict[str, Any]
    """Setting (dotted) to its `choices`, or to `low` and `high` with `log` and `integer` as needed."""
    seed: int = 0
    """Another seed draws other trials."""
    dimensions: dict[str, Dimension] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"random.trials: expected at least 1, found {self.trials}")
        if not self.space:
            raise ValueError("random.space: expected at least one setting, found none")
        for key, content in self.space.items():
            if not isinstance(content, Mapping):
                raise ValueError(f"random.space.{key}: expected choices, or low and high, found {content}")
            try:
                self.dimensions[key] = fill(Dimension, content)
            except ValueError as error:
                raise ValueError(f"random.space.{key}: {error}") from None

    def draw(self, trial: int) -> dict[str, Any]:
        """The settings of one trial, each a function of the seed, the trial's number and the setting's name alone."""
        return {key: dim.at(_uniform(f"{self.seed}/{trial}/{key}")) for key, dim in self.dimensions.items()}


def _uniform(text: str) -> float:
    """A number in [0, 1) from a text. Hashed, so that no library's generator decides what a sweep contains."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
