"""The audio and the visual feature vector that packing computes for clips that bring none (retrieval)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards import audio, visual
from shards.probe import BadClip
from shards.transcode import sample_indices


@dataclass(frozen=True, kw_only=True)
class Features:
    """What computes the vectors.

    Attributes:
        audio_onnx: a VGGish of the user's; None takes the statistics of the log-mel spectrogram.
        visual_onnx: an image model of the user's; None takes CLIP.
        clip, clip_weights: which CLIP (see `visual.ClipVisual`).
    """

    audio_onnx: Path | None = None
    visual_onnx: Path | None = None
    clip: str = "ViT-L-14-quickgelu"
    clip_weights: str = "openai"

    def settings(self) -> dict[str, Any]:
        """What decides the vectors, for the manifest."""
        return {
            "audio": _digest(self.audio_onnx) if self.audio_onnx else "log-mel mean and deviation",
            "visual": _digest(self.visual_onnx) if self.visual_onnx else visual.describe(self.clip, self.clip_weights),
        }


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
            onnx = self.features.audio_onnx
            self._audio = audio.OnnxAudio(onnx) if onnx else audio.log_mel_statistics
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
            onnx, clip, weights = self.features.visual_onnx, self.features.clip, self.features.clip_weights
            self._visual = visual.OnnxVisual(onnx) if onnx else visual.ClipVisual(clip, weights)
        numbers = np.array(sorted(sampled))
        nearest = numbers[np.abs(numbers[None] - sample_indices(frames, visual.FRAMES)[:, None]).argmin(1)]
        return self._visual(np.stack([sampled[number] for number in nearest.tolist()]))


def _digest(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"expected an ONNX model, found no file {path}")
    return hashlib.sha256(path.read_bytes()).hexdigest()
