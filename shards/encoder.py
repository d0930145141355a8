"""Frames of any size and format to an MP4 of the packed form, in memory."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np

from shards.audio_track import AudioTrack
from shards.packed_form import TICKS, Coding, add_packed_video, fitted
from shards.probe import Facts


class Encoder:
    """Writes frames of any size and format as an MP4 of the packed form, into memory."""

    def __init__(self, facts: Facts, coding: Coding) -> None:
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
