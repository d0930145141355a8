"""Shards may come from strangers: what they should not do is refused with one line, and costs no memory."""

import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zlib

import numpy as np
import pytest
from small_shards import meta, npy, tar_of, with_video, write_manifest, write_tar

from shards.dataset import ClipSet, ClipStream
from shards.index import MAGIC, BadIndex, ShardIndex
from shards.sample import BadSample, parse_array
from shards.tar import TarError


def special(name="00000001.json", **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def header(name=b"00000001.json", size=b"00000000000\0", kind=b"0", magic=b"ustar\x0000", prefix=b""):
    """A raw header with a right checksum."""
    raw = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0") + b"00000000000\0"
    raw += b" " * 8 + kind + bytes(100) + magic + bytes(80) + prefix.ljust(155, b"\0")
    raw = raw.ljust(512, b"\0")[:512]
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


def built(tmp_path, data):
    path = tmp_path / "000000.tar"
    path.write_bytes(data)
    return ShardIndex.build(path)


NAMES = [
    "../../etc/00000001.json", "/etc/00000001.json", "00000001.json/..", "./00000001.json", "a/00000001.json",
    "..\\00000001.json", "00000001", "00000001.", ".json", "00000001.js on", "00000001.JSON", "00000001.a.b.c.d",
    "1.json", "-0000001.json", "0x000001.json", "٠٠٠٠٠٠٠١.json", "00000001.json\n", "000000010.json", "x" * 99,
    "9" * 16 + ".json", "00000001.;rm -rf", "CON", "00000001.json:stream",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_ours(tmp_path, name):
    index = built(tmp_path, tar_of((name, b"{}"), format=tarfile.GNU_FORMAT))
    assert [error.cause for error in index.errors] == ["refused"] and len(index) == 1
    assert "\n" not in str(index.errors[0]) and str(index.errors[0]).isprintable() and len(str(index.errors[0])) < 200


@pytest.mark.parametrize(
    ("kind", "name"),
    [(t, n) for t, n in zip(
        [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
         tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"V", b"M", b"g",
         b"Z", b"\xff"],
        ["hard link", "symbolic link", "character device", "block device", "folder", "pipe", "contiguous", "sparse",
         "long name", "long link", "volume", "multi-volume", "global PAX", "vendor", "unknown"],
    )],
)  # fmt: skip
def test_members_that_are_no_regular_files(tmp_path, kind, name):
    data = header(kind=kind, size=b"00000000005\0") + b"hello".ljust(512, b"\0")
    index = built(tmp_path, header(name=b"00000000.json") + data + header(b"00000002.json") + bytes(1024))
    assert [error.cause for error in index.errors] == ["refused"] and len(index) == 1, name


@pytest.mark.parametrize(
    ("size", "cause"),
    [
        (b"-0000000005\0", "refused"),
        (b"\x80" + bytes(6) + (10 << 30).to_bytes(5, "big"), "refused"),  # base 256: 10 GiB
        (b"\xff" * 12, "refused"),  # base 256: -1
        (b"77777777777\0", "refused"),  # 8 GiB - 1
        (b"00000001000\0", "truncated"),
        (b"0x000000005\0", "refused"),
        (b"00000000009\0", "refused"),
        (b"\0" * 12, "refused"),
        (b"           \0", "refused"),
        (b"5 5        \0", "refused"),
        (b"1e3        \0", "refused"),
    ],
)
def test_sizes_that_are_not_true(tmp_path, size, cause):
    index = built(tmp_path, header(b"00000000.json") + header(size=size) + b"hello".ljust(100, b"\0"))
    assert [error.cause for error in index.errors] == [cause] and len(index) == 1


@pytest.mark.parametrize(
    "records",
    [
        {"path": "../../escape.json"},
        {"size": "10737418240"},
        {"linkpath": "/etc/passwd"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10737418240"},
        {"SCHILY.xattr.user.x": "y"},
        {"hdrcharset": "BINARY"},
    ],
)
def test_pax_records_that_change_a_member(tmp_path, records):
    index = built(tmp_path, tar_of((special(pax_headers=records), b"{}"), format=tarfile.PAX_FORMAT))
    assert [error.cause for error in index.errors] == ["refused"] and len(index) == 1


@pytest.mark.parametrize(
    "body", [b"\0", b"5 a=", b"99999 mtime=1\n", b"8 mtime=1", b"0 mtime=\n", b"12 mtime=1.5\n" + b"\0" * 99]
)
def test_pax_records_that_are_broken(tmp_path, body):
    data = (
        header(kind=b"x", size=b"%011o\0" % len(body)) + body.ljust(512, b"\0") + header(b"00000001.json") + bytes(1024)
    )
    index = built(tmp_path, data)
    assert all(error.cause in ("damaged", "refused") for error in index.errors)
    assert index.numbers.tolist() == [1]  # the member itself is sound


def test_pax_records_without_end(tmp_path):
    data = header(kind=b"x", size=b"%011o\0" % (64 << 20))
    with (tmp_path / "000000.tar").open("wb") as file:
        file.write(data)
        file.truncate(100 << 20)
    tracemalloc.start()
    index = ShardIndex.build(tmp_path / "000000.tar")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [error.cause for error in index.errors] == ["refused"] and peak < 4 << 20


@pytest.mark.parametrize(
    "names",
    [
        ["00000001.json", "00000001.json"],
        ["00000002.json", "00000001.json"],
        ["00000001.json", "00000002.json", "00000001.mp4"],
    ],
)
def test_members_that_come_twice_or_out_of_order(tmp_path, names):
    index = built(tmp_path, b"".join(header(name.encode()) for name in names) + bytes(1024))
    assert [error.cause for error in index.errors] == ["refused"]


def test_a_name_in_two_parts(tmp_path):
    index = built(tmp_path, header(prefix=b"../..") + bytes(1024))
    assert [error.cause for error in index.errors] == ["refused"]


def test_more_kinds_of_members_than_an_index_holds(tmp_path):
    data = b"".join(header(b"00000001.a%d" % n) for n in range(300)) + bytes(1024)
    with pytest.raises(TarError, match="more than 255"):
        built(tmp_path, data)


def test_ten_gigabytes_claimed_by_a_sparse_file(tmp_path):
    """The file really has the size (as holes): nothing of it is read, and indexing takes no time."""
    write_tar(tmp_path / "train/000000.tar", 0, [with_video(n) for n in range(3)])
    with (tmp_path / "train/000000.tar").open("r+b") as file:
        file.seek(-1024, os.SEEK_END)
        while file.read(512) == bytes(512):
            file.seek(-1024, os.SEEK_CUR)
        file.write(header(b"00000003.json", b"00000000002\0") + b"{}".ljust(512, b"\0"))
        file.write(header(b"00000003.mp4", b"\x80" + bytes(6) + (10 << 30).to_bytes(5, "big")))
        file.truncate(11 << 30)
    tracemalloc.start()
    try:
        index = ShardIndex.build(tmp_path / "train/000000.tar")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(index) == 4 and [error.cause for error in index.errors] == ["refused"] and peak < 8 << 20


IDX = struct.Struct("<8sQ32sIIII")


@pytest.mark.parametrize(
    "change", ["samples", "members", "table", "offsets", "negative", "kinds", "overlap", "names", "size"]
)
def test_an_index_that_lies(tmp_path, change):
    """With a right checksum, so that only its own sense can give it away."""
    index = built(tmp_path, tar_of(("00000001.json", b"{}"), ("00000001.mp4", b"film")))
    samples, members, table, size = len(index), len(index.kinds), None, index.bytes
    match change:
        case "offsets":
            index.offsets = index.offsets + (1 << 40)
        case "negative":
            index.sizes = -index.sizes
        case "kinds":
            index.kinds = index.kinds + 7
        case "overlap":
            index.offsets = index.offsets * 0 + 512
        case "names":
            index.suffixes = ("json", "../mp4")
        case "samples":
            samples = 0xFFFFFFFF
        case "members":
            members = 0xFFFFFFFF
        case "table":
            table = 0xFFFFFFFF
        case "size":
            size = 1 << 63
    raw = index.tobytes()
    fields = list(IDX.unpack_from(raw))
    fields[1], fields[3], fields[4], fields[5] = size, samples, members, table or fields[5]
    body = raw[IDX.size :]
    head = IDX.pack(*fields[:-1], 0)[:-4]
    raw = head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body
    assert raw.startswith(MAGIC)
    with pytest.raises(BadIndex, match="expected"):
        ShardIndex.parse(raw)


ARRAYS = {
    "object": lambda: _pickled(),
    "other type": lambda: npy(np.zeros((64, 8))),
    "other shape": lambda: npy(np.zeros((8, 64), np.float32)),
    "fortran": lambda: npy(np.asfortranarray(np.zeros((64, 8), np.float32))),
    "big endian": lambda: npy(np.zeros((64, 8), ">f4")),
    "structured": lambda: npy(np.zeros(64, [("a", "<f4")])),
    "short": lambda: npy(np.zeros((64, 8), np.float32))[:-1],
    "long": lambda: npy(np.zeros((64, 8), np.float32)) + b"\0",
    "nan": lambda: npy(np.full((64, 8), np.nan, np.float32)),
    "huge shape": lambda: _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 8), }"),
    "negative": lambda: _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-64, -8), }"),
    "code": lambda: _header("__import__('os').system('touch /tmp/pwned')"),
    "deep": lambda: _header("(" * 5000 + ")" * 5000),
    "header bomb": lambda: _header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (64, 8), 'x': " + "9" * 60000 + "}"
    ),
    "version 3": lambda: b"\x93NUMPY\x03\x00\xff\xff\xff\xff",
    "empty": lambda: b"",
    "zip": lambda: b"PK\3\4" + bytes(100),
}


