"""An excerpt shows the pictures of the whole clip; what is not in the packed form is left alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_clips import write_clip

from shards.excerpt import pictures
from shards.frames import segment_centres
from shards.packed_form import Coding
from shards.transcode import transcode


def shown(data: bytes, numbers: list[int]) -> np.ndarray:
    import decord  # after PyAV: the other way round, PyAV's libvpx does not open

    return decord.VideoReader(io.BytesIO(data), num_threads=1).get_batch(numbers).asnumpy()


@pytest.mark.parametrize(
    ("how", "coding"),
    [
        ({"frames": 100}, Coding()),
        ({"frames": 100, "sound": "aac"}, Coding()),  # pictures and sound take turns in the file
        ({"frames": 20, "times": [0, 1, 5, *range(40, 720, 40)]}, Coding()),
        ({"frames": 90, "size": (150, 96)}, Coding(frame_size=96, frames=90, quantizer=40)),
        ({"frames": 2}, Coding(frame_size=81)),
        ({"frames": 1}, Coding()),
    ],
)
def test_an_excerpt_shows_what_the_clip_shows(how: dict[str, Any], coding: Coding, tmp_path: Path) -> None:
    video = transcode(write_clip(tmp_path / "a.mp4", **how), coding)
    found = pictures(video.data)
    assert found is not None
    assert (len(found), found.width, found.height) == (video.frames, coding.frame_size, coding.frame_size)
    for count in (1, 3, 8, 16):
        numbers = segment_centres(len(found), count).tolist()  # repeats where the clip is short
        assert np.array_equal(shown(found.avi(numbers), list(range(count))), shown(video.data, numbers))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {}),
        ("a.mkv", {}),
        ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("a.mp4", {"codec": "mpeg4", "sound": "aac"}),
    ],
)
def test_other_forms_are_left_alone(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    assert pictures(write_clip(tmp_path / name, **how).read_bytes()) is None


def test_a_clip_that_ends_too_early_is_left_alone(tmp_path: Path) -> None:
    data = transcode(write_clip(tmp_path / "a.mp4"), Coding()).data
    assert pictures(data) is not None
    for length in (0, 7, 8, len(data) // 2, len(data) - 1):
        assert pictures(data[:length]) is None
