"""Questions from outside of an index: the sound of a file, or a feature vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vadv.retrieval.folder import open_students
from vadv.retrieval.index import Index


def vector_of(
    index: Index, students: Path | None, modality: str, *, video: Path | None = None, file: Path | None = None
) -> np.ndarray:
    """(C,) vector of something that is not in the index.

    Args:
        index: whose students are used by default.
        students: another folder of them.
        modality: audio or visual, of what is asked.
        video: a file with sound; its log-mel statistics are taken, so students of other audio features cannot hear it.
        file: a .npy file of one feature vector.

    Raises:
        ValueError, FileNotFoundError: no sound, a wrong width, or no such file.
    """
    opened = open_students(students or index.students)
    if file is not None:
        from shards.sources.vegas import read_vector

        features = read_vector(file)
    else:
        from shards.audio import WIDTH, decode_sound, log_mel_statistics

        assert video is not None
        if modality != "audio":
            raise ValueError("--video: expected --ask audio, found visual; give the picture's features with --vector")
        if opened.widths["audio"] != WIDTH:
            raise ValueError(
                f"--video: expected students of {WIDTH} log-mel statistics, found {opened.widths['audio']} audio "
                "features; give the clip's own with --vector"
            )
        if not video.is_file():
            raise FileNotFoundError(f"--video: expected a file, found none at {video}")
        features = log_mel_statistics(decode_sound(video))
    return np.asarray(opened.project(modality, features[None])[0])
