"""Whatever breaks a sample, the stream goes on with that sample's fault in its place and all others as they were."""

import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path

import av
import numpy as np
import pytest
from small_shards import descriptors, meta, with_video, write_manifest, write_shards, write_tar

import shards.pool
from shards.dataset import ClipSet, ClipStream
from shards.index import ShardIndex, index_path, open_index

SIZES = [5, 6, 4]
TOTAL = 15


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = write_shards(tmp_path_factory.mktemp("sound"), SIZES, with_video)
    for tar in folder.glob("*/*.tar"):
        open_index(tar)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "shards"))


def walk(folder, workers=1, epoch=0, **options):
    """All clips of an epoch by their number, as a two-rank run sees them."""
    clips = {}
    source = ClipSet(folder, "train")
    options = {"seed": 1, "frames": 2, "frame_size": 16, "decode_timeout": 20, "window": 2} | options
    for rank in range(2):
        with ClipStream(
            source, batch_size=4, micro_batch_size=1, world_size=2, rank=rank, workers=workers, **options
        ) as stream:
            steps = list(stream.epoch(epoch))
        assert [step.planned for step in steps] == [4, 4, 4, 3] and steps[-1].position == TOTAL
        for step in steps:
            clips |= {c.index: c for m in step.micro_batches for c in m if c.index >= 0}
    assert sorted(clips) == list(range(TOTAL))
    return clips


def faults(clips):
    return {index: (clip.fault.cause, clip.fault.where) for index, clip in clips.items() if clip.fault}


