"""Frames are the ones asked for, and look as open_clip's own transform makes them."""

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_shards import clip, meta, npy, write_tar

from shards.frames import sample_key, segment_centres, segment_random, show
from shards.sample import BadSample, is_container, parse_array, parse_meta, video_suffix


@given(st.integers(1, 500), st.integers(1, 64))
def test_centres(total, count):
    frames = segment_centres(total, count)
    assert frames.tolist() == [int(i * total / count + total / (2 * count) + 1e-9) for i in range(count)]
    assert (np.diff(frames) >= 0).all() and frames[0] >= 0 and frames[-1] < total


@given(st.integers(1, 500), st.integers(1, 64), st.integers(0, 2**64 - 1))
def test_random_frames_come_one_from_each_segment(total, count, key):
    frames = segment_random(total, count, key)
    for i, frame in enumerate(frames.tolist()):
        low, high = i * total // count, (i + 1) * total // count
        assert low <= frame < max(high, low + 1)


def test_random_frames_reach_every_frame_evenly():
    counts = np.zeros(40)
    for number in range(4000):
        counts[segment_random(40, 8, sample_key(1, 0, "toy", str(number)))] += 1
    assert counts.min() > 650 and counts.max() < 950  # 800 expected


def test_keys_differ_in_each_part():
    keys = {sample_key(s, v, d, i) for s in (0, 1) for v in (0, 1) for d in ("a", "b") for i in ("x", "y", "\ud800")}
    assert len(keys) == 24
    assert sample_key(1, 2, "a", "b") == 10237043212380924371


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 300), st.integers(20, 300), st.sampled_from([32, 64]), st.integers(0, 2**32))
def test_frames_look_as_open_clips_transform_makes_them(width, height, size, seed):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    expected = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])(Image.fromarray(picture))
    out = np.empty((1, 3, size, size), np.uint8)
    show(picture[None], out)
    np.testing.assert_array_equal(out[0], np.asarray(expected).transpose(2, 0, 1))


def test_frames_look_as_open_clip_itself_makes_them():
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    picture = np.random.default_rng(0).integers(0, 256, (100, 180, 3), np.uint8)
    preprocess = PreprocessCfg(size=56, mean=(0, 0, 0), std=(1, 1, 1))
    expected = image_transform_v2(preprocess, is_train=False)(Image.fromarray(picture))
    out = np.empty((1, 3, 56, 56), np.uint8)
    show(picture[None], out)
    np.testing.assert_array_equal(out[0], (expected * 255).round().to(torch.uint8).numpy())


@pytest.mark.parametrize("gop", [1, 8, 250])
@pytest.mark.parametrize("total", [1, 3, 24])
def test_the_frames_are_the_ones_asked_for(tmp_path, gop, total):
    """Frame i of the clip is as bright as 8·i."""
    from shards.decode import Job, Settings, decode
    from shards.index import ShardIndex

    write_tar(tmp_path / "000000.tar", 0, [[("json", meta(0)), ("mp4", clip(total, gop=gop))]])
    members = ShardIndex.build(tmp_path / "000000.tar").members(0)
    for view in (None, 0, 1, 2):
        out = np.empty((8, 3, 32, 32), np.uint8)
        with (tmp_path / "000000.tar").open("rb") as file:
            settings = Settings(frames=8, frame_size=32, seed=3)
            decode(file.fileno(), Job(members=members, view=view), settings, out)
        key = sample_key(3, view or 0, "toy", "toy-0")
        wanted = segment_centres(total, 8) if view is None else segment_random(total, 8, key)
        assert np.abs(out.mean(axis=(1, 2, 3)) / 8 - wanted).max() < 0.5


def _container(name: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=name) as container:
        codec = {"mpegts": "mpeg4", "mpeg": "mpeg1video", "asf": "mpeg4", "flv": "flv1", "webm": "libvpx"}.get(name)
        stream = container.add_stream(codec or "libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["mp4", "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "asf", "flv", "3gp"])
def test_containers_pass(name):
    assert is_container(_container(name))


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"",
        b"\0" * 400,
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_playlists_and_other_files_do_not(data):
    assert not is_container(data)


def test_the_video_is_the_member_that_is_neither_json_nor_array():
    assert video_suffix(["json", "faces.npy", "mkv"]) == "mkv" and video_suffix(["json", "audio.npy"]) is None


def test_good_members():
    assert parse_meta(meta(3, text="naïve 🎬"))["text"] == "naïve 🎬"
    assert parse_array(npy(np.ones(7, np.float32)), "audio.npy").tolist() == [1] * 7


@pytest.mark.parametrize(
    "data",
    [
        meta(0, label=float("nan")),
        meta(0, label="1"),
        meta(0, label=True),
        meta(0, text=None),
        meta(0, id=7),
        meta(0, text="\ud800"),
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[]",
        b"\xff\xfe",
        b'{"id": ' + b"9" * 10_000 + b"}",
    ],
)
def test_bad_json(data):
    with pytest.raises(BadSample):
        parse_meta(data)
