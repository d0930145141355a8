"""The audio and the visual feature vector that packing computes for clips that bring none (retrieval).

What made the vectors is kept in the manifest (`packing.audio`, `packing.visual`): vectors of the same width may come from
different models, log-mel statistics and VGGish for one, and must not be mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards import audio, visual
from shards.checksum import sha256_of
from shards.frames import segment_centres
from shards.probe import BadClip

LOG_MEL = "log-mel mean and deviation"
"""What made audio vectors without any model."""
GIVEN = "given"
"""Vectors came with the source: files, or vegas_feature.h5. Nobody knows what made them."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """What computes the vectors.

    Attributes:
        audio_onnx: a VGGish of the user's; None takes the statistics of the log-mel spectrogram.
        visual_onnx: an image model of the user's; None takes CLIP.
        clip, clip_weights: which CLIP (see `visual.ClipVisual`).
        given: modalities (`audio`, `visual`) whose vectors the source brings itself.
    """

    audio_onnx: Path | None = None
    visual_onnx: Path | None = None
    clip: str = "ViT-L-14-quickgelu"
    clip_weights: str = "openai"
    given: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """What decides the vectors, for the manifest."""
        made = {
            "audio": digest(self.audio_onnx) if self.audio_onnx else LOG_MEL,
            "visual": digest(self.visual_onnx) if self.visual_onnx else visual.describe(self.clip, self.clip_weights),
        }
        return {kind: GIVEN if kind in self.given else what for kind, what in made.items()}

    def check(self) -> None:
        """Load each model once, before the first clip: a model that is missing would cost every single one.

        Raises:
            FileNotFoundError, ValueError: with the option that names it.
        """
        if "audio" not in self.given:
            self.audio_model()
        if "visual" not in self.given:
            self.visual_model()

    def audio_model(self) -> Callable[[np.ndarray], np.ndarray]:
        """What makes a vector of 16 kHz sound."""
        return audio.OnnxAudio(self.audio_onnx) if self.audio_onnx else audio.log_mel_statistics

    def visual_model(self) -> Callable[[np.ndarray], np.ndarray]:
        """What makes a vector of (T, H, W, 3) frames."""
        return (
            visual.OnnxVisual(self.visual_onnx) if self.visual_onnx else visual.ClipVisual(self.clip, self.clip_weights)
        )


def described(packing: Mapping[str, Any]) -> dict[str, str]:
    """What made the vectors of packed clips, by modality.

    Args:
        packing: the part of that name of a manifest.
    """
    return {kind: str(packing.get(kind, GIVEN)) for kind in ("audio", "visual")}


class Extractor:
    """Holds a worker's networks; each loads when it is first needed."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self._audio: Callable[[np.ndarray], np.ndarray] | None = None
        self._visual: Callable[[np.ndarray], np.ndarray] | None = None

    def audio(self, video: Path, start: float | None = None, end: float | None = None) -> np.ndarray:
        """The vector of a file's sound.

        Args:
            start, end: seconds of a cut.

        Raises:
            BadClip: no sound, or it does not decode.
        """
        if self._audio is None:
            self._audio = self.features.audio_model()
        try:
            wave = audio.decode_sound(video, start=start, end=end)
        except audio.NoSound as error:
            raise BadClip("no sound", f"{error}: {video}") from error
        except ValueError as error:
            raise BadClip("undecodable sound", f"{error}: {video}") from error
        return self._audio(wave)

    def visual(self, sampled: dict[int, np.ndarray], frames: int) -> np.ndarray:
        """The vector of a clip's pictures.

        Args:
            sampled: frame number → (H, W, 3) uint8 RGB, some of the clip's frames.
            frames: number of frames of the clip; of the centres of 8 segments the nearest sampled frames are taken.
        """
        if self._visual is None:
            self._visual = self.features.visual_model()
        numbers = np.array(sorted(sampled))
        nearest = numbers[np.abs(numbers[None] - segment_centres(frames, visual.FRAMES)[:, None]).argmin(1)]
        return self._visual(np.stack([sampled[number] for number in nearest.tolist()]))


def digest(path: Path) -> str:
    """SHA-256 of a model's file, by which it is told from others."""
    if not path.is_file():
        raise FileNotFoundError(f"expected an ONNX model, found no file {path}")
    return sha256_of(path)
