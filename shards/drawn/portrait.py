"""What does not move in a drawn face: background, hair, neck, skin with light and shade, nostrils, beard. Painted once."""

from __future__ import annotations

import cv2
import numpy as np

from shards.drawn.canvas import (
    CANVAS,
    COLUMNS,
    ROWS,
    SIZE,
    SUPER,
    bump,
    enlarge,
    fill,
    lay,
    mask_of,
    points,
    rounded,
    soften,
    stroke,
)
from shards.drawn.identity import CENTRE, Identity

SIDES = (-1, 1)


def paint(who: Identity) -> np.ndarray:
    """(512, 512, 3) uint8: the portrait without brows, eyes and mouth."""
    image = _background(who)
    strands = _strands(who)
    hair = _hair_colour(who, strands)
    if who.long_haired:
        _hair_behind(image, who, hair)
    _neck_and_clothes(image, who)
    if not who.long_haired:
        _ears(image, who)
    lay(image, mask_of(who.outline(), 0.8), _skin(who, strands))
    _nostrils(image, who)
    _hair_in_front(image, who, hair, strands)
    return np.clip(image, 0, 255).astype(np.uint8)


def _background(who: Identity) -> np.ndarray:
    """A wall, lit from the side of the light, with soft blotches."""
    image = np.ones((CANVAS, CANVAS, 3), np.float32) * who.background.astype(np.float32)
    distance = ((COLUMNS - 128 - 60 * who.light[0]) ** 2 + (ROWS - 100) ** 2) / SIZE**2
    image *= enlarge(1.12 - 0.35 * distance)[..., None]
    blotches = who.rng.normal(0, 9, (6, 6)).astype(np.float32)
    image += cv2.resize(blotches, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)[..., None]
    return image


