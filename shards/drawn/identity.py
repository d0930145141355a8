"""Who is drawn: the traits that stay the same in all clips of one speaker, drawn at random from a seed."""

from __future__ import annotations

import numpy as np

from shards.drawn.canvas import SIZE

LIGHT_SKIN = np.array([236, 196, 170])
DARK_SKIN = np.array([128, 86, 62])
HAIR_COLOURS = [
    (38, 28, 24),
    (62, 42, 30),
    (98, 66, 40),
    (150, 112, 66),
    (196, 164, 110),
    (120, 62, 34),
    (150, 148, 146),
]
HAIR_CHANCES_LIGHT = [0.24, 0.22, 0.18, 0.12, 0.08, 0.08, 0.08]
HAIR_CHANCES_DARK = [0.6, 0.25, 0.05, 0.02, 0.01, 0.02, 0.05]
IRIS_COLOURS = [(70, 46, 30), (96, 66, 38), (70, 104, 140), (84, 112, 80), (104, 112, 116)]
BEARDS = [0, 0, 0.35, 0.7, 0.95]

CENTRE = 128.0
"""The head's middle in x; it is drawn upright and moved afterwards."""


class Identity:
    """Traits of a drawn person. Lengths and positions are in pixels of a 256 x 256 picture, colours RGB 0..255."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        uniform = rng.uniform
        self.tone = tone = uniform(0, 1) ** 1.6
        """0 is the lightest skin, 1 the darkest."""
        self.skin = LIGHT_SKIN * (1 - tone) + DARK_SKIN * tone + uniform(-8, 8)
        chances = HAIR_CHANCES_LIGHT if tone < 0.6 else HAIR_CHANCES_DARK
        self.hair = np.array(HAIR_COLOURS[rng.choice(len(HAIR_COLOURS), p=chances)], float)
        self.iris = IRIS_COLOURS[rng.integers(5) if tone < 0.5 else rng.integers(2)]
        self.feminine = rng.random() < 0.5
        self.hair_style = int(rng.integers(4) if self.feminine else rng.integers(3))
        self.beard = 0.0 if self.feminine else float(rng.choice(BEARDS))
        """Density of the beard."""
        self.glasses = rng.random() < 0.22

        self.half_width = 54 * uniform(0.94, 1.06)
        self.chin = 204 + uniform(-4, 5)
        self.jaw = uniform(0.50, 0.66) + (0.0 if self.feminine else -0.06)
        """Exponent of the jaw's curve: smaller is squarer."""
        self.eye_y = 124 + uniform(-2, 2)
        self.eye_x = 25 * uniform(0.96, 1.06)
        """From the head's middle."""
        self.eye_width = 12.8 * uniform(0.94, 1.1)
        self.eye_height = uniform(0.9, 1.12)
        """Factor."""
        self.nose_y = 158 + uniform(-2.5, 2.5)
        self.nose_width = uniform(0.88, 1.2)
        """Factor."""
        self.mouth_y = self.nose_y + 18 + uniform(-1, 1.5)
        self.mouth_width = 20.5 * uniform(0.93, 1.08)
        self.lips = uniform(0.85, 1.3) + (0.1 if self.feminine else 0)
        """Factor of their thickness."""
        self.brow_y = self.eye_y - 17 + uniform(-1.5, 1.5)
        self.brow_width = uniform(0.8, 1.1) if self.feminine else uniform(1.0, 1.45)
        rouge = uniform(5, 22) if self.feminine else 0
        self.lip_colour = self.skin * np.array([0.86, 0.60, 0.60]) + rouge * np.array([1, -0.5, -0.2])

        light = np.array([uniform(-0.45, 0.45), -uniform(0.35, 0.6), 1.0])
        self.light: list[float] = (light / np.linalg.norm(light)).tolist()
        """Direction to the light: x, y, towards the viewer."""
        self.background = uniform(60, 205, 3) * 0.4 + uniform(70, 190) * 0.6
        self.cloth = uniform(20, 200, 3)
        self.grain = [rng.integers(0, 9, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(4)]
        """Camera noise, used in turn."""

    @property
    def long_haired(self) -> bool:
        return self.feminine and self.hair_style > 0

    def half_width_at(self, y: np.ndarray) -> np.ndarray:
        """Half the head's width at height y."""
        above = np.clip((124 - y) / 80, 0, 1)
        below = np.clip((y - 124) / (self.chin - 124), 0, 1)
        return self.half_width * np.where(y < 124, np.sqrt(1 - above**2.3), (1 - below**2.5) ** self.jaw)

    def outline(self) -> np.ndarray:
        """(n, 2) the head's outline, denser where it bends."""
        crown = np.linspace(44, 70, 14)[:-1]
        cheeks = np.linspace(70, self.chin - 6, 30)
        tip = np.linspace(self.chin - 6, self.chin, 8)[1:]
        y = np.concatenate([crown, cheeks, tip])
        half = self.half_width_at(y)
        right = np.stack([CENTRE + half, y], axis=1)
        left = np.stack([CENTRE - half, y], axis=1)
        return np.concatenate([right, left[::-1]])
