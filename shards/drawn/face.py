"""What moves in a drawn face: folds, eyes, brows, mouth, for an expression between -1 (sad, angry) and 1 (happy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from shards.drawn.canvas import SUPER, band, blend, fill, points, stroke, tint
from shards.drawn.identity import CENTRE, Identity
from shards.drawn.portrait import SIDES, paint

UNCHANGED = 200
"""In the map of folds: the value that leaves the skin as it is."""


@dataclass(kw_only=True)
class Pose:
    """One moment of a face.

    Attributes:
        expression: -1 sad or angry, 0 neutral, 1 happy.
        talk: how far speech opens the mouth, 0..1.
        blink: how far the lids are closed, 0..1.
        brow: pixels by which both brows are lowered.
        style: of a negative face: -1 sad, 1 angry.
        gaze: pixels by which the eyes look right and down.
    """

    expression: float
    talk: float = 0.0
    blink: float = 0.0
    brow: float = 0.0
    style: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)


class Mood(NamedTuple):
    """An expression taken apart: joy, displeasure, and how much of the latter is anger and sadness. Each 0..1."""

    joy: float
    displeasure: float
    anger: float
    sadness: float


def mood_of(pose: Pose) -> Mood:
    """Exponents below 1 make weak expressions visible."""
    expression = float(np.clip(pose.expression, -1, 1))
    joy = max(0.0, expression) ** 0.7
    displeasure = max(0.0, -expression) ** 0.75
    anger = displeasure * min(1, max(0, 0.5 + 0.6 * pose.style))
    sadness = displeasure * min(1, max(0, 0.5 - 0.6 * pose.style))
    return Mood(joy, displeasure, anger, sadness)


class Face:
    """A drawn person, painted once, then shown in any pose."""

    def __init__(self, who: Identity) -> None:
        self.who = who
        self.portrait = paint(who)

    def show(self, pose: Pose) -> np.ndarray:
        """(512, 512, 3) uint8."""
        image = self.portrait.copy()
        mood = mood_of(pose)
        _folds(image, self.who, pose, mood)
        hair = self.who.hair * 0.62 + self.who.skin * 0.06
        for side in SIDES:
            _eye(image, self.who, pose, mood, side, hair)
            _brow(image, self.who, pose, mood, side, hair)
        _mouth(image, self.who, pose, mood)
        if self.who.glasses:
            _glasses(image, self.who)
        return image


def _mouth_corner(who: Identity, pose: Pose, mood: Mood) -> tuple[float, float, float]:
    """Half the mouth's width, the height of its middle, and by how much the corners hang."""
    half = who.mouth_width * (1 + 0.40 * mood.joy - 0.10 * mood.anger + 0.03 * mood.sadness - 0.10 * pose.talk)
    middle = who.mouth_y - 1.0 * mood.joy + 1.5 * mood.displeasure
    droop = -10.0 * mood.joy + 9.0 * mood.displeasure + mood.sadness
    return half, middle, droop


