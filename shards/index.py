"""SPLIT/NUMBER.idx: where the members of a tar are, so that a sample is one `pread`.

An index is derived from its tar and can always be made again. It also holds a CRC-32 of each member, taken when the tar
was whole: damage inside a clip is found when the clip is read, for ~0.3 ms a MB, and costs that clip only. Which bytes
count as whole is the manifest's word: the index names the SHA-256 of the tar that it was made from, and one that names
another checksum than the manifest is stale. So a good index goes on protecting a tar that was damaged afterwards. When
an index must be made again and the tar no longer has the manifest's checksum, nobody knows which bytes are wrong: the
index is used for this run with a warning, and never saved.

The layout of the file is in FORMAT.md. It is read without trust: every length is checked before it is used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shards.durable import written_whole
from shards.tar import BLOCK, Member, TarError, is_suffix, walk

log = logging.getLogger(__name__)

MAGIC = b"VADVIDX1"
_HEAD = struct.Struct("<8sQ32sIIII")
"""magic, bytes of the tar, SHA-256 of the tar, samples, members, bytes of the suffix table, CRC-32 of all the rest."""
_MAX_SUFFIXES = 255


class BadIndex(ValueError):
    """An .idx file that is damaged, of another version, or of another tar."""


class ShardIndex:
    """The members of one tar.

    N samples, M members; a sample's members are neighbours.

    Attributes:
        bytes: size of the tar.
        sha256: its checksum as 64 hex digits.
        numbers: (N,) int64, KEY of each sample.
        firsts: (N + 1,) int64, a sample's members are those from firsts[row] to firsts[row + 1].
        suffixes: the distinct endings: json, mp4, faces.npy, ...
        kinds: (M,) uint8, which ending.
        offsets, sizes: (M,) int64, in bytes.
        crcs: (M,) uint32.
        errors: what was met while building: empty for a sound tar and for an index read from a file.
    """

    def __init__(self, members: Sequence[Member], size: int, sha256: str, errors: Sequence[TarError] = ()) -> None:
        self.bytes, self.sha256, self.errors = size, sha256, tuple(errors)
        self.suffixes = tuple(dict.fromkeys(member.suffix for member in members))
        if len(self.suffixes) > _MAX_SUFFIXES:
            raise TarError("refused", 0, f"more than {_MAX_SUFFIXES} different member endings")
        kind = {suffix: number for number, suffix in enumerate(self.suffixes)}
        numbers = np.array([member.number for member in members], np.int64)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        self.numbers = numbers[starts]
        self.firsts = np.append(starts, len(members)).astype(np.int64)
        self.kinds = np.array([kind[member.suffix] for member in members], np.uint8)
        self.offsets = np.array([member.offset for member in members], np.int64)
        self.sizes = np.array([member.size for member in members], np.int64)
        self.crcs = np.array([member.crc for member in members], np.uint32)

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, row: int) -> str:
        """KEY of a sample, `00000042`."""
        return f"{self.numbers[row]:08d}"

    def members(self, row: int) -> dict[str, Member]:
        """A sample's members by their ending, in file order."""
        found = {}
        for at in range(int(self.firsts[row]), int(self.firsts[row + 1])):
            suffix = self.suffixes[self.kinds[at]]
            found[suffix] = Member(
                int(self.numbers[row]), suffix, int(self.offsets[at]), int(self.sizes[at]), int(self.crcs[at])
            )
        return found

    @classmethod
    def build(cls, tar: str | os.PathLike[str]) -> ShardIndex:
        """Read a tar from end to end: members, their CRC-32, the tar's SHA-256.

        What cannot be read is in `errors`; the members that can are in the index.

        Raises:
            OSError: the file cannot be opened or read.
        """
        members: list[Member] = []
        errors: list[TarError] = []
        with Path(tar).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            source = _Hashing(file)
            for found in walk(source, size, resume=True):
                if isinstance(found, TarError):
                    errors.append(found)
                else:
                    members.append(found)
            # A refused member may claim terabytes; the checksum of what was read so far is no manifest's.
            while not any(error.cause == "refused" for error in errors) and source.read(1 << 20):
                pass
        return cls(members, size, source.digest.hexdigest(), errors)

    @classmethod
    def parse(cls, data: bytes, where: str = "index") -> ShardIndex:
        """Read the bytes of an .idx file, which may come from a stranger; `where` names it in errors.

        Raises:
            BadIndex: with what was expected.
        """

        def require(ok: bool | np.bool_, what: str) -> None:
            if not ok:
                raise BadIndex(f"{where}: expected {what}; delete the file, it is made again from its tar")

        require(len(data) >= _HEAD.size, f"at least {_HEAD.size} bytes, found {len(data)}")
        magic, size, digest, samples, members, table, crc = _HEAD.unpack_from(data)
        require(magic == MAGIC, f"an index that begins with {MAGIC!r}, found {magic!r}")
        require(size < 1 << 62, "a tar of less than 2**62 bytes")
        length = _HEAD.size + samples * 8 + (samples + 1) * 8 + members * (1 + 8 + 8 + 4) + table
        require(len(data) == length, f"{length} bytes, found {len(data)}")
        require(zlib.crc32(data[_HEAD.size :], zlib.crc32(data[: _HEAD.size - 4])) == crc, "an undamaged file")
        self = cls.__new__(cls)
        self.bytes, self.sha256, self.errors = size, digest.hex(), ()
        at = _HEAD.size

        def take(count: int, kind: str) -> np.ndarray:
            nonlocal at
            array = np.frombuffer(data, kind, count, at)
            at += array.nbytes
            return array

        self.numbers, self.firsts = take(samples, "<i8"), take(samples + 1, "<i8")
        self.offsets, self.sizes = take(members, "<i8"), take(members, "<i8")
        self.crcs, self.kinds = take(members, "<u4"), take(members, "u1")
        text = data[at:].decode("ascii", "replace")
        self.suffixes = tuple(text.split("\n")) if text else ()
        require(all(is_suffix(suffix) for suffix in self.suffixes), "member endings")
        require((self.kinds < len(self.suffixes)).all(), "known member endings")
        require((np.diff(self.numbers) > 0).all() and (self.numbers >= 0).all(), "growing keys")
        require(self.firsts[0] == 0 and self.firsts[-1] == members, "members that belong to samples")
        require((np.diff(self.firsts) > 0).all(), "at least one member a sample")
        require((self.sizes >= 0).all() and (self.sizes <= size).all(), "sizes inside the tar")
        require((self.offsets >= BLOCK).all() and (self.offsets <= size - self.sizes).all(), "offsets inside the tar")
        require((self.offsets[1:] >= self.offsets[:-1] + self.sizes[:-1] + BLOCK).all(), "members one after another")
        return self

    def tobytes(self) -> bytes:
        """The bytes of the .idx file."""
        table = "\n".join(self.suffixes).encode("ascii")
        head = [MAGIC, self.bytes, bytes.fromhex(self.sha256), len(self.numbers), len(self.kinds), len(table)]
        arrays: list[tuple[np.ndarray, str]] = [(self.numbers, "<i8"), (self.firsts, "<i8"), (self.offsets, "<i8")]
        arrays += [(self.sizes, "<i8"), (self.crcs, "<u4"), (self.kinds, "u1")]
        body = b"".join(array.astype(kind).tobytes() for array, kind in arrays) + table
        crc = zlib.crc32(body, zlib.crc32(_HEAD.pack(*head, 0)[:-4]))
        return _HEAD.pack(*head, crc) + body

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the .idx file, whole or not at all, also when several processes do so at once."""
        path = Path(path)
        with written_whole(path, path.with_name(f"{path.name}.{os.getpid()}.part")) as file:
            file.write(self.tobytes())


def index_path(tar: str | os.PathLike[str]) -> Path:
    """Where the index of a tar lies: SPLIT/000000.idx beside SPLIT/000000.tar."""
    return Path(tar).with_suffix(".idx")


def open_index(tar: str | os.PathLike[str], sha256: str | None = None, save: bool = True) -> ShardIndex:
    """The index of a tar: its .idx file, or made again when that is missing, damaged or of another tar.

    Args:
        sha256: the tar's checksum by the manifest; without it an index counts as good when the tar's size is its.
        save: keep a new index beside the tar, when the tar is sound and the folder can be written.

    Raises:
        OSError: the tar has to be read and cannot be.
    """
    path = index_path(tar)
    try:
        index = ShardIndex.parse(path.read_bytes(), str(path))
        if index.sha256 == sha256 or (sha256 is None and index.bytes == Path(tar).stat().st_size):
            return index
        log.info("%s belongs to another tar than the manifest's: made again", path)
    except FileNotFoundError:
        log.info("%s is missing: made again", path)
    except (OSError, BadIndex) as error:
        log.warning("%s", error)
    index = ShardIndex.build(tar)
    for broken in index.errors:
        log.warning("%s: %s", tar, broken)
    if sha256 is not None and index.sha256 != sha256:
        log.warning(
            "%s is not the file that the manifest describes, and its index is lost: damaged clips in it cannot all be "
            "told from good ones; fetch it again, or look at it with launch/verify.py",
            tar,
        )
    elif save and not index.errors:
        try:
            index.save(path)
        except OSError as error:
            log.info("%s cannot be kept (%s): it is made again in each run", path, error)
    return index


class _Hashing:
    """Reads a file in order and hashes all of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data
