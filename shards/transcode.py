"""One clip, read from end to end: checked, brought to the packed form, sampled for the face features.

Only PyAV is used, in this process: no command line ever sees a file name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shards.encoder import Encoder
from shards.frames import segment_centres, size_at
from shards.packed_form import Coding, is_packed, stored_frames
from shards.probe import MOST_MISSING, BadClip, Facts, open_clip, probe, video_stream, within
from shards.sample import is_container

FACE_SHORT_SIDE = 480
"""Sampled frames are shrunk to this short side: it bounds memory, and larger faces gain nothing."""
BLACK_LUMA = 24
"""A clip is black when no sampled frame has 1 % of its pixels brighter than this (of 255)."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "mkv", ".webm": "webm", ".avi": "avi", ".flv": "flv"}
"""Member endings for source bytes that are kept, by the file's own; what is not listed is stored as .mp4."""


@dataclass(kw_only=True)
class Video:
    """A packed clip.

    Attributes:
        data: the container's bytes.
        extension: its member name's ending, without dot.
        frames: number of frames stored.
        decoded: number of frames of the source that decode.
        fps: the source's mean frame rate in 1/s.
        duration: seconds.
        kept: whether `data` are the source's own bytes.
        sound: whether the source has an audio stream.
        indices: (n,) the wanted frames' numbers in the source, the centres of equal segments; they repeat in a short clip.
        sampled: number of a frame -> (H, W, 3) uint8 RGB, for every number in `indices`.
    """

    data: bytes
    extension: str
    frames: int
    decoded: int
    fps: float
    duration: float
    kept: bool
    sound: bool
    indices: np.ndarray
    sampled: dict[int, np.ndarray] = field(default_factory=dict)


def transcode(
    path: Path, coding: Coding, *, start: float | None = None, end: float | None = None, wanted: int = 64
) -> Video:
    """Check that a clip decodes, bring it to the form that `coding` asks for, and sample frames for the face features.

    Args:
        path: the source file.
        start, end: seconds to cut out; a cut clip is always encoded anew.
        wanted: number of sampled frames.

    Raises:
        BadClip: with the cause: missing, empty file, unreadable, no video, no frames, undecodable, black.
    """
    import av

    if not path.is_file():
        raise BadClip("missing", f"no such file: {path}")
    if path.stat().st_size == 0:
        raise BadClip("empty file", f"0 bytes: {path}")
    try:
        facts = probe(path, start, end)
        packed = is_packed(facts, coding)
        keep = start is None and end is None and (packed or (coding.mode == "keep" and _is_readable(path)))
        one_pass = _Pass(path, coding, facts, start, end, wanted, keep)
        video = one_pass(expected=facts.frames)
        if video.decoded != facts.frames:
            if video.decoded < (1 - MOST_MISSING) * facts.frames:
                raise BadClip("undecodable", f"{video.decoded} of {facts.frames} frames decode: {path}")
            # Once more, so that the chosen frames are spread over those that do decode; and a flaw is not kept.
            one_pass.keep = keep and coding.mode == "keep"
            video = one_pass(expected=video.decoded)
    except av.error.FFmpegError as error:
        raise BadClip("unreadable", f"{error.strerror}: {path}") from error
    if all(np.percentile(frame.max(axis=2), 99) < BLACK_LUMA for frame in video.sampled.values()):
        raise BadClip("black", f"nothing but black in {len(video.sampled)} frames: {path}")
    return video


def _is_readable(path: Path) -> bool:
    """Whether readers of shards accept the file's container."""
    with path.open("rb") as file:
        return is_container(file.read(512))


@dataclass
class _Pass:
    """Reads a clip from end to end: every frame is decoded, the chosen ones are stored unless `keep`, and sampled."""

    path: Path
    coding: Coding
    facts: Facts
    start: float | None
    end: float | None
    wanted: int
    keep: bool

    def __call__(self, expected: int) -> Video:
        """Choose as if there were `expected` frames."""
        indices = segment_centres(expected, self.wanted)
        chosen = set(indices.tolist())
        stored = set(stored_frames(expected, self.coding.frames).tolist())
        sampled: dict[int, np.ndarray] = {}
        encoder = None if self.keep else Encoder(self.facts, self.coding)
        first = last = 0.0
        count = 0
        for frame in self._frames(encoder):
            last = frame.time if frame.time is not None else last
            first = last if count == 0 else first
            if count in chosen:
                sampled[count] = to_rgb(frame, FACE_SHORT_SIDE)
            if encoder and count in stored:
                encoder.add(frame)
            count += 1
        if count == 0:
            raise BadClip("undecodable", f"no frame decodes: {self.path}")
        fps = (count - 1) / (last - first) if last > first else self.facts.rate
        return Video(
            data=encoder.finish() if encoder else self.path.read_bytes(),
            extension="mp4" if encoder else CONTAINERS.get(self.path.suffix.lower(), "mp4"),
            frames=len(stored) if encoder else count,
            decoded=count,
            fps=round(fps, 4),
            duration=round(count / fps, 4),
            kept=encoder is None,
            sound=self.facts.sound,
            indices=indices,
            sampled=sampled,
        )

    def _frames(self, encoder: Encoder | None) -> Iterator[Any]:
        """Frames inside the cut; sound goes to the encoder on the way. Packets that do not decode are passed over."""
        import av

        with open_clip(self.path) as container:
            video = video_stream(container, self.path)
            audio = encoder.listen(container) if encoder else None
            for packet in container.demux([video] if audio is None else [video, audio]):
                if packet.stream is audio:
                    assert encoder is not None and encoder.sound is not None
                    encoder.sound.add(packet, self.end)
                    continue
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue
                yield from (frame for frame in frames if within(frame.pts, frame.time_base, self.start, self.end))


def to_rgb(frame: Any, short_side: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a frame, upright, at most `short_side` on the shorter side."""
    width, height = frame.width, frame.height
    if min(width, height) > short_side:
        width, height = size_at(width, height, short_side)
    picture = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC", threads=1)
    return np.ascontiguousarray(np.rot90(picture.to_ndarray(), (frame.rotation // 90) % 4))