def _folds(image: np.ndarray, who: Identity, pose: Pose, mood: Mood) -> None:
    """Darken and lighten the skin softly: folds beside nose and mouth, lifted cheeks, a frown."""
    joy, displeasure, anger, sadness = mood
    cx, eye_y, nose_y, brow_y = CENTRE, who.eye_y, who.nose_y, who.brow_y
    half, mouth_y, droop = _mouth_corner(who, pose, mood)
    light = np.full((128, 128), UNCHANGED, np.uint8)  # at half of the final size

    def fold(line: list[tuple[float, float]], change: float, width: int) -> None:
        at = np.round(np.asarray(line) * 8).astype(np.int32)
        cv2.polylines(light, [at], False, int(UNCHANGED + change), width, cv2.LINE_AA, 4)

    for side in SIDES:
        wing = side * who.nose_width
        corner = side * half
        if joy > 0.05:
            smile = [(cx + 13.5 * wing, nose_y - 3), (cx + side * (20 + 4 * joy), nose_y + 6)]
            smile += [(cx + corner + side * 5.5, mouth_y - 4), (cx + corner + side * 4, mouth_y + 2)]
            fold(smile, -115 * joy, 2)
            cheek = (int((cx + side * 34) / 2), int((eye_y + 24 - 3 * joy) / 2))
            cv2.ellipse(light, cheek, (7, 5), 0, 0, 360, int(UNCHANGED + 34 * joy), -1)
            fold([(cx + side * 14, eye_y + 9), (cx + side * 26, eye_y + 11), (cx + side * 36, eye_y + 8)], -50 * joy, 1)
        if displeasure > 0.05:
            sneer = [(cx + 14 * wing, nose_y - 2), (cx + side * 23, nose_y + 8), (cx + corner + side * 4, mouth_y + 2)]
            fold(sneer, -45 * displeasure, 2)
            y = mouth_y + droop
            fold([(cx + corner + side, y), (cx + corner + side * 3, y + 8)], -80 * displeasure, 2)
        if anger > 0.05:
            fold([(cx + side * 4, brow_y - 6), (cx + side * 3.2, brow_y + 8)], -110 * anger, 1)
            fold([(cx + side * 9, brow_y + 7), (cx + side * 20, brow_y + 9)], -80 * anger, 2)
    if sadness > 0.2:
        fold([(cx - 15, brow_y - 16), (cx, brow_y - 18), (cx + 15, brow_y - 16)], -40 * sadness, 1)
    y = mouth_y + 13 + 9 * pose.talk
    fold([(cx - 10, y), (cx, y + 1), (cx + 10, y)], -20 - 25 * displeasure, 2)

    # Only the face's rows 80..216 and columns 72..184 can have changed.
    light = cv2.GaussianBlur(light, (0, 0), 1.7)[40:108, 36:92]
    region = image[80 * SUPER : 216 * SUPER, 72 * SUPER : 184 * SUPER]
    light = cv2.resize(light, region.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    region[:] = cv2.multiply(region, cv2.merge([light, light, light]), scale=1 / UNCHANGED)


def _region(image: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The part of the canvas between positions of the final picture (a view)."""
    return image[int(top * SUPER) : int(bottom * SUPER), int(left * SUPER) : int(right * SUPER)]


def _eye(image: np.ndarray, who: Identity, pose: Pose, mood: Mood, side: int, hair: np.ndarray) -> None:
    joy, _, anger, sadness = mood
    x, y, wide = CENTRE + side * who.eye_x, who.eye_y, who.eye_width
    upper = 5.9 * who.eye_height * (1 - 0.36 * joy - 0.30 * anger - 0.22 * sadness) * (1 - 0.93 * pose.blink) + 0.2
    lower = 4.0 * who.eye_height * (1 - 0.6 * joy - 0.10 * anger) * (1 - 0.3 * pose.blink)
    across = np.linspace(-1, 1, 13)
    arch = 1 - across * across
    tilt = across * side * (-1.0 + 1.6 * sadness - 1.5 * anger)
    upper_lid = points(x + wide * across, y - upper * arch**0.75 + tilt)
    lower_lid = points(x + wide * across, y + lower * arch**0.85 + tilt)
    if pose.blink > 0.5:
        upper_lid[:, 1] += lower * 0.7 * arch

    region = _region(image, x - wide - 4, y - 13, x + wide + 4, y + 11)
    origin = np.array([int((x - wide - 4) * SUPER), int((y - 13) * SUPER)]) / SUPER
    opening = np.zeros(region.shape[:2], np.uint8)
    fill(opening, band(x + wide * across, upper_lid[:, 1], lower_lid[:, 1]) - origin, 255)
    lid_shadow = int((y - upper * 0.45) * SUPER) - int((y - 13) * SUPER)
    ball = _eyeball(who, region.shape, (x, y) - origin, pose.gaze, lid_shadow)
    blend(region, cv2.GaussianBlur(opening, (0, 0), 0.9), ball)

    lash = tint(hair, 0.45) if who.feminine else tint(who.skin * 0.22)
    stroke(image, upper_lid, lash, 1.7 if who.feminine else 1.3)
    stroke(image, lower_lid[2:-2], tint(who.skin, 0.55), 0.6)
    crease = 3.6 + 1.2 * (1 - pose.blink) - 1.5 * anger
    stroke(image, upper_lid[2:-1] - [0, crease], tint(who.skin, 0.60), 0.8)


def _eyeball(
    who: Identity, shape: tuple[int, ...], centre: np.ndarray, gaze: tuple[float, float], lid_shadow: int
) -> np.ndarray:
    """White, iris, pupil and the light's reflection, on a small image; `centre` is the eye's middle there."""
    ball = np.empty(shape, np.uint8)
    ball[:] = (222, 216, 212)
    ball[:lid_shadow] = (170, 160, 154)
    ball = cv2.GaussianBlur(ball, (0, 0), 2.5)

    def disc(x: float, y: float, radius: float, colour: tuple[float, ...]) -> None:
        scale = SUPER * 16
        cv2.circle(ball, (int(x * scale), int(y * scale)), int(radius * scale), colour, -1, cv2.LINE_AA, 4)

    x, y = centre[0] + gaze[0], centre[1] - 0.9 + gaze[1]
    disc(x, y, 5.9, tint(who.iris, 0.45))
    disc(x, y + 0.2, 5.1, tint(who.iris))
    disc(x, y + 1.6, 3.2, tint(who.iris, 1.3))
    disc(x, y, 2.5, (14, 12, 12))
    disc(x - 1.6 + 2.5 * (who.light[0] > 0), y - 2, 1.15, (245, 245, 245))
    return ball


def _brow(image: np.ndarray, who: Identity, pose: Pose, mood: Mood, side: int, hair: np.ndarray) -> None:
    joy, _, anger, sadness = mood
    level = who.brow_y - 0.3 * joy
    inner = level + 10.0 * anger - 6.5 * sadness + pose.brow
    outer = level - 1.5 * anger + 4.4 * sadness + pose.brow
    along = np.linspace(0, 1, 8)
    nearest = 9.5 - 2.8 * anger
    x = CENTRE + side * (nearest + along * (34 - nearest))
    arch = (3.6 - 2.2 * anger - 1.0 * sadness) * np.sin(np.pi * along**1.15)
    y = inner + (outer - inner) * along - arch + 1.8 * along**3
    thick = who.brow_width * (3.1 - 1.9 * along**1.6) * np.minimum(1, 0.55 + 3 * along)
    outline = band(x, y - thick, y + thick * 0.8)

    (left, top), (right, bottom) = outline.min(axis=0) - 3, outline.max(axis=0) + 3
    region = _region(image, left, top, right, bottom)
    mask = np.zeros(region.shape[:2], np.uint8)
    fill(mask, outline - np.array([int(left * SUPER), int(top * SUPER)]) / SUPER, 225)
    blend(region, cv2.GaussianBlur(mask, (0, 0), 1.7), hair * 0.9)


def _mouth(image: np.ndarray, who: Identity, pose: Pose, mood: Mood) -> None:
    """Lips around a seam that bends with the mood; a smile and speech open it and show teeth."""
    joy, _, anger, sadness = mood
    half, mouth_y, droop = _mouth_corner(who, pose, mood)
    across = np.linspace(-1, 1, 21)
    arch = np.clip(1 - across * across, 0, 1)
    seam = mouth_y + droop * (np.abs(across) ** 1.7 - 0.45)
    smile = max(0, joy - 0.06) / 0.94
    upper_gap = (2.6 * smile + 1.0 * pose.talk) * arch**0.6
    lower_gap = (9.0 * smile + 9.5 * pose.talk * (1 - 0.3 * smile)) * arch**0.75
    bow = 1 - 0.20 * np.exp(-((across / 0.14) ** 2))
    upper_lip = who.lips * (4.2 - 1.3 * joy - 1.3 * anger) * (1 - np.abs(across) ** 1.9) * bow
    lower_lip = who.lips * (5.2 - 1.2 * joy - 1.2 * anger + 0.8 * sadness) * arch**0.75

    region = _region(image, 86, mouth_y - 24, 170, mouth_y + 34)
    origin = np.array([86, int((mouth_y - 24) * SUPER) / SUPER])
    x = CENTRE + half * across - origin[0]
    seam, top, bottom = seam - origin[1], seam - upper_gap - origin[1], seam + lower_gap - origin[1]
    colour = who.lip_colour
    fill(region, band(x, top - upper_lip, bottom + lower_lip), tint(colour * 0.6 + who.skin * 0.35))
    fill(region, band(x, top - upper_lip * 0.85, top + 0.3), tint(colour, 0.84))
    fill(region, band(x, bottom - 0.3, bottom + lower_lip * 0.92), tint(colour, 0.98))
    fill(region, band(x, bottom + lower_lip * 0.25, bottom + lower_lip * 0.62), tint(colour, 1.09))
    if smile + pose.talk > 0.02:
        fill(region, band(x, top, bottom), (52, 22, 24))
        shown = 1.2 + 7.0 * smile + 2.2 * pose.talk
        _teeth(region, x, top, np.maximum(np.minimum(bottom - 0.2, top + shown * arch**0.35), top + 0.4))
        stroke(region, points(x, top + 0.3), tint(colour, 0.45), 0.6)
    else:
        stroke(region, points(x, seam), tint(colour, 0.36), 1.0)
    for end in (0, -1):
        corner = (round(x[end] * SUPER * 16), round(seam[-1] * SUPER * 16))
        cv2.circle(region, corner, 16 * SUPER, tint(who.skin * 0.34), -1, cv2.LINE_AA, 4)
    region[:] = cv2.GaussianBlur(region, (0, 0), 1.1)


def _teeth(region: np.ndarray, x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> None:
    """The upper row: a band with a bright middle and thin gaps. Curves are (21,) over the mouth's width."""
    fill(region, band(x, top + 0.3, bottom)[1:-1], (214, 208, 198))
    middle = np.s_[4:17]
    fill(region, band(x[middle], top[middle] + 0.5, np.maximum(bottom - 0.4, top + 0.5)[middle]), (236, 231, 222))
    across = np.linspace(-1, 1, 21)
    for gap in range(-3, 4):
        at = gap * 0.2
        gap_x = np.interp(at, across, x)
        ends = [(gap_x, np.interp(at, across, top) + 1), (gap_x, np.interp(at, across, bottom) - 0.5)]
        stroke(region, ends, (188, 180, 170), 0.4)


def _glasses(image: np.ndarray, who: Identity) -> None:
    x, y, frame = CENTRE, who.eye_y, (42, 36, 36)
    angle = np.linspace(0, 2 * np.pi, 28)
    cos, sin = np.cos(angle), np.sin(angle)
    for side in SIDES:
        rim_x = x + side * who.eye_x * 1.03 + 18.5 * np.sign(cos) * np.abs(cos) ** 0.75
        stroke(image, points(rim_x, y + 1 + 13.5 * np.sign(sin) * np.abs(sin) ** 0.75), frame, 1.2, closed=True)
        temple = [(x + side * (who.eye_x + 19), y - 3), (x + side * (who.half_width + 1), y - 4)]
        stroke(image, temple, frame, 1.3)
    stroke(image, [(x - 6.5, y - 1), (x, y - 3), (x + 6.5, y - 1)], frame, 1.2)
