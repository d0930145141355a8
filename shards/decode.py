"""From a sample's place in a tar to its text, label, features and frames.

One `pread` fetches all members of a sample, which are neighbours. Their CRC-32 is compared with the index's before any
of them is looked at; then KEY.json and the arrays are read and, when asked for, T frames are decoded. This runs in a
decoder process (pool.py), or in the caller's when it asked for no workers.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.excerpt import pictures
from shards.frames import sample_key, segment_centres, segment_random, show
from shards.index import Member
from shards.sample import BadSample, is_container, limit_of, parse_arrays, parse_meta, video_suffix


@dataclass(frozen=True, kw_only=True)
class Job:
    """One sample to read.

    Attributes:
        members: its members by ending, in file order.
        view: which random frames to show, None for the middle of each segment.
        video: whether frames are wanted.
    """

    members: dict[str, Member]
    view: int | None = None
    video: bool = True


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a decoder is told once.

    Attributes:
        frames: T, frames per clip.
        frame_size: their height and width in pixels.
        seed: the run's seed.
        faces: whether face features are wanted.
    """

    frames: int = 8
    frame_size: int = 224
    seed: int = 0
    faces: bool = True

    @property
    def frames_shape(self) -> tuple[int, int, int, int]:
        """(T, 3, H, W)."""
        return self.frames, 3, self.frame_size, self.frame_size


@dataclass(kw_only=True)
class Sample:
    """What a decoder found; frames are written elsewhere (`decode`'s `out`)."""

    id: str
    dataset: str
    text: str
    label: float
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    video: bool = False


def read_members(descriptor: int, members: dict[str, Member]) -> dict[str, bytes]:
    """The bytes of a sample's members, from an open tar, checked against the index's CRC-32.

    Raises:
        BadSample: unreadable, truncated or damaged, or larger than such a member may be.
    """
    for suffix, member in members.items():
        if member.size > limit_of(suffix):
            raise BadSample("invalid", f"{member.size} bytes, more than the {limit_of(suffix)} that are read", suffix)
    start = min(member.offset for member in members.values())
    stop = max(member.offset + member.size for member in members.values())
    try:
        data = memoryview(_pread(descriptor, stop - start, start))
    except OSError as error:
        raise BadSample("unreadable", f"{error.strerror or error}") from error
    found = {}
    for suffix, member in members.items():
        at = member.offset - start
        part = data[at : at + member.size]
        if len(part) < member.size:
            raise BadSample("truncated", f"the tar ends {member.size - len(part)} bytes too early", suffix)
        if zlib.crc32(part) != member.crc:
            raise BadSample("damaged", "the bytes are not those that were packed (CRC-32)", suffix)
        found[suffix] = bytes(part) if suffix == "json" or suffix.endswith(".npy") else part
    return found  # type: ignore[return-value]


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def decode(descriptor: int, job: Job, settings: Settings, out: np.ndarray) -> Sample:
    """Read one sample.

    Args:
        descriptor: the open tar.
        out: (T, 3, H, W) uint8, takes the frames when `job.video`.

    Raises:
        BadSample: with a cause of `clip.Fault`, and the sample's id when that much was readable.
    """
    wanted = {
        suffix: member
        for suffix, member in job.members.items()
        if suffix in ("json", "audio.npy", "visual.npy")
        or (suffix == "faces.npy" and settings.faces)
        or (job.video and not suffix.endswith(".npy"))
    }
    if "json" not in wanted:
        raise BadSample("missing", "the sample has no KEY.json")
    try:
        members = read_members(descriptor, wanted)
    except BadSample as error:
        with contextlib.suppress(BadSample):  # KEY.json may be fine: people look for ids
            error.id = parse_meta(read_members(descriptor, {"json": wanted["json"]})["json"])["id"]
        raise
    meta = parse_meta(members["json"])
    sample = Sample(id=meta["id"], dataset=meta["dataset"], text=meta["text"], label=float(meta["label"]))
    try:
        sample.arrays = parse_arrays(members)
        if job.video:
            suffix = video_suffix(members)
            if suffix is None:
                raise BadSample("missing", "the sample has no video")
            key = None if job.view is None else sample_key(settings.seed, job.view, sample.dataset, sample.id)
            _decode_video(members[suffix], suffix, meta.get("frames"), key, out)
            sample.video = True
    except BadSample as error:
        error.id = sample.id
        raise
    return sample


class _File:
    """What decord reads a clip from; io.BytesIO would copy the bytes once more."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self) -> bytes:
        """All of it."""
        return self.data


def _reader(data: bytes) -> Any:
    import decord

    # One thread: processes are the unit of parallelism, and a reader's own threads outlive a failed open.
    return decord.VideoReader(_File(data), num_threads=1)


def _decode_video(data: bytes, suffix: str, packed: object, key: int | None, out: np.ndarray) -> None:
    """Show frames of a clip in `out`; `packed` is how many frames were decoded when the clip was packed."""
    import decord

    if not is_container(data):
        raise BadSample("undecodable", "expected a video file, found another kind of file", suffix)
    decord.logging.set_level(decord.logging.QUIET)
    try:
        stored = pictures(data)
        source: Any = _reader(data) if stored is None else stored
        total, count = len(source), len(out)
        if isinstance(packed, int) and packed > 0:
            # A file may claim more frames than it shows (an edit list): decord repeats the last one in their place, and
            # past 128 of them it never returns (its issue 373).
            total = min(total, packed)
        if total < 1:
            raise BadSample("undecodable", "the video has no frame", suffix)
        numbers = segment_centres(total, count) if key is None else segment_random(total, count, key)
        if stored is not None:
            source, numbers = _reader(stored.avi(numbers.tolist())), np.arange(count)
        show(source.get_batch(numbers).asnumpy(), out)
    except BadSample:
        raise
    except (decord.DECORDError, RuntimeError, ValueError, IndexError, MemoryError) as error:
        # decord quotes the file's bytes before the cause.
        reason = " ".join(str(error).rsplit(", ", 1)[-1].split())[-200:]
        raise BadSample("undecodable", reason if reason.isprintable() else type(error).__name__, suffix) from error
