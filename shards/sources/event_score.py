"""What happens in one clip of the made event corpus: sound and picture are both drawn from this score.

Ten events stand for the ten classes of VEGAS (section 5.1). They are made, not recorded, so that the retrieval task
runs on any machine; within a class clips differ in tempo, size, pitch, place, colour and surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EVENTS = (
    "a ball bouncing",
    "a bell ringing",
    "birds singing",
    "a clock ticking",
    "a drum beating",
    "an engine running",
    "fireworks exploding",
    "rain falling",
    "a siren wailing",
    "waves breaking",
)
"""The classes by number, worded so that they fit behind "A video of ..."."""


@dataclass(frozen=True, kw_only=True)
class EventScore:
    """One clip's event.

    Attributes:
        event: class number, an index of `EVENTS`.
        seconds: length of the clip.
        onsets: seconds at which the event sounds and moves (hits, chirps, bursts); empty for lasting events.
        strengths: loudness of each onset, 0 to 1.
        speed: cycles per second of what turns or swings.
        size: 0 to 1; large things are drawn large and sound low.
        other: class number of a faint second event, or -1. It is only heard: what is seen is always `event`.
        seed: source of everything else that is random in the clip.
    """

    event: int
    seconds: float
    onsets: np.ndarray
    strengths: np.ndarray
    speed: float
    size: float
    other: int
    seed: int

    def rng(self, part: int) -> np.random.Generator:
        """Random numbers for one part of the clip, independent of the other parts."""
        return np.random.default_rng([self.seed, part])


def compose(event: int, seed: int) -> EventScore:
    """The score of clip `seed` of a class: the same arguments give the same score.

    Raises:
        ValueError: there is no such class.
    """
    if not 0 <= event < len(EVENTS):
        raise ValueError(f"event: expected 0 to {len(EVENTS) - 1}, found {event}")
    rng = np.random.default_rng([seed, 0])
    seconds = float(rng.uniform(2.0, 2.8))
    size = float(rng.uniform())
    speed, onsets = _timing(event, seconds, rng)
    strengths = rng.uniform(0.6, 1.0, len(onsets))
    other = int(rng.integers(len(EVENTS))) if rng.uniform() < 0.4 else -1
    return EventScore(
        event=event,
        seconds=seconds,
        onsets=onsets,
        strengths=strengths,
        speed=speed,
        size=size,
        other=-1 if other == event else other,
        seed=seed,
    )


def _timing(event: int, seconds: float, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Cycles per second and onsets of a class."""
    name = EVENTS[event]
    start = float(rng.uniform(0.05, 0.3))
    if name == "a ball bouncing":
        # A ball that loses energy: each flight is shorter than the one before, down to a rolling end.
        flight, ratio = float(rng.uniform(0.5, 0.75)), float(rng.uniform(0.72, 0.85))
        flights = np.maximum(flight * ratio ** np.arange(40), 0.08)
        return 1 / flight, _within(start + np.concatenate([[0.0], np.cumsum(flights)]), seconds)
    if name == "a bell ringing":
        speed = float(rng.uniform(0.8, 1.5))
        return speed, _within(start + np.arange(20) / speed, seconds)
    if name == "birds singing":
        speed = float(rng.uniform(3.0, 6.0))
        return speed, _within(start + np.cumsum(rng.uniform(0.6, 1.6, 60) / speed), seconds)
    if name == "a clock ticking":
        speed = float(rng.choice([2.0, 2.5, 3.0, 4.0]))
        return speed, _within(start + np.arange(60) / speed, seconds)
    if name == "a drum beating":
        # A bar of eight steps, beaten over and over.
        speed = float(rng.uniform(4.0, 7.0))
        bar = np.flatnonzero(rng.uniform(size=8) < 0.6) if rng.uniform() < 0.8 else np.arange(0, 8, 2)
        bar = bar if len(bar) else np.array([0, 4])
        return speed, _within(start + np.add.outer(np.arange(8) * 8, bar).ravel() / speed, seconds)
    if name == "fireworks exploding":
        bursts = int(rng.integers(2, 5))
        return 1.0, np.sort(rng.uniform(0.1, seconds - 0.5, bursts))
    low, high = {
        "an engine running": (1.2, 2.6),
        "rain falling": (1.5, 3.0),
        "a siren wailing": (0.5, 1.4),
        "waves breaking": (0.35, 0.7),
    }[name]
    return float(rng.uniform(low, high)), np.zeros(0)


def _within(times: np.ndarray, seconds: float) -> np.ndarray:
    return times[times < seconds - 0.05]
