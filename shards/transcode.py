"""One clip to its packed form, in memory: H.264 with a 256-pixel short side and dense keyframes, in MP4.

The packed form decides how fast training reads (launch/bench.py pipeline): a frame costs the decoding from its
keyframe on, at the stored size. A file that already has the form keeps its bytes. Only PyAV is used, in the calling process.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

TICKS = 90_000
"""Time base of packed clips: a multiple of the usual frame rates, 30000/1001 included."""
MOST_MISSING = 0.1
"""A clip more than this share of whose frames cannot be decoded is rejected."""
FACE_SHORT_SIDE = 480
"""Sampled frames are shrunk to this short side: it bounds memory, and larger faces gain nothing."""
BLACK_LUMA = 24
"""A clip is black when no sampled frame has 1 % of its pixels brighter than this (of 255)."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "mkv", ".webm": "webm", ".avi": "avi", ".flv": "flv"}
"""Member extensions for source bytes that are kept; unknown endings are stored as mp4's."""


class BadClip(ValueError):
    """A clip that cannot be packed.

    Attributes:
        cause: a short fixed phrase, counted in rejected.csv.
        detail: one line for a person.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail

    def __reduce__(self) -> tuple[type[BadClip], tuple[str, str]]:
        return BadClip, (self.cause, self.detail)


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How clips are stored.

    Attributes:
        mode: `transcode` to the packed form, or `keep` the source's bytes.
        short_side: largest height or width, whichever is smaller, in pixels; smaller clips are not enlarged.
        gop: frames from one keyframe to the next.
        crf: x264's constant rate factor: smaller is better and larger.
        preset: x264's preset.
    """

    mode: Literal["transcode", "keep"] = "transcode"
    short_side: int = 256
    gop: int = 4
    crf: int = 14
    preset: str = "veryfast"


@dataclass(kw_only=True)
class Video:
    """A packed clip.

    Attributes:
        data: the container's bytes.
        extension: its member name's ending, without dot.
        frames: number of frames that decode.
        fps: mean frame rate in 1/s.
        duration: seconds.
        kept: whether `data` are the source's own bytes.
        indices: (n,) the wanted frames' numbers, as `sample_indices` gives them.
        sampled: number of a frame -> (H, W, 3) uint8 RGB, for every number in `indices`.
    """

    data: bytes
    extension: str
    frames: int
    fps: float
    duration: float
    kept: bool
    indices: np.ndarray
    sampled: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the container says, without decoding."""

    frames: int
    gop: int
    codec: str
    pix_fmt: str
    container: str
    width: int
    height: int
    square: bool
    rotated: bool


def sample_indices(frames: int, wanted: int) -> np.ndarray:
    """(wanted,) centres of `wanted` equal segments of `frames` frames; numbers repeat in a short clip."""
    return (2 * np.arange(wanted) + 1) * frames // (2 * wanted)


def transcode(
    path: Path, coding: Coding, *, start: float | None = None, end: float | None = None, wanted: int = 64
) -> Video:
    """Check that a clip decodes, bring it to the form that `coding` asks for, and sample frames for the face features.

    Args:
        path: the source file.
        start, end: seconds to cut out; a cut clip is always encoded anew.
        wanted: number of sampled frames.

    Raises:
        BadClip: with the cause: missing, empty, unreadable, no video, no frames, undecodable, black.
    """
    import av

    if not path.is_file():
        raise BadClip("missing", f"no such file: {path}")
    if path.stat().st_size == 0:
        raise BadClip("empty file", f"0 bytes: {path}")
    whole = start is None and end is None
    try:
        facts = probe(path, start, end)
        keep = whole and (coding.mode == "keep" or is_packed(facts, coding))
        video = _decode_and_encode(path, coding, facts.frames, start, end, wanted, keep)
        if video.frames != facts.frames:
            if video.frames < (1 - MOST_MISSING) * facts.frames or keep and coding.mode != "keep":
                found = f"{video.frames} of {facts.frames} frames decode"
                raise BadClip("undecodable", f"{found}: {path}")
            video = _decode_and_encode(path, coding, video.frames, start, end, wanted, keep)
    except av.error.FFmpegError as error:
        raise BadClip("unreadable", f"{error.strerror}: {path}") from error
    if all(np.percentile(frame.max(axis=2), 99) < BLACK_LUMA for frame in video.sampled.values()):
        raise BadClip("black", f"nothing but black in {len(video.sampled)} frames: {path}")
    return video


def probe(path: Path, start: float | None = None, end: float | None = None) -> Facts:
    """Read packets without decoding: number of frames in the cut, longest keyframe distance, codec, size."""
    import av

    with av.open(str(path)) as container:
        stream = _video_stream(container, path)
        count = gap = longest = 0
        for packet in container.demux(stream):
            if packet.size == 0 or not _within(packet.pts, packet.time_base, start, end):
                continue
            count += 1
            gap = 1 if packet.is_keyframe else gap + 1
            longest = max(longest, gap)
        if count == 0:
            raise BadClip("no frames", f"the video stream is empty{'' if start is None else ' in the cut'}: {path}")
        context = stream.codec_context
        ratio = stream.sample_aspect_ratio
        return Facts(
            frames=count,
            gop=longest,
            codec=context.name,
            pix_fmt=context.pix_fmt or "",
            container=container.format.name,
            width=context.width,
            height=context.height,
            square=ratio is None or ratio in (0, 1),
            rotated=_rotation(path, stream) != 0,
        )


def is_packed(facts: Facts, coding: Coding) -> bool:
    """Whether a file has the packed form already, so that encoding it again would only cost quality."""
    return (
        "mp4" in facts.container
        and facts.codec == "h264"
        and facts.pix_fmt == "yuv420p"
        and min(facts.width, facts.height) <= coding.short_side
        and facts.gop <= coding.gop
        and facts.square
        and not facts.rotated
    )


def _video_stream(container: Any, path: Path) -> Any:
    """The first stream of moving pictures; a cover image in an audio file is none."""
    import av

    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.codec_context.thread_count = 1
            return stream
    raise BadClip("no video", f"no video stream among {[s.type for s in container.streams]}: {path}")


def _rotation(path: Path, stream: Any) -> int:
    """Degrees by which players turn the first frame (a telephone's display matrix)."""
    import av

    with av.open(str(path)) as container:
        for frame in _decoded(container, container.streams[stream.index]):
            return frame.rotation
    return 0


def _within(pts: int | None, time_base: Fraction, start: float | None, end: float | None) -> bool:
    if pts is None or start is None and end is None:
        return True
    seconds = float(pts * time_base)
    return (start is None or seconds >= start) and (end is None or seconds < end)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of a stream; packets that cannot be decoded are passed over (the caller counts what comes)."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def _decode_and_encode(
    path: Path, coding: Coding, expected: int, start: float | None, end: float | None, wanted: int, keep: bool
) -> Video:
    """One pass over the clip: every frame is decoded, encoded unless `keep`, and sampled as if there were `expected`."""
    import av

    indices = sample_indices(expected, wanted)
    chosen = set(indices.tolist())
    sampled: dict[int, np.ndarray] = {}
    encoder: Encoder | None = None
    first = last = 0.0
    count = 0
    with av.open(str(path)) as container:
        stream = _video_stream(container, path)
        for frame in _decoded(container, stream):
            if not _within(frame.pts, frame.time_base, start, end):
                continue
            if not keep:
                if encoder is None:
                    encoder = Encoder(frame, coding, stream.average_rate)
                encoder.add(frame)
            if count in chosen:
                sampled[count] = to_rgb(frame, FACE_SHORT_SIDE)
            last = frame.time if frame.time is not None else last
            first = last if count == 0 else first
            count += 1
        rate = stream.average_rate
    if count == 0:
        raise BadClip("no frames" if expected == 0 else "undecodable", f"no frame decodes: {path}")
    fps = (count - 1) / (last - first) if last > first else float(rate or 25)
    data = encoder.finish() if encoder else path.read_bytes()
    extension = "mp4" if encoder else CONTAINERS.get(path.suffix.lower(), "mp4")
    return Video(
        data=data,
        extension=extension,
        frames=count,
        fps=round(fps, 4),
        duration=round(count / fps, 4),
        kept=encoder is None,
        indices=indices,
        sampled=sampled,
    )


