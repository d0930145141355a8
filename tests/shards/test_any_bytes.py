"""Properties of what reads shards, over bytes that hypothesis makes up (tests/fuzz goes on where this ends)."""

import json
import zlib

import numpy as np
import pytest
from broken_clips import write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shards import meta, npy, tar_of

from shards.excerpt import pictures
from shards.index import ShardIndex
from shards.manifest import BadManifest, parse_manifest
from shards.packed_form import Coding
from shards.sample import BadSample, parse_array, parse_meta
from shards.transcode import transcode

BASE = tar_of(
    ("00000001.json", meta(1)), ("00000001.faces.npy", npy(np.zeros((64, 8), np.float32))), ("00000002.mp4", b"x" * 700)
)


@pytest.fixture(scope="module")
def packed_clip(tmp_path_factory):
    path = write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", frames=5, sound="aac")
    return transcode(path, Coding(frame_size=80, quantizer=100)).data


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_tars_never_raise_and_never_lie(tmp_path_factory, data):
    raw = bytearray(BASE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "copy", "number"])):
            case "flip":
                raw[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 600))]
            case "insert":
                raw[at:at] = data.draw(st.binary(max_size=40))
            case "copy":
                raw[at:at] = raw[: data.draw(st.integers(0, len(raw)))]
            case "number":
                start = at // 512 * 512 + 124
                raw[start : start + 12] = b"%011o\0" % data.draw(st.integers(0, 1 << 33))
        if not raw:
            raw = bytearray(BASE)
    _check_tar(tmp_path_factory.getbasetemp() / "mutated.tar", bytes(raw))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes_are_no_tar(tmp_path_factory, raw):
    _check_tar(tmp_path_factory.getbasetemp() / "random.tar", raw)


def _check_tar(path, raw):
    path.write_bytes(raw)
    index = ShardIndex.build(path)
    for row in range(len(index)):
        for member in index.members(row).values():
            data = raw[member.offset : member.offset + member.size]
            assert len(data) == member.size and zlib.crc32(data) == member.crc
    assert ShardIndex.parse(index.tobytes()).tobytes() == index.tobytes()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_tables_of_pictures_never_raise_and_never_leave_the_clip(packed_clip, data):
    raw = bytearray(packed_clip)
    tables = raw.index(b"moov")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(tables, len(raw) - 5))
        raw[at : at + 4] = data.draw(st.integers(0, 2**32 - 1) | st.integers(0, 300)).to_bytes(4, "big")
    found = pictures(bytes(raw[: data.draw(st.integers(tables, len(raw)))]))
    if found is not None:
        assert all(bytes(found[number][:3]) == b"\xff\xd8\xff" for number in range(len(found)))
        assert sum(len(found[number]) for number in range(len(found))) == found.sizes.sum()
        assert len(found.avi([0])) <= len(raw) + 300


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode), st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["id", "dataset", "text", "label", "format", "task", "splits", "train", "shards", "file", "bytes", "samples",
         "sha256", "labels", "packing"]), inner, max_size=6), max_leaves=30,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_bytes_as_json(raw):
    """KEY.json and manifest.json: a sound value or the one documented error."""
    try:
        found = parse_meta(raw)
        assert isinstance(found["id"], str) and isinstance(found["text"], str) and np.isfinite(found["label"])
        found["text"].encode()
    except BadSample as error:
        assert "\n" not in str(error)
    try:
        parse_manifest(raw, "manifest.json")
    except BadManifest as error:
        assert len(str(error)) < 1000


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_arrays(data):
    raw = bytearray(npy(np.zeros((64, 8), np.float32)))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, 140))] = data.draw(st.integers(0, 255))
    try:
        array = parse_array(bytes(raw), "faces.npy")
        assert array.shape == (64, 8) and array.dtype == np.float32
    except BadSample as error:
        assert "\n" not in str(error)
