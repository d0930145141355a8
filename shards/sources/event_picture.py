"""The picture of the made events: one function per class, from a score and a time to a frame.

Legend: S = `SIDE` pixels; coordinates are in pixels, times in seconds. What moves does so at the score's onsets or at
its speed, so picture and sound tell of the same thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shards.sources.event_score import EVENTS, EventScore

SIDE = 256


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What stays the same through a clip.

    Attributes:
        back: (S, S, 3) uint8 background with clutter.
        ink, second: RGB of the thing and of its parts.
        x, y: centre of the thing.
        scale: size factor of the thing, 0.7 to 1.3.
        grains: (300, 4) numbers in [0, 1) for whatever has many parts.
    """

    back: np.ndarray
    ink: tuple[int, int, int]
    second: tuple[int, int, int]
    x: float
    y: float
    scale: float
    grains: np.ndarray


def frames(score: EventScore, fps: int) -> Iterator[np.ndarray]:
    """The clip's frames, (S, S, 3) uint8 RGB, `fps` a second."""
    import cv2

    scene = _scene(score)
    rng = score.rng(3)
    gain, hand = rng.uniform(0.6, 1.1), rng.uniform(0, 5)
    grain = rng.normal(0, rng.uniform(1, 5), (SIDE, SIDE, 1)).astype(np.int16)
    for number in range(round(score.seconds * fps)):
        t = number / fps
        image = scene.back.copy()
        _DRAWERS[score.event](image, score, scene, t)
        # A camera held by hand, in more or less light, with a sensor's noise.
        shift = np.array([[1, 0, hand * np.sin(2.1 * t)], [0, 1, hand * np.cos(1.7 * t)]], np.float32)
        image = cv2.warpAffine(image, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        noise = np.roll(grain, 37 * number, axis=0)
        yield np.clip(image * gain + noise, 0, 255).astype(np.uint8)


_PLACES = (
    ((150, 140, 125), (170, 110, 60)),  # a hall with a wooden floor
    ((110, 120, 150), (120, 90, 70)),  # a tower
    ((140, 180, 190), (50, 110, 40)),  # a garden
    ((150, 110, 80), (120, 80, 60)),  # a room
    ((60, 30, 60), (80, 30, 30)),  # a stage
    ((150, 150, 150), (80, 80, 80)),  # a road
    ((10, 10, 30), (30, 20, 40)),  # night
    ((90, 100, 115), (70, 80, 90)),  # a grey day
    ((40, 50, 90), (50, 50, 60)),  # a street at dusk
    ((160, 190, 220), (60, 120, 150)),  # a shore
)
"""Typical colours above and below, by class."""


def _scene(score: EventScore) -> Scene:
    import cv2

    rng = score.rng(2)
    # Things tend to be found in places of their own (most rain is grey, most fireworks are at night), but not always.
    place = score.event if rng.uniform() < 0.75 else int(rng.integers(len(EVENTS)))
    top, bottom = (np.clip(np.array(colour) + rng.normal(0, 30, 3), 0, 255) for colour in _PLACES[place])
    ramp = np.linspace(0, 1, SIDE)[:, None, None]
    back = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (SIDE, SIDE, 3)).astype(np.uint8).copy()
    for _ in range(int(rng.integers(0, 6))):
        colour = tuple(int(c) for c in rng.uniform(20, 220, 3))
        x, y = (int(v) for v in rng.uniform(0, SIDE, 2))
        w, h = (int(v) for v in rng.uniform(10, 70, 2))
        if rng.uniform() < 0.5:
            cv2.rectangle(back, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.ellipse(back, (x, y), (w // 2, h // 2), 0, 0, 360, colour, -1)
    back = cv2.GaussianBlur(back, (0, 0), float(rng.uniform(1, 4)))
    # The thing stands out against what is behind it: light on dark or dark on light.
    bright = back.mean() < 110
    ink = rng.uniform(150, 250, 3) if bright else rng.uniform(10, 110, 3)
    return Scene(
        back=back,
        ink=_colour(ink),
        second=_colour(rng.uniform(30, 240, 3)),
        x=float(rng.uniform(0.3, 0.7) * SIDE),
        y=float(rng.uniform(0.4, 0.65) * SIDE),
        scale=float(0.7 + 0.6 * score.size),
        grains=rng.uniform(size=(300, 4)),
    )


def _colour(rgb: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(rgb, 0, 255))
    return red, green, blue


def _since(score: EventScore, t: float) -> tuple[float, int]:
    """Seconds since the last onset (large before the first) and how many there were."""
    passed = int(np.searchsorted(score.onsets, t, side="right"))
    return (t - float(score.onsets[passed - 1]) if passed else 9.0), passed


def _circle(image: np.ndarray, x: float, y: float, radius: float, colour: tuple[int, int, int], line: int = -1) -> None:
    import cv2

    cv2.circle(image, (int(x), int(y)), max(1, int(radius)), colour, line, cv2.LINE_AA)


def _line(
    image: np.ndarray, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, int, int], width: float
) -> None:
    import cv2

    first, last = (int(start[0]), int(start[1])), (int(end[0]), int(end[1]))
    cv2.line(image, first, last, colour, max(1, int(width)), cv2.LINE_AA)


def _polygon(image: np.ndarray, points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
    import cv2

    cv2.fillPoly(image, [np.array(points, np.int32)], colour, cv2.LINE_AA)


def _ball(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    floor, radius = 0.85 * SIDE, 22 * scene.scale
    _polygon(image, [(0, floor + radius), (SIDE, floor + radius), (SIDE, SIDE), (0, SIDE)], scene.second)
    since, passed = _since(score, t)
    if passed == 0:
        height = 120 * max(0.0, 1 - (t / max(score.onsets[0], 0.05)) ** 2) if len(score.onsets) else 0.0
    elif passed < len(score.onsets):
        flight = float(score.onsets[passed] - score.onsets[passed - 1])
        height = 480 * flight**2 * 4 * (since / flight) * (1 - since / flight)
    else:
        height = 0.0
    _circle(image, scene.x + 25 * (t - 1), floor - min(height, 200), radius, scene.ink)
    _circle(
        image, scene.x + 25 * (t - 1) - radius / 3, floor - min(height, 200) - radius / 3, radius / 4, (240, 240, 240)
    )


def _bell(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    phase = np.pi * score.speed * (t - (score.onsets[0] if len(score.onsets) else 0)) + np.pi / 2
    angle = 0.6 * np.sin(phase)
    hook, s = np.array([scene.x, scene.y - 70]), scene.scale
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    outline = np.array([(-10, 10), (10, 10), (24, 50), (32, 85), (45, 100), (-45, 100), (-32, 85), (-24, 50)]) * s
    _polygon(image, [tuple(hook + turn @ point) for point in outline], scene.ink)
    clapper = hook + turn @ (np.array([-20 * np.sin(phase), 108]) * s)
    _circle(image, clapper[0], clapper[1], 10 * s, scene.second)
    _line(image, (0, hook[1]), (SIDE, hook[1]), scene.second, 6)


def _birds(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    since, _ = _since(score, t)
    branch = scene.y + 40
    _line(image, (0, branch + 10), (SIDE, branch - 10), scene.second, 7)
    for number in range(1 + int(3 * scene.grains[0, 0])):
        x = (scene.x + 70 * number) % SIDE
        body = 20 * scene.scale
        y = branch - body - (8 * np.exp(-since / 0.08) if number == 0 else 0)
        _circle(image, x, y, body, scene.ink)
        _circle(image, x + body, y - body, 0.6 * body, scene.ink)
        gape = 7 * np.exp(-since / 0.06) if number == 0 else 0
        beak = [
            (x + 1.5 * body, y - 1.2 * body - gape),
            (x + 2.2 * body, y - body),
            (x + 1.5 * body, y - 0.8 * body + gape),
        ]
        _polygon(image, beak, (230, 160, 30))
        _line(image, (x - body, y), (x - 2.2 * body, y + body * 0.6), scene.ink, 5)


def _clock(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    _, passed = _since(score, t)
    radius = 62 * scene.scale
    _circle(image, scene.x, scene.y, radius, scene.second)
    _circle(image, scene.x, scene.y, radius, scene.ink, 6)
    for hour in range(12):
        c, s = np.cos(hour * np.pi / 6), np.sin(hour * np.pi / 6)
        start, end = (
            (scene.x + 0.8 * radius * c, scene.y + 0.8 * radius * s),
            (scene.x + 0.93 * radius * c, scene.y + 0.93 * radius * s),
        )
        _line(image, start, end, scene.ink, 3)
    hand = 2 * np.pi * (scene.grains[0, 0] + passed / 30)
    hour = 2 * np.pi * scene.grains[0, 1]
    _line(
        image,
        (scene.x, scene.y),
        (scene.x + 0.75 * radius * np.cos(hand), scene.y + 0.75 * radius * np.sin(hand)),
        scene.ink,
        3,
    )
    _line(
        image,
        (scene.x, scene.y),
        (scene.x + 0.5 * radius * np.cos(hour), scene.y + 0.5 * radius * np.sin(hour)),
        scene.ink,
        6,
    )


def _drum(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    import cv2

    since, passed = _since(score, t)
    w, h = 60 * scene.scale, 20 * scene.scale
    x, y = scene.x, scene.y + 10
    _polygon(image, [(x - w, y), (x + w, y), (x + 0.9 * w, y + 3 * h), (x - 0.9 * w, y + 3 * h)], scene.ink)
    skin = y + 4 * np.exp(-since / 0.05)
    cv2.ellipse(image, (int(x), int(skin)), (int(w), int(h)), 0, 0, 360, (225, 220, 205), -1, cv2.LINE_AA)
    for side, turn in ((-1, passed % 2), (1, 1 - passed % 2)):
        lift = 70 * min(1.0, since / 0.12) if turn else 70
        tip = (x + side * 0.35 * w, skin - lift)
        _line(image, (tip[0] + side * 75, tip[1] - 55), tip, scene.second, 5)
        _circle(image, tip[0], tip[1], 6, scene.second)


def _engine(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    s, angle = scene.scale, 2 * np.pi * score.speed * t
    x, y = scene.x, scene.y + 20 + 2 * np.sin(40 * t)
    _polygon(
        image,
        [
            (x - 80 * s, y - 40 * s),
            (x + 60 * s, y - 40 * s),
            (x + 85 * s, y),
            (x + 85 * s, y + 25 * s),
            (x - 80 * s, y + 25 * s),
        ],
        scene.ink,
    )
    for wheel in (-45, 50):
        cx, cy, radius = x + wheel * s, y + 30 * s, 26 * s
        _circle(image, cx, cy, radius, (25, 25, 25))
        for spoke in range(5):
            turn = angle + spoke * 2 * np.pi / 5
            _line(
                image,
                (cx, cy),
                (cx + 0.8 * radius * np.cos(turn), cy + 0.8 * radius * np.sin(turn)),
                (200, 200, 200),
                3,
            )
    for puff in range(4):
        age = (t * score.speed + puff / 4) % 1
        _circle(image, x - (85 + 70 * age) * s, y + 15 * s - 35 * age, 5 + 16 * age, (150, 150, 150))


def _fireworks(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    for number, onset in enumerate(score.onsets):
        age = t - float(onset)
        cx = SIDE * (0.2 + 0.6 * scene.grains[number, 0])
        cy = SIDE * (0.15 + 0.4 * scene.grains[number, 1])
        if -0.4 < age < 0:
            _line(image, (cx, cy - 350 * age), (cx, cy - 350 * age + 18), (255, 220, 150), 3)
        if not 0 <= age < 1.2:
            continue
        light = max(0.0, 1 - age / 1.2)
        hue = scene.grains[number, 2]
        colour = _colour(light * (130 + 125 * np.cos(2 * np.pi * (hue + np.arange(3) / 3))))
        reach = 100 * scene.scale * (1 - np.exp(-4 * age))
        for spark in range(36):
            a, r = 2 * np.pi * spark / 36, reach * (0.5 + 0.5 * scene.grains[spark, 3])
            _circle(image, cx + r * np.cos(a), cy + r * np.sin(a) + 30 * age**2, 1 + 3 * light, colour)


def _rain(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    length, speed = 14 + 18 * scene.scale, 260 + 120 * score.speed
    slant = 0.35 * (scene.grains[0, 3] - 0.5)
    for x, y, depth, _ in scene.grains[: 90 + int(150 * scene.grains[1, 0])]:
        top = (y * SIDE * 1.3 + speed * (0.6 + 0.6 * depth) * t) % (SIDE * 1.3) - 40
        left = (x * SIDE * 1.2 + slant * top) % (SIDE * 1.2) - 20
        _line(
            image,
            (left, top),
            (left + slant * length, top + length * (0.5 + 0.5 * depth)),
            (190, 200, 215),
            1 + int(2 * depth),
        )


def _siren(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    import cv2

    x, y, s = scene.x, scene.y + 20, scene.scale
    turn = 2 * np.pi * 2 * score.speed * t
    _polygon(
        image,
        [(x - 50 * s, y + 40 * s), (x + 50 * s, y + 40 * s), (x + 42 * s, y + 15 * s), (x - 42 * s, y + 15 * s)],
        (60, 60, 65),
    )
    lamp = (40, 70, 230) if scene.grains[0, 0] < 0.5 else (230, 40, 40)
    beam = np.zeros_like(image)
    for half in (0.0, np.pi):
        reach, spread = 260 * abs(np.cos(turn + half)) + 30, 50
        end = x + np.sign(np.cos(turn + half)) * reach
        _polygon(beam, [(x, y - 10 * s), (end, y - 10 * s - spread), (end, y - 10 * s + spread)], lamp)
    image[:] = cv2.add(image, (beam * 0.6).astype(np.uint8))
    cv2.ellipse(image, (int(x), int(y + 15 * s)), (int(36 * s), int(48 * s)), 0, 180, 360, lamp, -1, cv2.LINE_AA)
    _circle(image, x + 14 * s * np.sin(turn), y - 8 * s, 9 * s, (255, 245, 235))


def _waves(image: np.ndarray, score: EventScore, scene: Scene, t: float) -> None:
    x = np.linspace(0, SIDE, 33)
    for row in range(5):
        base = SIDE * (0.45 + 0.12 * row)
        swell = 10 * scene.scale * (1 + np.sin(2 * np.pi * score.speed * t + row))
        y = base - swell * np.sin(x / (22 + 5 * row) + 2.2 * score.speed * 2 * t + 7 * scene.grains[row, 0])
        deep = 1 - 0.13 * row
        water = _colour(deep * np.array([60 + 60 * scene.grains[0, 1], 120 + 40 * scene.grains[0, 2], 190]))
        _polygon(image, [*zip(x, y), (SIDE, SIDE), (0, SIDE)], water)
        for left in range(0, 32, 2):
            _line(image, (x[left], y[left]), (x[left + 1], y[left + 1]), (225, 235, 240), 2)


_DRAWERS = (_ball, _bell, _birds, _clock, _drum, _engine, _fireworks, _rain, _siren, _waves)
assert len(_DRAWERS) == len(EVENTS)
