"""The packed form of a clip, from every form that clips come in."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_clips import corrupt, picture, write_clip, write_no_frames, write_sound_only
from hypothesis import given
from hypothesis import strategies as st

from shards.frames import segment_centres, show, view
from shards.packed_form import Coding, stored_frames
from shards.probe import BadClip, probe
from shards.transcode import transcode

CODING = Coding()


def decoded(data: bytes) -> tuple[list[np.ndarray], list[float]]:
    """Frames and times of a clip in memory."""
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]


GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": ("a.mp4", {}),
    "hevc": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=error"}}),
    "10 bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "4:4:4, odd size": ("a.mp4", {"pix_fmt": "yuv444p", "size": (97, 65)}),
    "rgb": ("a.mp4", {"codec": "libx264rgb", "pix_fmt": "rgb24"}),
    "full range": ("a.mp4", {"pix_fmt": "yuvj420p"}),
    "vp9 in webm": ("a.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
    "mpeg-4 in avi": ("a.avi", {"codec": "mpeg4"}),
    "matroska with mp3": ("a.mkv", {"sound": "libmp3lame"}),
    "sound": ("a.mp4", {"sound": "aac"}),
    "0.1 s": ("a.mp4", {"frames": 3, "fps": 30}),
    "one frame": ("a.mp4", {"frames": 1}),
    "tall": ("a.mp4", {"size": (270, 480)}),
    "an id like an option": ("-x_1.mp4", {}),
    "a name like an address": ("http:a.mp4", {}),
    "a name in other letters": ("日本語 😀.mp4", {}),
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_clips_of_any_form_get_the_packed_form(kind: str, tmp_path: Path) -> None:
    name, how = GOOD[kind]
    path = write_clip(tmp_path / name, **how)
    video = transcode(path, CODING)
    packed = tmp_path / "packed.mp4"
    packed.write_bytes(video.data)
    facts = probe(packed)
    frames, _ = decoded(video.data)
    assert video.frames == len(frames) == how.get("frames", 12)
    assert not video.kept
    assert (facts.codec, facts.pix_fmt) == ("mjpeg", "yuvj444p")
    assert facts.width == facts.height == CODING.frame_size
    assert facts.sound == bool(how.get("sound"))
    assert set(video.indices.tolist()) == set(video.sampled)
    width, height = how.get("size", (96, 64))
    expected = view(picture(len(frames) // 2, width, height), CODING.frame_size).mean((0, 1))
    assert np.abs(frames[len(frames) // 2].mean((0, 1)) - expected).max() < 8


def test_a_packed_clip_keeps_its_bytes(tmp_path: Path) -> None:
    video = transcode(write_clip(tmp_path / "a.mp4"), CODING)
    (tmp_path / "b.mp4").write_bytes(video.data)
    again = transcode(tmp_path / "b.mp4", CODING)
    assert again.kept
    assert again.data == video.data


def test_keep_mode_keeps_the_source(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", size=(640, 360))
    video = transcode(path, Coding(mode="keep"))
    assert video.kept
    assert video.extension == "mkv"
    assert video.data == path.read_bytes()


def test_variable_frame_rate_stays(tmp_path: Path) -> None:
    times = [0, 40, 90, 100, 400, 410, 900, 1000]
    path = write_clip(tmp_path / "a.mp4", frames=8, times=times, size=(480, 360))
    video = transcode(path, CODING)
    _, found = decoded(video.data)
    assert np.allclose(np.array(found) * 1000, times, atol=1)
    assert video.fps == pytest.approx(7, rel=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_clips_are_turned(rotation: int, tmp_path: Path) -> None:
    video = transcode(write_clip(tmp_path / "a.mp4", rotation=rotation), CODING)
    upright = np.rot90(picture(0, 96, 64), rotation // 90)
    for frame, expected in ((decoded(video.data)[0][0], view(upright, 224)), (video.sampled[0], upright)):
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected).mean() < 12


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(3, 4)])
def test_pixels_become_square(aspect: Fraction, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", size=(96, 64), aspect=aspect)
    frame = decoded(transcode(path, CODING).data)[0][0].astype(int)
    square, stretched = (np.abs(frame - view(picture(0, 96, 64), 224, each)).mean() for each in (float(aspect), 1))
    assert square < stretched / 2


def test_a_cut_takes_its_seconds_and_their_sound(tmp_path: Path) -> None:
    import av

    path = write_clip(tmp_path / "a.mp4", frames=50, sound="aac")
    video = transcode(path, CODING, start=1.0, end=3.0)
    assert video.frames == 20
    assert not video.kept
    shown = decoded(video.data)[0][0].astype(int)
    assert np.abs(shown - view(picture(10, 96, 64), 224)).mean() < 12
    with av.open(io.BytesIO(video.data)) as container:
        sound = sum(frame.samples for frame in container.decode(audio=0)) / 16000
    assert sound == pytest.approx(2.0, abs=0.15)


def test_a_cut_beyond_the_end_has_no_frames(tmp_path: Path) -> None:
    with pytest.raises(BadClip, match="no frames"):
        transcode(write_clip(tmp_path / "a.mp4"), CODING, start=5.0, end=6.0)


def test_a_five_minute_clip_is_sampled_in_bounded_memory(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=1500, fps=5, size=(64, 48), options={"preset": "ultrafast"})
    video = transcode(path, CODING)
    assert video.duration == pytest.approx(300, rel=1e-3)
    assert len(video.sampled) == 64
    assert (video.frames, video.decoded) == (64, 1500)
    times = decoded(video.data)[1]
    assert times == pytest.approx((stored_frames(1500, 64) / 5).tolist(), abs=1e-3)


def test_sound_that_does_not_decode_costs_no_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=30, sound="libmp3lame")
    data = path.read_bytes()
    start = data.rindex(b"LAME")  # inside the sound's packets
    path.write_bytes(data[: start - 40] + b"\0" * 80 + data[start + 40 :])
    assert transcode(path, CODING).frames == 30


def test_a_file_that_lacks_frames_it_declares_is_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=40, options={"x264-params": "keyint=1"})
    data = path.read_bytes()
    index = data.rindex(b"moov") - 4
    # The index first, as streaming services write it, then half of the pictures.
    whole = write_clip(tmp_path / "b.mkv", frames=40)
    assert transcode(whole, CODING).decoded == 40
    path.write_bytes(data[:index][: index // 2] + data[index:])
    with pytest.raises(BadClip, match=r"^(undecodable|unreadable): "):
        transcode(path, CODING)


def broken(kind: str, folder: Path) -> Path:
    path = folder / "a.mp4"
    if kind == "missing":
        return path
    if kind == "empty file":
        path.write_bytes(b"")
    elif kind == "no video":
        write_sound_only(path)
    elif kind == "no frames":
        write_no_frames(path)
    elif kind == "black":
        write_clip(path, black=True)
    elif kind == "corrupt header":
        corrupt(write_clip(path), 0, 0.02)
    elif kind == "truncated":
        write_clip(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "text":
        path.write_text("this is not a video\n" * 40)
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif kind == "playlist":
        write_clip(folder / "secret.ts", codec="mpeg2video")
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{folder / 'secret.ts'}\n#EXT-X-ENDLIST\n")
    elif kind == "a folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("missing", "missing"),
        ("a folder", "missing"),
        ("empty file", "empty file"),
        ("no video", "no video"),
        ("no frames", "no (frames|video)"),
        ("black", "black"),
        ("corrupt header", "unreadable"),
        ("truncated", "unreadable"),
        ("text", "unreadable"),
        ("random", "unreadable"),
        ("playlist", "unreadable"),
    ],
)
def test_broken_clips_are_told_by_their_cause(kind: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(BadClip, match=f"^{cause}: [^\n]+$"):
        transcode(broken(kind, tmp_path), CODING)


def test_a_clip_with_damaged_frames_is_packed_or_told(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4", frames=60, size=(320, 240))
    outcomes = set()
    for seed in range(12):
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(good.read_bytes())
        corrupt(path, 0.3 + 0.02 * seed, 0.34 + 0.02 * seed, seed)
        try:
            video = transcode(path, CODING)
            assert len(decoded(video.data)[0]) == video.frames
            outcomes.add("packed")
        except BadClip as error:
            outcomes.add(error.cause)
    assert outcomes <= {"packed", "undecodable", "unreadable"}


def test_the_same_clip_gives_the_same_bytes_whatever_memory_holds(tmp_path: Path) -> None:
    """Encoders may read memory that they have not set (x264 does); glibc can fill memory with a pattern."""
    path = write_clip(tmp_path / "a.mp4", frames=40, size=(190, 142), pix_fmt="yuv444p", sound="aac")
    code = (
        "import sys, hashlib; from pathlib import Path; from shards.packed_form import Coding; from shards.transcode import transcode;"
        "print(hashlib.sha256(transcode(Path(sys.argv[1]), Coding()).data).hexdigest())"
    )
    found = set()
    for fill in ("0", "1", "170"):
        environment = {**os.environ, "MALLOC_PERTURB_": fill}
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, check=True, timeout=120
        )
        found.add(done.stdout)
    assert len(found) == 1


@given(st.integers(0, 5000), st.integers(1, 70))
def test_stored_frames_are_spread_evenly(frames: int, most: int) -> None:
    numbers = stored_frames(frames, most)
    assert len(numbers) == min(frames, most)
    assert (np.diff(numbers) >= max(1, frames // most)).all()
    assert (numbers == [number * frames // max(1, len(numbers)) for number in range(len(numbers))]).all()


@given(st.integers(1, 5000), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_the_frames_that_are_shown_are_stored(frames: int, shown: int) -> None:
    """The centres of T segments are the same frames in the packed clip as in its source, when 2 T divides 64."""
    stored = stored_frames(frames, 64)
    assert stored[segment_centres(len(stored), shown)].tolist() == segment_centres(frames, shown).tolist()


@pytest.mark.parametrize(
    "how",
    [{}, {"matrix": 1}, {"size": (406, 722)}, {"size": (90, 48)}, {"pix_fmt": "yuvj420p"}, {"pix_fmt": "yuv444p"}],
)
def test_a_packed_clip_is_seen_as_its_source_is(how: dict[str, Any], tmp_path: Path) -> None:
    """What training sees of the packed clip is what it would see of the source, to 40 dB."""
    import decord  # after PyAV: the other way round, PyAV's libvpx does not open

    path = write_clip(tmp_path / "a.mp4", **{"frames": 100, "size": (640, 360), "options": {"crf": "10"}, **how})

    def seen(data: bytes) -> np.ndarray:
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        views = np.empty((16, 3, 224, 224), np.uint8)
        show(reader.get_batch(segment_centres(len(reader), len(views))).asnumpy(), views)
        return views.astype(float)

    packed = transcode(path, CODING).data
    error = np.square(seen(path.read_bytes()) - seen(packed)).mean((1, 2, 3))
    assert (10 * np.log10(255**2 / error) > 40).all()


@given(st.integers(1, 5000), st.integers(1, 100))
def test_sampled_frames_are_centres_of_segments(frames: int, wanted: int) -> None:
    indices = segment_centres(frames, wanted)
    assert len(indices) == wanted
    assert (np.diff(indices) >= 0).all()
    assert (indices >= 0).all()
    assert (indices < frames).all()
    assert indices.tolist() == [int((i + 0.5) * frames / wanted + 1e-9) for i in range(wanted)]


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"quantizer": 300}, {"frame_size": 3}])
def test_wrong_codings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Coding(**wrong)  # type: ignore[arg-type]
