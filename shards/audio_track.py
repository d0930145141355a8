"""The sound of a packed clip: AAC is passed on as it is, anything else becomes AAC.

Training of this method hears nothing; the sound is kept for those who read the shards for other purposes. What is wrong with
it never costs a clip: the track ends there.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 11025, 8000)
BITS_PER_CHANNEL = 48_000
"""Bits per second and channel of sound that is encoded anew."""


class AudioTrack:
    """Feeds packets of one audio stream into a container that is being written."""

    def __init__(self, source: Any, source_format: str, target: Any, origin: float) -> None:
        """
        Args:
            source: the audio stream of the opened source.
            source_format: FFmpeg's name of the source's container.
            target: the container being written.
            origin: seconds of the source's clock that become 0.
        """
        import av

        self.target = target
        self.origin = origin
        self.ended = False
        self.last_dts: int | None = None
        context = source.codec_context
        # Only these containers hold AAC as MP4 wants it, with its configuration outside of the packets.
        self.copies = context.name == "aac" and any(name in source_format for name in ("mp4", "matroska"))
        try:
            if self.copies:
                self.stream = target.add_stream_from_template(source)
                return
            rate = context.rate if context.rate in AAC_RATES else 44100
            layout = "mono" if context.channels == 1 else "stereo"
            bits = BITS_PER_CHANNEL * (1 if layout == "mono" else 2)
            self.stream = target.add_stream("aac", rate=rate, layout=layout, bit_rate=bits)
            self.resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024)
            self.samples = 0
        except (av.error.FFmpegError, ValueError):
            self.ended = True

    def add(self, packet: Any, end: float | None) -> None:
        """One packet of the source; what lies before the first frame or after `end` is left out."""
        import av

        if self.ended or packet.pts is None:
            return
        seconds = float(packet.pts * packet.time_base)
        if seconds < self.origin or (end is not None and seconds >= end):
            return
        try:
            self._copy(packet) if self.copies else self._encode(packet.decode())
        except (av.error.FFmpegError, ValueError):
            self.ended = True

    def _copy(self, packet: Any) -> None:
        shift = round(Fraction(self.origin) / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts
        if self.last_dts is not None and packet.dts <= self.last_dts:
            return  # MP4 takes growing times only
        self.last_dts = packet.dts
        packet.stream = self.stream
        self.target.mux(packet)

    def _encode(self, frames: list[Any]) -> None:
        """Encode decoded frames; None flushes."""
        for frame in frames:
            for piece in self.resampler.resample(frame):
                piece.pts, piece.time_base = self.samples, Fraction(1, piece.sample_rate)
                self.samples += piece.samples
                self.target.mux(self.stream.encode(piece))

    def finish(self) -> None:
        """Flush the encoder."""
        import av

        if self.ended or self.copies:
            return
        try:
            self._encode([None])
            self.target.mux(self.stream.encode(None))
        except (av.error.FFmpegError, ValueError):
            self.ended = True
