"""One clip to its packed form, in memory: H.264 with a 256-pixel short side and dense keyframes, in MP4.

The packed form decides how fast training reads (launch/bench.py pipeline): a frame costs the decoding from its
keyframe on, at the stored size. A file that already has the form keeps its bytes. Only PyAV is used, in this process.

Measured with crf 15 (one core, 8 frames by decord, clips of 5 s first coded as 640x360 with x264's defaults): 60 to 80 ms
of CPU time from those files, 13 to 20 ms from their packed form, which has 3 to 5 times the bytes. Against the source, at
224x224: PSNR 40.5 to 45 dB, SSIM .99; 38.4 dB for a 720p cartoon, where 4:2:0 colour alone leaves 40.8 dB.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shards.audio_track import AudioTrack
from shards.probe import MOST_MISSING, BadClip, Facts, open_clip, probe, video_stream, within
from shards.sample import is_container

TICKS = 90_000
"""Time base of packed clips: a multiple of the usual frame rates, 30000/1001 included."""
VIEW = 224
"""Short side that training shows (Table 3); the stored size is chosen so that resizing to it rounds as the source's."""
FACE_SHORT_SIDE = 480
"""Sampled frames are shrunk to this short side: it bounds memory, and larger faces gain nothing."""
BLACK_LUMA = 24
"""A clip is black when no sampled frame has 1 % of its pixels brighter than this (of 255)."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "mkv", ".webm": "webm", ".avi": "avi", ".flv": "flv"}
"""Member endings for source bytes that are kept, by the file's own; what is not listed is stored as .mp4."""


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
    crf: int = 15
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        for name, least, most in (("short_side", 16, 4096), ("gop", 1, 1000), ("crf", 0, 51)):
            if not least <= getattr(self, name) <= most:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: expected {least} to {most}, found {getattr(self, name)}")


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
        sound: whether the source has an audio stream.
        indices: (n,) the wanted frames' numbers, as `sample_indices` gives them.
        sampled: number of a frame -> (H, W, 3) uint8 RGB, for every number in `indices`.
    """

    data: bytes
    extension: str
    frames: int
    fps: float
    duration: float
    kept: bool
    sound: bool
    indices: np.ndarray
    sampled: dict[int, np.ndarray] = field(default_factory=dict)


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
        if video.frames != facts.frames:
            if video.frames < (1 - MOST_MISSING) * facts.frames:
                raise BadClip("undecodable", f"{video.frames} of {facts.frames} frames decode: {path}")
            # Once more, so that the sampled frames are spread over those that do decode; and a flaw is not kept.
            one_pass.keep = keep and coding.mode == "keep"
            video = one_pass(expected=video.frames)
    except av.error.FFmpegError as error:
        raise BadClip("unreadable", f"{error.strerror}: {path}") from error
    if all(np.percentile(frame.max(axis=2), 99) < BLACK_LUMA for frame in video.sampled.values()):
        raise BadClip("black", f"nothing but black in {len(video.sampled)} frames: {path}")
    return video


def _is_readable(path: Path) -> bool:
    """Whether readers of shards accept the file's container."""
    with path.open("rb") as file:
        return is_container(file.read(512))


def is_packed(facts: Facts, coding: Coding) -> bool:
    """Whether a file has the packed form already, so that encoding it again would only cost quality."""
    return (
        "mp4" in facts.container
        and facts.codec == "h264"
        and facts.pix_fmt == "yuv420p"
        and min(facts.width, facts.height) <= coding.short_side
        and facts.gop <= coding.gop
        and facts.aspect == 1
        and facts.rotation == 0
    )


