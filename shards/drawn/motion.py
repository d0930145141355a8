"""A drawn face in time: it puts its expression on, talks, blinks, looks about and sways, before a hand-held camera."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from shards.drawn.canvas import SIZE
from shards.drawn.face import Face, Pose

PIVOT = (128, 135)
"""The head turns about this point."""


def animate(
    face: Face, expression: float, seconds: float, fps: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """(256, 256, 3) uint8 RGB frames of a clip; everything but the person comes from `rng`.

    Args:
        expression: reached after half a second: -1 sad or angry, 0 neutral, 1 happy.
    """
    time = np.arange(int(seconds * fps)) / fps
    phase = rng.uniform(0, 2 * np.pi, 8)
    style = rng.uniform(-1, 1)
    place = (rng.uniform(-8, 8), rng.uniform(-6, 6), rng.uniform(-5, 5))
    strength = np.clip(0.3 + time / 0.5, 0, 1) * (0.9 + 0.1 * np.sin(2 * time + phase[0]))
    syllables = 0.6 * np.sin(2 * np.pi * rng.uniform(2.5, 4) * time + phase[1]) + 0.4 * np.sin(6.9 * time + phase[2])
    talk = np.clip(syllables, 0, 1) * rng.uniform(0.3, 0.8)
    blink = np.exp(-(((time - rng.uniform(0.4, seconds - 0.2)) / 0.07) ** 2))
    scale, gain, mirrored = rng.uniform(0.9, 1.1), rng.uniform(0.85, 1.12), bool(rng.integers(2))
    for number, t in enumerate(time):
        pose = Pose(
            expression=expression * strength[number],
            talk=talk[number],
            blink=blink[number],
            brow=np.sin(1.5 * t + phase[3]),
            style=style,
            gaze=(1.5 * np.sin(0.9 * t + phase[7]), 0.4 * np.sin(1.2 * t)),
        )
        right = place[0] + 3 * np.sin(1.3 * t + phase[4])
        down = place[1] + 2 * np.sin(1.7 * t + phase[5])
        turn = place[2] + 3 * np.sin(1.1 * t + phase[6])
        moved = _moved(face.show(pose), right, down, turn, scale)
        picture = cv2.addWeighted(moved, gain, face.who.grain[number % len(face.who.grain)], 1.0, -4.0)
        yield cv2.flip(picture, 1) if mirrored else picture


def _moved(image: np.ndarray, right: float, down: float, degrees: float, scale: float) -> np.ndarray:
    """The canvas at its final size, turned and scaled about the head and shifted."""
    cos, sin = np.cos(np.deg2rad(degrees)) * scale, np.sin(np.deg2rad(degrees)) * scale
    x, y = PIVOT
    matrix = np.array([[cos, -sin, x + right - x * cos + y * sin], [sin, cos, y + down - x * sin - y * cos]])
    small = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return cv2.warpAffine(small, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