def fitted(width: int, height: int, aspect: Fraction | None, short_side: int) -> tuple[int, int]:
    """Even width and height with square pixels and at most `short_side` on the shorter side."""
    wide = width * float(aspect) if aspect else float(width)
    scale = min(1.0, short_side / min(wide, height))
    return max(2, round(wide * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def to_rgb(frame: Any, short_side: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a frame, upright, at most `short_side` on the shorter side."""
    width, height = fitted(frame.width, frame.height, None, short_side)
    picture = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC").to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, (frame.rotation // 90) % 4))


class Encoder:
    """Writes frames of any size and format as an MP4 of the packed form, into memory."""

    def __init__(self, frame: Any, coding: Coding, rate: Fraction | None) -> None:
        import av

        self.turns = (frame.rotation // 90) % 4
        width, height = fitted(frame.width, frame.height, frame_aspect(frame), coding.short_side)
        self.size = (width, height)
        self.buffer = io.BytesIO()
        # bitexact leaves out versions and dates: the same input gives the same bytes.
        self.container = av.open(self.buffer, "w", "mp4", container_options={"fflags": "+bitexact"})
        self.stream = self.container.add_stream("libx264", rate=rate or 25)
        self.stream.width, self.stream.height = (height, width) if self.turns % 2 else (width, height)
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.thread_count = 1
        context.time_base = Fraction(1, TICKS)
        context.options = {
            "preset": coding.preset,
            # No CABAC, no deblocking, no B-frames: half the decoding time for a tenth more bytes.
            "tune": "fastdecode",
            "crf": str(coding.crf),
            "x264-params": f"keyint={coding.gop}:min-keyint={coding.gop}:scenecut=0:bframes=0:threads=1",
        }
        self.origin: float | None = None
        self.tick = -1

    def add(self, frame: Any) -> None:
        """Encode one frame, at its own time: a variable frame rate stays one."""
        import av

        width, height = self.size
        picture = frame.reformat(width=width, height=height, format="yuv420p", interpolation="BICUBIC")
        if self.turns:
            upright = np.ascontiguousarray(np.rot90(picture.to_ndarray(format="rgb24"), self.turns))
            picture = av.VideoFrame.from_ndarray(upright, format="rgb24").reformat(format="yuv420p")
        seconds = frame.time if frame.time is not None else None
        if self.origin is None:
            self.origin = seconds or 0.0
        tick = self.tick + 1 if seconds is None else round((seconds - self.origin) * TICKS)
        self.tick = max(self.tick + 1, tick)
        picture.pts, picture.time_base = self.tick, Fraction(1, TICKS)
        picture.pict_type = av.video.frame.PictureType.NONE
        self.container.mux(self.stream.encode(picture))

    def finish(self) -> bytes:
        """Flush, close and return the file's bytes."""
        self.container.mux(self.stream.encode(None))
        self.container.close()
        return self.buffer.getvalue()


def frame_aspect(frame: Any) -> Fraction | None:
    """Width of a pixel over its height where a frame says so, else None."""
    aspect = getattr(frame, "sample_aspect_ratio", None)
    return aspect if aspect else None
