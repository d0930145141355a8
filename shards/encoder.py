"""Frames of any size and format to an MP4 of the packed form, in memory."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np

from shards.audio_track import AudioTrack
from shards.frames import resize
from shards.packed_form import TICKS, Coding, add_packed_video, stored_size
from shards.probe import Facts


class Encoder:
    """Writes frames of any size and format as an MP4 of the packed form, into memory."""

    def __init__(self, facts: Facts, coding: Coding) -> None:
        import av
        from av.video.reformatter import Interpolation, VideoReformatter

        self.facts = facts
        self.turns = (facts.rotation // 90) % 4
        self.size = stored_size(facts.width, facts.height, facts.aspect, coding.short_side)
        self.buffer = io.BytesIO()
        # bitexact leaves out versions and dates: the same input gives the same bytes.
        self.container = av.open(self.buffer, "w", "mp4", container_options={"fflags": "+bitexact"})
        upright = self.size[::-1] if self.turns % 2 else self.size
        self.stream = add_packed_video(self.container, *upright, Fraction(facts.rate).limit_denominator(1001), coding)
        self.sound: AudioTrack | None = None
        self.to_rgb, self.to_yuv = VideoReformatter(), VideoReformatter()
        # As decord does, so that training sees the source's own pixels: accurate rounding would also interpolate colours.
        self.as_readers = {"interpolation": Interpolation.BICUBIC, "threads": 1}
        self.exact = {"interpolation": Interpolation.BICUBIC | Interpolation.ACCURATE_RND, "threads": 1}
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
        import av
        from av.video.reformatter import ColorRange

        if self.tick < 0:
            self._tag(frame)
        full, limited = ColorRange.JPEG, ColorRange.MPEG
        found = full if frame.format.is_rgb or frame.format.name.startswith("yuvj") else None  # else what it says
        rgb = self.to_rgb.reformat(
            frame, format="rgb24", src_color_range=found, dst_color_range=full, **self.as_readers
        )
        pixels = np.ascontiguousarray(np.rot90(resize(rgb.to_ndarray(), *self.size), self.turns))
        picture = self.to_yuv.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"), format="yuv444p", src_color_range=full,
            dst_color_range=limited, dst_colorspace=self.matrix, **self.exact,
        )  # fmt: skip
        tick = self.tick + 1 if frame.time is None else round((frame.time - self.facts.origin) * TICKS)
        self.tick = max(self.tick + 1, tick, 0)
        picture.pts, picture.time_base = self.tick, Fraction(1, TICKS)
        picture.pict_type = 0  # the encoder's choice, not the source's
        self.container.mux(self.stream.encode(picture))

    def _tag(self, frame: Any) -> None:
        """Say which YUV matrix the numbers mean: the source's, so that readers show what they show of the source."""
        RGB, UNSPECIFIED = 0, 2
        self.matrix = UNSPECIFIED if frame.colorspace == RGB else int(frame.colorspace)
        context = self.stream.codec_context
        context.colorspace = self.matrix
        context.color_primaries = frame.color_primaries
        context.color_trc = frame.color_trc

    def finish(self) -> bytes:
        """Flush, close and return the file's bytes."""
        self.container.mux(self.stream.encode(None))
        if self.sound:
            self.sound.finish()
        self.container.close()
        return self.buffer.getvalue()
