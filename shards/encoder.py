"""Frames of any size and format to an MP4 of the packed form, in memory."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from shards.audio_track import AudioTrack
from shards.frames import view
from shards.packed_form import TICKS, Coding, add_pictures, picture_packet
from shards.probe import Facts


class Encoder:
    """Writes frames of any size and format as an MP4 of the packed form, into memory."""

    def __init__(self, facts: Facts, coding: Coding) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.facts, self.coding = facts, coding
        self.buffer = io.BytesIO()
        # bitexact leaves out versions and dates: the same input gives the same bytes.
        self.container = av.open(self.buffer, "w", "mp4", container_options={"fflags": "+bitexact"})
        self.stream = add_pictures(self.container, coding.frame_size)
        self.sound: AudioTrack | None = None
        self.to_rgb = VideoReformatter()
        self.tick = -1

    def listen(self, container: Any) -> Any | None:
        """Take over the first audio stream of a source; returns it, or None when there is none."""
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        self.sound = AudioTrack(stream, container.format.name, self.container, origin=self.facts.origin)
        return stream

    def add(self, frame: Any) -> None:
        """Store one frame, at its own time: a variable frame rate stays one."""
        from av.video.reformatter import ColorRange, Interpolation

        found = (
            ColorRange.JPEG if frame.format.is_rgb or frame.format.name.startswith("yuvj") else None
        )  # else what it says
        # As decord does, so that training sees the source's own pixels: accurate rounding would also interpolate colours.
        rgb = self.to_rgb.reformat(
            frame, format="rgb24", src_color_range=found, dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC, threads=1,
        )  # fmt: skip
        seen = view(rgb.to_ndarray(), self.coding.frame_size, self.facts.aspect)
        picture = np.ascontiguousarray(np.rot90(seen, (self.facts.rotation // 90) % 4))
        tick = self.tick + 1 if frame.time is None else round((frame.time - self.facts.origin) * TICKS)
        self.tick = max(self.tick + 1, tick, 0)
        self.container.mux(picture_packet(picture, self.tick, self.stream, self.coding))

    def finish(self) -> bytes:
        """Flush, close and return the file's bytes."""
        if self.sound:
            self.sound.finish()
        self.container.close()
        return self.buffer.getvalue()