def flip(path, at, mask=0x40):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("suffix", ["json", "mp4", "faces.npy"])
def test_a_flipped_byte_inside_a_member(folder, workers, suffix):
    tar = folder / "train/000001.tar"
    member = open_index(tar).members(2)[suffix]
    flip(tar, member.offset + member.size // 2)
    expected = walk(folder, workers)
    assert faults(expected) == {7: ("damaged", f"train/000001.tar:00000007.{suffix}")}
    assert expected[7].frames is None and not expected[7].counts
    # Each member has its own checksum: the id of an intact KEY.json is the packed one, that of a damaged one nobody knows.
    assert bool(expected[7].fault.id) == (suffix != "json")


def test_flipped_bytes_inside_headers_matter_to_nobody(folder):
    tar = folder / "train/000001.tar"
    for row in range(6):
        for member in open_index(tar).members(row).values():
            flip(tar, member.offset - 512 + 100)
    assert faults(walk(folder)) == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_tar(folder, workers):
    tar = folder / "train/000001.tar"
    cut = open_index(tar).members(3)["mp4"].offset + 100
    os.truncate(tar, cut)
    found = faults(walk(folder, workers))
    assert {index: cause for index, (cause, _) in found.items()} == {8: "truncated", 9: "truncated", 10: "truncated"}


def test_a_truncated_tar_without_its_index(folder):
    tar = folder / "train/000001.tar"
    cut = open_index(tar).members(3)["mp4"].offset + 100
    index_path(tar).unlink()
    os.truncate(tar, cut)
    clips = walk(folder)
    # Sample 8 has lost its video; 9 and 10 are not there at all.
    assert {index: fault.split(":")[0] for index, (fault, _) in faults(clips).items()} == dict.fromkeys(
        (8, 9, 10), "missing"
    )
    assert "truncated" in clips[10].fault.detail


def test_a_damaged_header_without_the_index(folder):
    tar = folder / "train/000001.tar"
    at = open_index(tar).members(2)["mp4"].offset - 512
    index_path(tar).unlink()
    flip(tar, at + 3)
    assert faults(walk(folder)) == {7: ("missing", "train/000001.tar:00000007")}


@pytest.mark.parametrize("what", ["missing", "garbage", "another shard's"])
def test_a_wrong_index_is_made_again(folder, what):
    path = index_path(folder / "train/000001.tar")
    path.unlink()
    if what == "garbage":
        path.write_bytes(b"VADVIDX1" + bytes(1000))
    elif what == "another shard's":
        shutil.copy(folder / "train/000000.idx", path)
    assert faults(walk(folder)) == {}
    assert (
        ShardIndex.parse(path.read_bytes()).sha256
        == hashlib.sha256((folder / "train/000001.tar").read_bytes()).hexdigest()
    )


def test_a_shard_that_is_not_there(folder):
    (folder / "train/000001.tar").unlink()
    clips = walk(folder)
    assert faults(clips) == dict.fromkeys(range(5, 11), ("missing", "train/000001.tar"))
    assert "train/000001.tar is not there any more" in clips[5].fault.detail


def test_a_shard_that_may_not_be_read(folder):
    path = folder / "train/000001.tar"
    path.unlink()
    path.mkdir()
    assert {cause for cause, _ in faults(walk(folder)).values()} == {"unreadable"}


def test_a_file_removed_during_the_run(folder):
    """What is open stays readable; a new start finds it missing; a file of another content in its place is noticed."""
    source = ClipSet(folder, "train")
    with ClipStream(source, seed=1, batch_size=5, micro_batch_size=5, workers=1, frames=2, frame_size=16) as stream:
        steps = stream.epoch(0)
        first = next(steps)
        shutil.rmtree(folder / "train")
        later = [clip for step in steps for m in step.micro_batches for clip in m]
        again = [clip for step in stream.epoch(1) for m in step.micro_batches for clip in m]
    assert all(clip.fault is None for m in first.micro_batches for clip in m)
    assert all(clip.fault is None or clip.fault.cause == "missing" for clip in later + again)


def test_bad_members_that_were_packed(tmp_path):
    """Their CRC is right, what they say is not."""
    good = with_video(0)
    bad = [
        ([("json", b"{"), *good[1:]], "invalid"),
        ([("json", meta(1, label=None)), *good[1:]], "invalid"),
        ([("json", meta(2)), ("mp4", b"not a film"), good[2]], "undecodable"),
        ([("json", meta(3)), ("mp4", good[1][1][:3000]), good[2]], "undecodable"),
        ([("json", meta(4)), ("mp4", b""), good[2]], "undecodable"),
        ([("json", meta(5)), good[1], ("faces.npy", b"\x93NUMPY junk")], "invalid"),
        ([("json", meta(6)), good[2]], "missing"),
        (good[1:], "missing"),
        ([("json", meta(8)), ("m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"), good[2]], "undecodable"),
        ([("json", meta(9)), ("mp4", _audio_only()), good[2]], "undecodable"),
    ]
    write_tar(tmp_path / "train/000000.tar", 0, [with_video(0), *(members for members, _ in bad), *[with_video(0)] * 4])
    write_manifest(tmp_path, [TOTAL])
    for workers in (0, 2):
        clips = walk(tmp_path, workers)
        assert [clips[n].fault.cause if clips[n].fault else None for n in range(TOTAL)] == (
            [None] + [cause for _, cause in bad] + [None] * 4
        ), [clip.fault for clip in clips.values()]
        assert clips[3].fault.id == "toy-2" and clips[3].fault.where == "train/000000.tar:00000003.mp4"
        assert all(
            len(clip.fault.detail) < 300 and clip.fault.detail.isprintable() for clip in clips.values() if clip.fault
        )


def _audio_only() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def hanging_clip(shown: int = 100, claimed: int = 260) -> bytes:
    """A file that claims more frames than decode: decord's issue 373.

    An edit list ends the presentation after `shown` frames. FFmpeg still delivers the packets up to the next keyframe
    (there is none), marked to be discarded; decord counts them as frames. When it skips to one of them it decodes to
    the end, where it has queued 128 end marks that count as frames; 129 or more frames too far, it loops for good.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        options = {"g": "1000", "preset": "ultrafast", "bf": "0", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=12, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(claimed):
            picture = np.full((32, 32, 3), number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(buffer.getvalue())
    at = data.find(b"elst") + 12
    duration = int.from_bytes(data[at : at + 4], "big")
    data[at : at + 4] = (duration * shown // claimed).to_bytes(4, "big")
    return bytes(data)


def test_a_real_clip_that_hangs_decord(tmp_path):
    clip = hanging_clip()
    samples = [with_video(n) for n in range(TOTAL)]
    samples[4] = [("json", meta(4, frames=260)), ("mp4", clip), samples[4][2]]
    # Packing counts the frames that decode: told of them, we never ask for the others.
    samples[9] = [("json", meta(9, frames=100)), ("mp4", clip), samples[9][2]]
    write_tar(tmp_path / "train/000000.tar", 0, samples)
    write_manifest(tmp_path, [TOTAL])
    began = time.monotonic()
    clips = walk(tmp_path, workers=2, decode_timeout=1.5, frames=8, shuffle=False)
    assert {index: cause for index, (cause, _) in faults(clips).items()} == {4: "timeout"}
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("text", "cause"), [("hang", "timeout"), ("segfault", "crash"), ("kill", "crash")])
def test_decoders_that_break(folder, monkeypatch, text, cause):
    """Through the whole stream, with two ranks of which one meets the fault."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(shards.pool, "DECODE", "broken_decoder:decode")
    shutil.rmtree(folder)
    texts = {6: text, 11: text}
    write_shards(folder, SIZES, lambda n: [("json", meta(n, text=texts.get(n, "ok")))])
    clips = walk(folder, workers=2, decode_timeout=1.0)
    assert {index: found for index, (found, _) in faults(clips).items()} == {6: cause, 11: cause}
    assert clips[6].fault.where == "train/000001.tar:00000006"


def test_faults_are_the_same_in_every_epoch_and_for_every_worker_count(folder):
    flip(folder / "train/000000.tar", open_index(folder / "train/000000.tar").members(1)["mp4"].offset + 50)
    found = [faults(walk(folder, workers, epoch)) for workers in (0, 3) for epoch in (0, 1)]
    assert found == [{1: ("damaged", "train/000000.tar:00000001.mp4")}] * 4


def test_descriptors_stay_bounded(tmp_path, monkeypatch):
    import shards.dataset

    monkeypatch.setattr(shards.dataset, "OPEN_SHARDS", 5)
    sizes = [1] * 40
    write_shards(tmp_path, sizes)
    source = ClipSet(tmp_path, "train")
    before = descriptors()
    with ClipStream(source, seed=0, batch_size=1, micro_batch_size=1, workers=0, video=False, window=40) as stream:
        most = 0
        for _ in stream.epoch(0):
            most = max(most, descriptors())
    assert most - before <= 5 + 5
    assert json.loads(meta(0))["id"] == source.meta(0, 0)["id"]
