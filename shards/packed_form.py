"""The form in which clips are stored: what training can see of them, as JPEGs in an MP4.

The packed form decides how fast training reads (launch/bench.py pipeline). A reader takes a few frames out of a clip, each
resized and cropped to the model's view. So that much is done once, here, as open_clip does it, and each picture stands
for itself: showing one is decoding one (excerpt.py). Of a long clip, frames that lie evenly over it are stored. Colour
keeps its full resolution (4:4:4): halved colour planes of a picture of 224 pixels cost 5 dB. All DCT coefficients are
rounded alike, to multiples of `quantizer`, so that the error is bounded whatever the picture shows.

docs/benchmarks.md has the time, the room and the quality of this form and of those that were tried.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from shards.probe import Facts

TICKS = 90_000
"""Time base of packed clips: a multiple of the usual frame rates, 30000/1001 included."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How clips are stored.

    Attributes:
        mode: `transcode` to the packed form, or `keep` the source's bytes.
        frame_size: height and width of the stored pictures in pixels: the model's own, 224 in Table 3.
        frames: most frames that are stored of a clip.
        quantizer: what DCT coefficients are rounded to multiples of: smaller is better and larger.
    """

    mode: Literal["transcode", "keep"] = "transcode"
    frame_size: int = 224
    frames: int = 64
    quantizer: int = 6

    def __post_init__(self) -> None:
        # decord cannot show pictures of some sizes below 80 pixels, 72 among them.
        for name, least, most in (("frame_size", 80, 4096), ("frames", 1, 100_000), ("quantizer", 1, 255)):
            if not least <= getattr(self, name) <= most:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: expected {least} to {most}, found {getattr(self, name)}")


def is_packed(facts: Facts, coding: Coding) -> bool:
    """Whether a file has the packed form already, so that encoding it again would only cost quality."""
    return (
        "mp4" in facts.container
        and facts.codec == "mjpeg"
        and facts.pix_fmt == "yuvj444p"
        and facts.width == facts.height == coding.frame_size
        and facts.frames <= coding.frames
        and facts.aspect == 1
        and facts.rotation == 0
    )


def stored_frames(frames: int, most: int) -> np.ndarray:
    """(min(frames, most),) growing numbers of the frames that are stored of a clip of `frames`.

    The first of each of `most` equal segments. A reader that wants the centres of T segments finds the same frames in the
    packed clip as in its source whenever 2·T divides `most`.
    """
    count = min(frames, most)
    return np.arange(count, dtype=np.int64) * frames // max(count, 1)


def add_pictures(container: Any, size: int) -> Any:
    """A stream of JPEGs of size x size pixels in a container that is being written."""
    stream = container.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = size, size, "yuvj444p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
    return stream


def picture_packet(picture: np.ndarray, tick: int, stream: Any, coding: Coding) -> Any:
    """(H, W, 3) uint8 RGB as a packet of that stream, shown at `tick`."""
    import av
    from PIL import Image

    buffer = io.BytesIO()
    tables = [[coding.quantizer] * 64] * 2  # brightness, colour
    Image.fromarray(picture).save(buffer, "JPEG", qtables=tables, subsampling="4:4:4", optimize=True)
    packet = av.Packet(buffer.getvalue())
    packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, TICKS), True
    packet.pts = packet.dts = tick
    return packet