@dataclass
class _Pass:
    """Reads a clip from end to end: every frame is decoded, encoded unless `keep`, and sampled."""

    path: Path
    coding: Coding
    facts: Facts
    start: float | None
    end: float | None
    wanted: int
    keep: bool

    def __call__(self, expected: int) -> Video:
        """Sample as if there were `expected` frames."""
        indices = sample_indices(expected, self.wanted)
        chosen = set(indices.tolist())
        sampled: dict[int, np.ndarray] = {}
        encoder = None if self.keep else Encoder(self.facts, self.coding, self.path)
        first = last = 0.0
        count = 0
        for frame in self._frames(encoder):
            # Before encoding, which gives a frame of the right size and format another time of its own.
            last = frame.time if frame.time is not None else last
            first = last if count == 0 else first
            if count in chosen:
                sampled[count] = to_rgb(frame, FACE_SHORT_SIDE)
            if encoder:
                encoder.add(frame)
            count += 1
        if count == 0:
            raise BadClip("undecodable", f"no frame decodes: {self.path}")
        fps = (count - 1) / (last - first) if last > first else self.facts.rate
        return Video(
            data=encoder.finish() if encoder else self.path.read_bytes(),
            extension="mp4" if encoder else CONTAINERS.get(self.path.suffix.lower(), "mp4"),
            frames=count,
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


def fitted(width: int, height: int, aspect: float, short_side: int) -> tuple[int, int]:
    """Even width and height of the stored picture: square pixels, at most `short_side` on the shorter side.

    Both sides must be even for 4:2:0 colour, which bends the aspect ratio; and training resizes to a short side of
    224 and rounds the other one. Of the sizes from `short_side` down to 92 % of it, this is the one whose view of 224
    rounds as the source's own and whose ratio is nearest: without it a view is shifted by half a pixel (30 dB).
    """
    wide, high = width * aspect, float(height)
    short, long = min(wide, high), max(wide, high)
    if short <= short_side and aspect == 1 and width % 2 == 0 and height % 2 == 0:
        return width, height
    view = int(VIEW * long / short)
    largest = max(2, int(min(short_side, short)) // 2 * 2)
    sizes = []
    for a in range(largest, max(1, int(0.92 * largest)), -2):
        below = max(2, int(a * long / short) // 2 * 2)
        sizes += [(int(VIEW * b / a) != view, abs(math.log(b * short / (a * long))), -a, b) for b in (below, below + 2)]
    _, _, minus_a, b = min(sizes)
    return (b, -minus_a) if wide >= high else (-minus_a, b)


def to_rgb(frame: Any, short_side: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a frame, upright, at most `short_side` on the shorter side."""
    width, height = fitted(frame.width, frame.height, 1.0, short_side)
    picture = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC", threads=1)
    return np.ascontiguousarray(np.rot90(picture.to_ndarray(), (frame.rotation // 90) % 4))


def add_packed_video(container: Any, width: int, height: int, rate: Fraction | None, coding: Coding) -> Any:
    """A video stream of the packed form in a container that is being written."""
    stream = container.add_stream("libx264", rate=rate or 25)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = Fraction(1, TICKS)
    context.options = {
        "preset": coding.preset,
        # fastdecode: no CABAC, no deblocking, half the decoding time for a tenth more bytes. psnr: the reader is a
        # network, and +0.5 to +1.2 dB come at about the same size.
        "tune": "psnr,fastdecode",
        "crf": str(coding.crf),
        # Without mbtree, which looks ahead over more frames than there are between keyframes, and in which x264 reads
        # memory that it never set: with MALLOC_PERTURB_=1 the same clip gave other bytes.
        "x264-params": f"keyint={coding.gop}:min-keyint={coding.gop}:scenecut=0:bframes=0:no-mbtree=1:rc-lookahead=0:threads=1",
    }
    return stream


class Encoder:
    """Writes frames of any size and format as an MP4 of the packed form, into memory."""

    def __init__(self, facts: Facts, coding: Coding, path: Path) -> None:
        import av
        from av.video.reformatter import Interpolation, VideoReformatter

        self.facts = facts
        self.turns = (facts.rotation // 90) % 4
        self.size = fitted(facts.width, facts.height, facts.aspect, coding.short_side)
        self.buffer = io.BytesIO()
        # bitexact leaves out versions and dates: the same input gives the same bytes.
        self.container = av.open(self.buffer, "w", "mp4", container_options={"fflags": "+bitexact"})
        upright = self.size[::-1] if self.turns % 2 else self.size
        self.stream = add_packed_video(self.container, *upright, Fraction(facts.rate).limit_denominator(1001), coding)
        self.sound: AudioTrack | None = None
        self.reformatter = VideoReformatter()
        # The same result on every processor.
        self.scaling = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        self.tick = -1

    def listen(self, container: Any) -> Any | None:
        """Take over the first audio stream of a source; returns it, or None when there is none."""
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        self.sound = AudioTrack(stream, container.format.name, self.container, origin=self.facts.origin)
        return stream

    def add(self, frame: Any) -> None:
        """Encode one frame, at its own time: a variable frame rate stays one."""
        from av.video.reformatter import ColorRange

        if self.tick < 0:
            self._tag(frame)
        full_range = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        ranges = {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.MPEG} if full_range else {}
        width, height = self.size
        picture = self.reformatter.reformat(
            frame, width, height, "yuv420p", interpolation=self.scaling, threads=1, **ranges
        )
        if self.turns:
            picture = turned(picture, self.turns)
        tick = self.tick + 1 if frame.time is None else round((frame.time - self.facts.origin) * TICKS)
        self.tick = max(self.tick + 1, tick, 0)
        picture.pts, picture.time_base = self.tick, Fraction(1, TICKS)
        picture.pict_type = 0  # the encoder's choice, not the source's
        self.container.mux(self.stream.encode(picture))

    def _tag(self, frame: Any) -> None:
        """Say which YUV matrix the numbers mean: they stay the source's."""
        context = self.stream.codec_context
        context.colorspace = frame.colorspace
        context.color_primaries = frame.color_primaries
        context.color_trc = frame.color_trc

    def finish(self) -> bytes:
        """Flush, close and return the file's bytes."""
        self.container.mux(self.stream.encode(None))
        if self.sound:
            self.sound.finish()
        self.container.close()
        return self.buffer.getvalue()


def turned(picture: Any, turns: int) -> Any:
    """A yuv420p frame turned counter-clockwise by `turns` quarters."""
    import av

    width, height = picture.width, picture.height
    flat = picture.to_ndarray().reshape(-1)
    sizes = [(height, width), (height // 2, width // 2), (height // 2, width // 2)]
    planes, at = [], 0
    for rows, columns in sizes:
        plane = flat[at : at + rows * columns].reshape(rows, columns)
        planes.append(np.rot90(plane, turns).reshape(-1))
        at += rows * columns
    columns = height if turns % 2 else width
    return av.VideoFrame.from_ndarray(np.concatenate(planes).reshape(-1, columns), format="yuv420p")
