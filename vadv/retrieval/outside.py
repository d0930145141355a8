"""Questions from outside of an index: the sound of a file, or a feature vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vadv.retrieval.folder import open_students
from vadv.retrieval.index import Index


def vector_of(
    index: Index,
    students: Path | None,
    modality: str,
    *,
    video: Path | None = None,
    file: Path | None = None,
    audio_onnx: Path | None = None,
) -> np.ndarray:
    """(C,) vector of something that is not in the index.

    Args:
        index: whose students are used by default.
        students: another folder of them.
        modality: audio or visual, of what is asked.
        video: a file with sound.
        file: a .npy file of one feature vector.
        audio_onnx: the model that made the students' audio vectors, if one did.

    Raises:
        ValueError, FileNotFoundError: no sound, other vectors than the students know, a wrong width, or no such file.
    """
    opened = open_students(students or index.students)
    if file is not None:
        from shards.sources.vegas import read_vector

        features = read_vector(file)
    else:
        assert video is not None
        if modality != "audio":
            raise ValueError("--video: expected --ask audio, found visual; give the picture's features with --vector")
        if not video.is_file():
            raise FileNotFoundError(f"--video: expected a file, found none at {video}")
        features = _sound(video, opened.features["audio"], audio_onnx)
    return np.asarray(opened.project(modality, features[None])[0])


def _sound(video: Path, known: str, onnx: Path | None) -> np.ndarray:
    """The audio vector of a file, made as those that the students know: the width alone does not tell."""
    from shards.audio import decode_sound
    from shards.features import GIVEN, LOG_MEL, Features

    if known == GIVEN:
        raise ValueError(
            "--video: expected students of vectors that packing computed, found some that came with their clips; "
            "give this file's own with --vector"
        )
    features = Features(audio_onnx=onnx)
    if features.settings()["audio"] != known:
        wanted = "none" if known == LOG_MEL else f"the model whose SHA-256 is {known}"
        raise ValueError(f"--audio-onnx: expected {wanted}, as the students were trained with, found {onnx or 'none'}")
    return features.audio_model()(decode_sound(video))
