"""Drawing with anti-aliased polygons, masks and soft light on a canvas of twice the final size.

Positions and lengths are in pixels of the final 256 x 256 picture; images on the canvas are (512, 512, 3), RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

SIZE = 256
SUPER = 2
CANVAS = SIZE * SUPER
FIXED_POINT_BITS = 4
"""OpenCV takes positions as whole sixteenths of a pixel."""

Colour = Any
"""Three numbers 0..255, RGB."""
Image = np.ndarray

ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
"""(256, 256) y and x of every pixel."""


def on_canvas(points: Any) -> np.ndarray:
    """Points as OpenCV wants them: whole sixteenths of a canvas pixel."""
    return np.round(np.asarray(points, np.float64) * (SUPER << FIXED_POINT_BITS)).astype(np.int32)


def points(x: np.ndarray, y: Any) -> np.ndarray:
    """(n, 2) from x and y, which may be one number."""
    return np.stack([x, np.broadcast_to(np.asarray(y, float), np.shape(x))], axis=1)


def band(x: np.ndarray, upper: Any, lower: Any) -> np.ndarray:
    """(2n, 2) outline of the area between two curves over the same x."""
    return np.concatenate([points(x, upper), points(x, lower)[::-1]])


def ring(x: float, y: float, radius_x: float, radius_y: float, corners: int) -> np.ndarray:
    """(corners, 2) outline of an ellipse; first and last corner meet."""
    angle = np.linspace(0, 2 * np.pi, corners)
    return points(x + radius_x * np.cos(angle), y + radius_y * np.sin(angle))


def fill(image: Image, outline: Any, colour: Colour) -> None:
    """Fill a polygon."""
    cv2.fillPoly(image, [on_canvas(outline)], colour, cv2.LINE_AA, FIXED_POINT_BITS)


def stroke(image: Image, line: Any, colour: Colour, width: float, closed: bool = False) -> None:
    """Draw a line of `width` final pixels, at least one canvas pixel."""
    thickness = max(1, round(width * SUPER))
    cv2.polylines(image, [on_canvas(line)], closed, colour, thickness, cv2.LINE_AA, FIXED_POINT_BITS)


def bump(x: float, y: float, width: float, height: float) -> np.ndarray:
    """(256, 256) a Gaussian hill of height 1 at (x, y)."""
    down = np.exp(-(((ROWS[:, 0] - np.float32(y)) / np.float32(height)) ** 2))
    across = np.exp(-(((COLUMNS[0] - np.float32(x)) / np.float32(width)) ** 2))
    return np.outer(down, across)


def enlarge(field: np.ndarray) -> np.ndarray:
    """A (256, 256) or smaller field of numbers on the canvas."""
    return cv2.resize(field.astype(np.float32), (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)


def soften(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by `sigma` final pixels; wide blurs at a quarter of the size, where they cost little."""
    if sigma < 2:
        return cv2.GaussianBlur(mask, (0, 0), sigma * SUPER)
    small = cv2.resize(mask, (CANVAS // 4, CANVAS // 4), interpolation=cv2.INTER_AREA)
    return enlarge(cv2.GaussianBlur(small, (0, 0), sigma / 2))


def mask_of(outline: Any, blur: float = 0.0) -> np.ndarray:
    """(512, 512) 0..255: the inside of an outline, its edge softened by `blur`."""
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    fill(mask, outline, 255)
    return soften(mask, blur) if blur else mask


def rounded(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask with rounded corners."""
    return np.clip((soften(mask, radius) - 127.0) * (radius * 0.9) + 127, 0, 255).astype(np.uint8)


def lay(image: Image, mask: np.ndarray, colour: Any) -> None:
    """Paint a colour, or an image of the canvas's size, onto a float image through a mask, in the mask's bounding box."""
    x, y, width, height = cv2.boundingRect(mask if mask.dtype == np.uint8 else (mask > 0.5).astype(np.uint8))
    inside = np.s_[y : y + height, x : x + width]
    colour = np.asarray(colour, np.float32)
    target = image[inside]
    share = mask[inside][..., None].astype(np.float32) * np.float32(1 / 255)
    target += ((colour[inside] if colour.ndim == 3 else colour) - target) * share


def blend(target: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """The same on a small uint8 image, in whole numbers, for what is drawn in every frame."""
    share = mask[..., None].astype(np.uint16)
    if colour.ndim == 1:
        colour = colour.astype(np.uint16)
    mixed: np.ndarray = target * (255 - share) + colour * share
    target[:] = np.right_shift(mixed, 8).astype(np.uint8)


def tint(colour: Sequence[float] | np.ndarray, gain: float = 1.0) -> tuple[float, ...]:
    """A colour, brighter or darker, within 0..255."""
    return tuple(min(255.0, max(0.0, float(value) * gain)) for value in colour)