def _strands(who: Identity) -> np.ndarray:
    """Texture of hair around 1: noise smeared along the strands."""
    noise = who.rng.standard_normal((CANVAS // 8, CANVAS), np.float32)
    noise = cv2.GaussianBlur(cv2.resize(noise, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR), (0, 0), 1.0)
    noise /= noise.std()
    return 1 + np.float32(0.16) * noise


def _hair_colour(who: Identity, strands: np.ndarray) -> np.ndarray:
    gloss = np.exp(-(((ROWS - 52 - 0.004 * (COLUMNS - 128 - 40 * who.light[0]) ** 2) / 20) ** 2))
    shade = strands * enlarge(0.72 + 0.55 * gloss)
    return np.clip(who.hair.astype(np.float32) * shade[..., None] + 4, 0, 255).astype(np.float32)


def _hair_behind(image: np.ndarray, who: Identity, hair: np.ndarray) -> None:
    """Long hair, behind the neck."""
    cx, end = CENTRE, [150, 190, 236, 262][who.hair_style]
    half = who.half_width + 13 + who.rng.uniform(-2, 6)
    left = [(-0.5, 0, 36), (-0.9, 0, 62), (-1, 0, 110), (-1, -4, end - 20), (-0.7, 0, end)]
    outline = [(cx + half * share + more, y) for share, more, y in left]
    outline += [(cx - half * share - more, y) for share, more, y in reversed(left)]
    lay(image, rounded(mask_of(outline), 9), hair * 0.72)


def _neck_and_clothes(image: np.ndarray, who: Identity) -> None:
    cx, chin = CENTRE, who.chin
    neck = who.half_width * (0.56 if who.feminine else 0.68)

    def symmetric(*right: tuple[float, float]) -> list[tuple[float, float]]:
        return [(2 * cx - x, y) for x, y in right] + [(x, y) for x, y in reversed(right)]

    throat = symmetric((cx + neck, 150), (cx + neck, 214), (cx + neck + 14, 236))
    lay(image, mask_of(throat, 1.5), who.skin * 0.70)
    shadow = [(cx - neck, 178), (cx - neck, chin + 4), (cx, chin + 15), (cx + neck, chin + 4), (cx + neck, 178)]
    lay(image, mask_of(shadow, 4.0) * 0.55, who.skin * 0.40)
    collar = [(cx - 112, 262), (cx - 96, 238), (cx - neck - 8, 222), (cx, 246)]
    collar += [(cx + neck + 8, 222), (cx + 96, 238), (cx + 112, 262)]
    light = enlarge(0.9 + 0.25 * bump(cx + 50 * who.light[0], 236, 70, 40))[..., None]
    lay(image, mask_of(collar, 1.2), light * who.cloth.astype(np.float32))


def _ears(image: np.ndarray, who: Identity) -> None:
    for side in SIDES:
        x, y = CENTRE + side * (who.half_width + 1), who.eye_y + 9
        angle = np.linspace(0, 6.28, 20)
        ear = points(x + 6.5 * np.cos(angle), y + 15 * np.sin(angle))
        lay(image, mask_of(ear, 0.7), who.skin * 0.80)
        inner = (ear - [x, y]) * 0.5 + [x + side, y]
        lay(image, mask_of(inner, 1.5) * 0.6, who.skin * 0.52)


def _relief(who: Identity) -> np.ndarray:
    """(256, 256) height of the head's surface towards the viewer: an egg with nose, sockets, cheeks, lips and chin."""
    cx, eye_y, nose_y, mouth_y = CENTRE, who.eye_y, who.nose_y, who.mouth_y
    half = np.maximum(who.half_width_at(ROWS), 0.66 * who.half_width)
    across = (COLUMNS - cx) / (1.10 * half)
    down = (ROWS - 126) / (1.12 * np.where(ROWS < 126, 82, who.chin - 126))
    egg = 1 - across * across - 0.72 * down * down
    height = 62 * np.sqrt(0.5 * (egg + np.sqrt(egg * egg + 0.012)))

    along = np.clip((ROWS - eye_y + 6) / (nose_y - eye_y), 0, 1.2)
    ridge = np.exp(-(((COLUMNS - cx) / ((4.6 + 3.2 * along) * who.nose_width)) ** 2))
    height += ridge * (3 + 13 * along**1.4) * np.where(eye_y - 6 > ROWS, 0, 1) / (1 + np.exp((ROWS - nose_y + 1) / 1.6))
    for side in SIDES:
        height += (
            5.0 * bump(cx + side * 9.2 * who.nose_width, nose_y - 3.5, 4.6, 4.2)
            - 7 * bump(cx + side * who.eye_x * 0.96, eye_y - 1, 13.5, 7.5)
            + 3.2 * bump(cx + side * 24, who.brow_y - 2, 17, 7)
            + 4.2 * bump(cx + side * 33, eye_y + 25, 14, 13)
            + 2.2 * bump(cx + side * who.eye_x, eye_y, 8.5, 6)
            - 1.2 * bump(cx + side * 22, mouth_y - 4, 5, 9)
        )
    height += 4 * bump(cx, mouth_y, 20, 10) + 5.5 * bump(cx, who.chin - 10, 15, 9)
    height += -3.2 * bump(cx, mouth_y + 11, 13, 4) - 1.3 * bump(cx, mouth_y - 10, 2.6, 6)
    return cv2.GaussianBlur(height.astype(np.float32), (0, 0), 1.2)


def _light(who: Identity) -> tuple[np.ndarray, np.ndarray]:
    """(256, 256) brightness of the skin (Lambert, with shaded hollows) and its gloss, 0..1."""
    cx = CENTRE
    height = _relief(who)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    facing = 1 / np.sqrt(slope_x * slope_x + slope_y * slope_y + 1)
    light_x, light_y, light_z = who.light
    lit = np.clip((-slope_x * light_x - slope_y * light_y + light_z) * facing, 0, 1)
    shade = 0.54 + 0.60 * lit
    shade *= 1 - 0.30 * (1 - facing) ** 1.5
    gloss = np.clip((-slope_x * light_x * 0.5 - slope_y * light_y * 0.5 + 1) * facing / np.hypot(1, 0.3), 0, 1) ** 40
    lids = bump(cx - who.eye_x, who.eye_y - 6, 13, 5) + bump(cx + who.eye_x, who.eye_y - 6, 13, 5)
    shade *= 1 - 0.20 * bump(cx, who.nose_y + 5, 11, 4) - 0.13 * lids - 0.08 * bump(cx, who.mouth_y + 12, 12, 3.5)
    pores = who.rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    shade += cv2.GaussianBlur(pores, (0, 0), 1.3) * 0.035
    return shade, gloss


def _skin(who: Identity, strands: np.ndarray) -> np.ndarray:
    """(512, 512, 3) colour of the head: light on skin, red cheeks, beard."""
    cx, eye_y = CENTRE, who.eye_y
    shade, gloss = _light(who)
    colour = enlarge(shade)[..., None] * who.skin.astype(np.float32)
    blush = bump(cx - 32, eye_y + 27, 16, 14) + bump(cx + 32, eye_y + 27, 16, 14)
    blush = enlarge(blush + 0.8 * bump(cx, who.nose_y - 4, 10, 7))[..., None]
    colour *= 1 - blush * np.array([-0.02, 0.07, 0.06], np.float32)
    colour += enlarge(gloss)[..., None] * (10 + 14 * who.tone)
    if who.beard > 0:
        share = _beard(who, strands)
        bearded = who.hair.astype(np.float32) * 0.8 * np.clip(enlarge(shade) + 0.1, 0, 1)[..., None]
        colour += (bearded - colour) * np.clip(share * 0.78, 0, 0.8)[..., None]
    return colour


def _beard(who: Identity, strands: np.ndarray) -> np.ndarray:
    """(512, 512) density of the beard: below the cheeks, not on lips or under the nose."""
    edge = who.eye_y + 34 + 10 * (1 - ((COLUMNS - CENTRE) / 46) ** 2)
    below = 1 / (1 + np.exp(-(ROWS - edge) / 4))
    lips = np.clip(1 - 1.0 * bump(CENTRE, who.mouth_y + 0.5, who.mouth_width * 1.12, 6.5), 0, 1)
    lip_hollow = 1 - 0.9 * bump(CENTRE, who.nose_y - 4, 16, 8)
    bristles = 0.8 + 0.2 * np.clip(1 + 3 * (strands - 1), 0, 2)
    return enlarge(below * lips * lip_hollow) * who.beard * bristles


def _nostrils(image: np.ndarray, who: Identity) -> None:
    cx, y, wide = CENTRE, who.nose_y, who.nose_width
    for side in SIDES:
        mask = np.zeros((CANVAS, CANVAS), np.uint8)
        angle = np.linspace(0, 6.28, 16)
        tilt = -0.25 * side * np.cos(angle)
        fill(mask, points(cx + side * 5.6 * wide + 3.1 * np.cos(angle), y + 1.2 + 1.7 * np.sin(angle) + tilt), 255)
        lay(image, cv2.GaussianBlur(mask, (0, 0), 1.6) * 0.85, who.skin * 0.22)
        mask[:] = 0
        wing = [(10.0, -8.0), (13.0, -4.0), (12.4, 0.5), (9.6, 1.8)]
        stroke(mask, [(cx + side * dx * wide, y + dy) for dx, dy in wing], 255, 1.4)
        lay(image, cv2.GaussianBlur(mask, (0, 0), 2.2) * 0.45, who.skin * 0.42)


def _hair_in_front(image: np.ndarray, who: Identity, hair: np.ndarray, strands: np.ndarray) -> None:
    """A cap: the head's top outside, the hairline inside, and its shadow on the forehead."""
    cx, w, uniform = CENTRE, who.half_width, who.rng.uniform
    line, part = 72 + uniform(-6, 8), uniform(-22, 22)
    angle, lift = np.linspace(0, np.pi, 25), uniform(5, 13)
    top = points(cx - (w + 6) * np.cos(angle), 92 - (49 + lift) * np.sin(angle) ** 0.8)
    side_y = who.eye_y + (60 if who.long_haired else 6 if who.feminine else -4)
    # From the right temple over the forehead (entries 5 to 7) to the left one.
    right = [(w + 7, 92.0), (w + 3, side_y), (w - 3, side_y - 4), (w - 7, 102.0), (w - 14, line + 12)]
    forehead = [(26.0, line + 2), (part, line - 4 + (8 if who.feminine else 0)), (-26.0, line + 2)]
    if who.feminine and who.hair_style == 3:  # a fringe
        forehead = [(30.0, line + 18), (part * 0.3, line + 20), (-30.0, line + 18)]
    left = [(-w + 14, line + 12), (-w + 7, 102.0), (-w + 3, side_y - 4), (-w - 3, side_y), (-w - 7, 92.0)]
    hairline = np.array([(cx + x, y) for x, y in right + forehead + left])
    cap = rounded(mask_of(np.concatenate([top, hairline])), 2.6)

    shadow = soften(np.roll(cap, 5 * SUPER, 0), 5) * np.float32(0.35)
    lay(image, np.minimum(shadow, mask_of(who.outline(), 1.0)), who.skin * 0.45)
    soft = cv2.GaussianBlur(cap, (0, 0), 3.0).astype(np.float32)
    frayed = np.clip(np.minimum((soft - 127) * 1.3 + 127 + (strands - 1) * 450, soft * 2.5), 0, 255)
    full = who.feminine or who.hair_style < 2 or uniform() < 0.6
    lay(image, frayed if full else frayed * 0.8, hair)
