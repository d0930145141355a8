"""What a video file says of itself, read without decoding more than one frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpeg,mpegts,mpegvideo,ogg"
"""Only these containers are opened. Playlists (HLS, DASH, concat) name other files and addresses: what calls itself a clip
must not make the packer read those."""

MOST_MISSING = 0.1
"""A clip more than this share of whose frames is missing or does not decode is rejected."""


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
class Facts:
    """A clip's container and its stream of pictures.

    Attributes:
        frames: packets inside the cut.
        origin: time of the first frame inside the cut, in seconds of the file's clock.
        rate: mean frame rate in 1/s, as the container has it.
        codec, pix_fmt, container: FFmpeg's names.
        width, height: stored size in pixels.
        aspect: width of a pixel over its height.
        rotation: degrees by which players turn the picture counter-clockwise.
        sound: whether there is an audio stream.
    """

    frames: int
    origin: float
    rate: float
    codec: str
    pix_fmt: str
    container: str
    width: int
    height: int
    aspect: float
    rotation: int
    sound: bool


def open_clip(source: Path | BinaryIO) -> Any:
    """A container that is read from this file (or these bytes) alone, whatever its name or content say."""
    import av

    # An absolute path cannot be taken for an address ("http:..." is a legal file name).
    return av.open(
        str(source.absolute()) if isinstance(source, Path) else source, options={"format_whitelist": DEMUXERS}
    )


def probe(path: Path, start: float | None = None, end: float | None = None) -> Facts:
    """The facts of a clip, counting only what lies between `start` and `end` seconds.

    Raises:
        BadClip: there is no video stream, no frame of it in the cut, or the first frame does not decode.
        av.error.FFmpegError: the container cannot be read.
    """
    rotation, aspect = _first_frame(path)
    with open_clip(path) as container:
        stream = video_stream(container, path)
        count = 0
        origin: float | None = None
        for packet in container.demux(stream):
            if packet.size == 0 or not within(packet.pts, packet.time_base, start, end):
                continue
            count += 1
            if packet.pts is not None:
                time = float(packet.pts * packet.time_base)
                origin = time if origin is None else min(origin, time)
        if count == 0:
            where = "" if start is None and end is None else " inside the cut"
            raise BadClip("no frames", f"the video stream holds no frame{where}: {path}")
        if start is None and end is None and count < (1 - MOST_MISSING) * stream.frames:
            raise BadClip("undecodable", f"{count} of {stream.frames} frames are in the file: {path}")
        context = stream.codec_context
        return Facts(
            frames=count,
            origin=origin or 0.0,
            rate=float(stream.average_rate or stream.base_rate or 25),
            codec=context.name,
            pix_fmt=context.pix_fmt or "",
            container=container.format.name,
            width=context.width,
            height=context.height,
            aspect=aspect,
            rotation=rotation,
            sound=bool(container.streams.audio),
        )


def video_stream(container: Any, path: Path) -> Any:
    """The first stream of moving pictures, to be decoded by one thread; a cover image in an audio file is none.

    Raises:
        BadClip: there is none.
    """
    import av

    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.codec_context.thread_count = 1
            return stream
    kinds = ", ".join(stream.type for stream in container.streams) or "no stream at all"
    raise BadClip("no video", f"expected a video stream, found {kinds}: {path}")


def within(pts: int | None, time_base: Fraction | None, start: float | None, end: float | None) -> bool:
    """Whether a packet or frame belongs to the cut; one without a time belongs to it if nothing is cut off."""
    if start is None and end is None:
        return True
    if pts is None or time_base is None:
        return False
    seconds = float(pts * time_base)
    return (start is None or seconds >= start) and (end is None or seconds < end)


def _first_frame(path: Path) -> tuple[int, float]:
    """Rotation and pixel aspect, which some containers say in the frames only."""
    import av

    with open_clip(path) as container:
        stream = video_stream(container, path)
        packets = 0
        for packet in container.demux(stream):
            packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                aspect = stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio
                return int(frame.rotation), float(aspect) if aspect else 1.0
    if packets == 0:
        raise BadClip("no frames", f"the video stream holds no frame: {path}")
    raise BadClip("undecodable", f"none of {packets} frames decodes: {path}")
