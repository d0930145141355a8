"""Coverage-guided fuzzing of everything that reads bytes of a shard before they are trusted.

    pip install atheris        (not part of the environment: it needs a Python that it has a wheel for)
    python tests/fuzz/fuzz_shards.py -max_total_time=300 CORPUS_FOLDER

The first byte of an input chooses the reader: tar headers, .idx file, manifest.json, KEY.json, .npy member, the sample
table of a packed clip. A reader may refuse its input with its documented error; anything else that it raises, a wrong
answer, or the use of more memory than the input justifies is a finding. Seeds are written into the corpus folder when it
is empty.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["shards"]):
    import shards.excerpt
    import shards.index
    import shards.manifest
    import shards.sample
    import shards.tar

import numpy as np


def read_tar(data: bytes) -> None:
    """Members lie inside the file, have the bytes that their CRC tells, and survive the index file."""
    members, errors = [], []
    for found in shards.tar.walk(io.BytesIO(data), len(data), resume=True):
        (errors if isinstance(found, shards.tar.TarError) else members).append(found)
    for member in members:
        body = data[member.offset : member.offset + member.size]
        assert len(body) == member.size and zlib.crc32(body) == member.crc
    try:
        index = shards.index.ShardIndex(members, len(data), "0" * 64, errors)
    except shards.tar.TarError:
        return
    assert shards.index.ShardIndex.parse(index.tobytes()).tobytes() == index.tobytes()


def read_index(data: bytes) -> None:
    """A mutated index seldom has a right CRC: give it one, so that the checks behind it are reached."""
    head = shards.index._HEAD.size
    if len(data) >= head:
        data = (
            data[: head - 4] + zlib.crc32(data[head:], zlib.crc32(data[: head - 4])).to_bytes(4, "little") + data[head:]
        )
    try:
        index = shards.index.ShardIndex.parse(data)
    except shards.index.BadIndex:
        return
    for row in range(len(index)):
        for member in index.members(row).values():
            assert 0 < member.offset <= member.offset + member.size <= index.bytes and member.number >= 0


def read_manifest(data: bytes) -> None:
    try:
        manifest = shards.manifest.parse_manifest(data, "manifest.json")
    except shards.manifest.BadManifest as error:
        assert "\n" not in str(error)
        return
    for split in manifest.splits.values():
        for shard in split.shards:
            assert ".." not in shard.file and not shard.file.startswith("/") and shard.samples > 0


def read_meta(data: bytes) -> None:
    try:
        meta = shards.sample.parse_meta(data)
    except shards.sample.BadSample as error:
        assert "\n" not in str(error)
        return
    for field in ("id", "dataset", "text"):
        meta[field].encode()
    assert np.isfinite(float(meta["label"]))


def read_array(data: bytes) -> None:
    for suffix in ("faces.npy", "audio.npy"):
        try:
            array = shards.sample.parse_array(data, suffix)
        except shards.sample.BadSample as error:
            assert "\n" not in str(error)
            continue
        assert array.dtype == np.float32 and array.nbytes <= len(data) and np.isfinite(array).all()


def read_pictures(data: bytes) -> None:
    found = shards.excerpt.pictures(data)
    if found is not None:
        assert len(found) <= len(data) and all(bytes(found[n][:3]) == b"\xff\xd8\xff" for n in range(len(found)))
        assert len(found.avi([0])) <= len(data) + 300


READERS = (read_tar, read_index, read_manifest, read_meta, read_array, read_pictures)


def test_one_input(data: bytes) -> None:
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def packed_clip() -> bytes:
    """Three small pictures in the packed form."""
    import av

    from shards.packed_form import Coding, add_pictures, picture_packet

    buffer, coding = io.BytesIO(), Coding(frame_size=80, quantizer=100)
    with av.open(buffer, "w", "mp4") as container:
        stream = add_pictures(container, coding.frame_size)
        for number in range(3):
            picture = np.full((80, 80, 3), number, np.uint8)
            container.mux(picture_packet(picture, number * 9000, stream, coding))
    return buffer.getvalue()


def seeds() -> list[bytes]:
    """One good input for each reader."""
    meta = json.dumps(
        {"id": "a$_$1", "dataset": "toy", "text": "so \u00e9 \U0001f3ac", "label": -1.5, "frames": 24}
    ).encode()
    array = io.BytesIO()
    np.save(array, np.zeros((64, 8), np.float32))
    vector = io.BytesIO()
    np.save(vector, np.ones(5, np.float32))
    tars = []
    for format in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
            for name in ("00000000.json", "00000000.mp4", "00000001.json"):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(meta), 0.5 if format == tarfile.PAX_FORMAT else 0
                tar.addfile(info, io.BytesIO(meta))
        tars.append(buffer.getvalue())
    members = [
        found for found in shards.tar.walk(io.BytesIO(tars[0]), len(tars[0])) if isinstance(found, shards.tar.Member)
    ]
    index = shards.index.ShardIndex(members, len(tars[0]), "ab" * 32).tobytes()
    shard = shards.manifest.Shard(file="train/000000.tar", bytes=10240, sha256="ab" * 32, samples=2)
    split = shards.manifest.Split(shards=(shard,), labels={"min": -1.0})
    manifest = shards.manifest.Manifest(dataset="toy", task="sentiment", splits={"train": split}).to_json().encode()
    found = [(0, tar) for tar in tars]
    found += [(1, index), (2, manifest), (3, meta), (4, array.getvalue()), (4, vector.getvalue()), (5, packed_clip())]
    return [bytes([number]) + data for number, data in found]


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for folder in folders[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds()):
            (folder / f"seed-{number}").write_bytes(data)
    atheris.Setup([*sys.argv, "-max_len=40000", "-rss_limit_mb=1500", "-timeout=20"], test_one_input)
    atheris.Fuzz()
