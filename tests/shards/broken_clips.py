"""Clips of every kind that people have, made with PyAV: good ones in odd forms, and broken ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np


def picture(number: int, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: a gradient, red on the left, with a bright bar that moves."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(230, 20, width, dtype=np.uint8)
    image[..., 1] = np.linspace(20, 200, height, dtype=np.uint8)[:, None]
    left = number * 3 % max(1, width - 8)
    image[:, left : left + 8, 2] = 250
    return image


def write_clip(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (96, 64),
    fps: int = 10,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: list[int] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    black: bool = False,
    sound: str | None = None,
    matrix: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A video file in the container of its ending.

    Args:
        times: time of each frame in milliseconds, for a variable frame rate.
        rotation: degrees counter-clockwise that players turn the picture.
        matrix: number of the YUV matrix, 1 for BT.709; the default is unnamed, BT.601.
        sound: codec of a sound track of a low tone, or None.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.options = options or {}
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix:
            stream.codec_context.colorspace = matrix
        voice = container.add_stream(sound, rate=16000, layout="mono") if sound else None
        for number in range(frames):
            shown = np.zeros((height, width, 3), np.uint8) if black else picture(number, width, height)
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            if matrix:
                frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix)
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice:
            for piece in tone(frames / fps):
                container.mux(voice.encode(piece))
            container.mux(voice.encode(None))
    return path


def tone(seconds: float) -> list[object]:
    """Audio frames of 1024 samples at 16 kHz."""
    import av

    pieces: list[object] = []
    wave = (0.2 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * 16000)) / 16000)).astype(np.float32)
    for start in range(0, len(wave) - 1023, 1024):
        piece = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = 16000, start, Fraction(1, 16000)
        pieces.append(piece)
    return pieces


def write_sound_only(path: Path) -> Path:
    """An MP4 with an audio stream and nothing to see."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        voice = container.add_stream("aac", rate=16000, layout="mono")
        for piece in tone(0.5):
            container.mux(voice.encode(piece))
        container.mux(voice.encode(None))
    return path


def write_no_frames(path: Path) -> Path:
    """An MP4 with sound and a video stream that holds no frame."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        voice = container.add_stream("aac", rate=16000, layout="mono")
        for piece in tone(0.5):
            container.mux(voice.encode(piece))
        container.mux(voice.encode(None))
    return path


def corrupt(path: Path, start: float, end: float, seed: int = 0) -> Path:
    """Replace a part of a file, given as shares of its length, by random bytes."""
    data = bytearray(path.read_bytes())
    at, to = int(start * len(data)), int(end * len(data))
    data[at:to] = np.random.default_rng(seed).bytes(to - at)
    path.write_bytes(data)
    return path
