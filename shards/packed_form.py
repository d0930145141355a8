"""The form in which clips are stored: what training sees of them before the crop, as H.264 with dense keyframes, in MP4.

The packed form decides how fast training reads (launch/bench.py pipeline): a frame costs the decoding from its
keyframe on, and what is left to resize. So the short side is resized to the model's view once, here, as open_clip does it;
colour keeps its full resolution (4:4:4), since halved colour planes of a picture of 224 pixels cost 3 dB. A file that
already has the form keeps its bytes.

docs/benchmarks.md has the time, the room and the quality of this form and of those that were tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from shards.frames import size_at
from shards.probe import Facts

TICKS = 90_000
"""Time base of packed clips: a multiple of the usual frame rates, 30000/1001 included."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How clips are stored.

    Attributes:
        mode: `transcode` to the packed form, or `keep` the source's bytes.
        short_side: largest height or width, whichever is smaller, in pixels: the model's own, 224 in Table 3.
            Smaller clips are not enlarged.
        gop: frames from one keyframe to the next.
        crf: x264's constant rate factor: smaller is better and larger.
        preset: x264's preset.
    """

    mode: Literal["transcode", "keep"] = "transcode"
    short_side: int = 224
    gop: int = 2
    crf: int = 13
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
        and facts.pix_fmt in ("yuv444p", "yuv420p")
        and min(facts.width, facts.height) <= coding.short_side
        and facts.gop <= coding.gop
        and facts.aspect == 1
        and facts.rotation == 0
    )


def stored_size(width: int, height: int, aspect: float, short_side: int) -> tuple[int, int]:
    """Width and height of the stored picture: square pixels, not enlarged, `short_side` as open_clip resizes to it."""
    wide = width * aspect
    if min(wide, height) <= short_side:
        return max(1, round(wide)), height
    return size_at(wide, height, short_side)


def add_packed_video(container: Any, width: int, height: int, rate: Fraction | None, coding: Coding) -> Any:
    """A video stream of the packed form in a container that is being written."""
    stream = container.add_stream("libx264", rate=rate or 25)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
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