def _header(text):
    body = text.encode().ljust(64)[:65535]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body + bytes(2048)


class _Touch:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def _pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Touch()], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_no_feature_tables(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSample, match=r"expected|bytes"):
        parse_array(ARRAYS[name](), "faces.npy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_hostile_shard_through_the_whole_stream(tmp_path, monkeypatch, workers):
    """Each attack costs its sample; the good ones come; nothing is written anywhere; memory stays small."""
    monkeypatch.chdir(tmp_path)
    good = with_video(0)
    attacks = [
        [("json", b"[" * 100_000), *good[1:]],
        [("json", b'{"a":' * 25_000 + b"1" + b"}" * 25_000), *good[1:]],
        [("json", meta(3, text="x" * 200_000)), *good[1:]],
        [("json", meta(4)), good[1], ("faces.npy", _pickled())],
        [("json", meta(5)), good[1], ("faces.npy", ARRAYS["huge shape"]())],
        [("json", meta(6)), good[1], ("faces.npy", bytes(300_000))],
        [("json", meta(7)), ("mp4", b"ffconcat version 1.0\nfile '/etc/passwd'\n"), good[2]],
        [("json", meta(8)), good[1], good[2], *[(f"x{n}.npy", npy(np.zeros(60_000, np.float32))) for n in range(6)]],
        [("json", meta(9, id="../../x", text="\x1b[2J", label=1e308)), *good[1:]],
    ]
    write_tar(tmp_path / "train/000000.tar", 0, [good, *attacks, good])
    write_manifest(tmp_path, [len(attacks) + 2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ClipStream(
        ClipSet(tmp_path, "train"),
        seed=0,
        batch_size=1,
        micro_batch_size=1,
        shuffle=False,
        workers=workers,
        frame_size=16,
    ) as stream:
        clips = [clip for step in stream.epoch(0) for m in step.micro_batches for clip in m]
    causes = [clip.fault and clip.fault.cause for clip in clips]
    assert causes[0] is None and causes[-1] is None
    assert causes[1:8] == ["invalid"] * 6 + ["undecodable"]
    assert causes[8:10] == [None, None]  # arrays that nobody asks for are not read; an odd id is only a text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert {path.name for path in tmp_path.iterdir()} == {"train", "manifest.json"}


def test_decoders_have_a_bound_on_memory(tmp_path):
    """A decoder that asks for more than its bound fails alone."""
    program = """
import sys
from shards.decode import Job, Settings
from shards.dataset import OpenShard
from shards.pool import DecoderPool
shard = OpenShard(sys.argv[1])
pool = DecoderPool(Settings(frames=2, frame_size=16), 1, 20, "greedy:decode")
for row in range(2):
    try:
        print(pool.submit(Job(members=shard.index.members(row)), shard).result()[0].id)
    except Exception as error:
        print(error.cause)
pool.close()
"""
    (tmp_path / "greedy.py").write_text(
        "from shards.decode import Sample\n"
        "def decode(descriptor, job, settings, out):\n"
        "    if next(iter(job.members.values())).number == 0:\n"
        "        bytearray(6 << 30)\n"
        "    return Sample(id='fine', dataset='', text='', label=0.0)\n"
    )
    write_tar(tmp_path / "000000.tar", 0, [[("json", meta(n))] for n in range(2)])
    command = [sys.executable, "-c", program, str(tmp_path / "000000.tar")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.split() == ["crash", "fine"]
