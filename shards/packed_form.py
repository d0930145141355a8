"""The form in which clips are stored: H.264 with a 256-pixel short side and dense keyframes, in MP4.

The packed form decides how fast training reads (launch/bench.py pipeline): a frame costs the decoding from its
keyframe on, at the stored size. A file that already has the form keeps its bytes.

Measured with crf 15 (one core, 8 frames by decord, clips of 5 s first coded as 640x360 with x264's defaults): 60 to 80 ms
of CPU time from those files, 13 to 20 ms from their packed form, which has 3 to 5 times the bytes. Against the source, at
224x224: PSNR 40.5 to 45 dB, SSIM .99; 38.4 dB for a 720p cartoon, where 4:2:0 colour alone leaves 40.8 dB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from shards.probe import Facts

TICKS = 90_000
"""Time base of packed clips: a multiple of the usual frame rates, 30000/1001 included."""
VIEW = 224
"""Short side that training shows (Table 3); the stored size is chosen so that resizing to it rounds as the source's."""


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
    smallest = VIEW - 1 if largest == VIEW else max(1, int(0.92 * largest))  # at 224 itself training need not resize
    for a in range(largest, smallest, -2):
        below = max(2, int(a * long / short) // 2 * 2)
        sizes += [(int(VIEW * b / a) != view, abs(math.log(b * short / (a * long))), -a, b) for b in (below, below + 2)]
    _, _, minus_a, b = min(sizes)
    return (b, -minus_a) if wide >= high else (-minus_a, b)


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
