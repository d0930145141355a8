"""Draws the clips of the sample corpus: a talking face per sentence, with a hum for a voice, as MP4 files."""

from __future__ import annotations

import io
import math
import multiprocessing
import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from shards.durable import write_whole
from shards.sources.sample import LIKENESS, Sentence, fingerprint, speaker_name, write_labels
from shards.transcode import Coding

FPS = 13
SOUND_RATE = 16_000
LABEL_STD = 1.135
"""Standard deviation of the sentences' labels."""
EXPRESSION_STD = 0.5
"""Of the expression drawn, which is cut at -1 and 1."""


def draw_corpus(root: Path, rows: list[Sentence], workers: int | None = None) -> None:
    """Make the corpus below `root`, unless it is complete there; clips that exist already stay.

    Raises:
        ValueError: `root` holds another corpus.
    """
    from tqdm import tqdm

    stamp, wanted = root / "corpus", fingerprint(rows)
    if stamp.exists() and stamp.read_text() != wanted:
        raise ValueError(
            f"{root}: expected an empty folder or this corpus, found another number of clips; choose another --root"
        )
    if (root / "label.csv").exists() and stamp.exists():
        return
    if not stamp.exists() and root.exists() and any(root.iterdir()):
        raise ValueError(
            f"{root}: expected an empty folder for the sample corpus, found other files; choose another --root"
        )
    write_whole(stamp, wanted.encode())
    tasks = [(root, row) for row in rows]
    with multiprocessing.get_context("forkserver").Pool(workers or len(os.sched_getaffinity(0))) as pool:
        made = pool.imap_unordered(_draw_one, tasks, chunksize=4)
        for _ in tqdm(made, total=len(tasks), unit="clip", desc="drawing", mininterval=1.0):
            pass
    write_labels(root, rows)


def _draw_one(task: tuple[Path, Sentence]) -> None:
    root, row = task
    path = root / "Raw" / speaker_name(row) / f"{row.clip}.mp4"
    if not path.exists():
        write_whole(path, clip_bytes(row))


def expression(row: Sentence) -> float:
    """What the face shows, in [-1, 1]: the label with correlation `LIKENESS`, and noise of the clip's own."""
    rng = np.random.default_rng([int(row.number), 1])
    score = LIKENESS * row.label / LABEL_STD + math.sqrt(1 - LIKENESS**2) * rng.standard_normal()
    return float(np.clip(EXPRESSION_STD * score, -1, 1))


def clip_bytes(row: Sentence) -> bytes:
    """The MP4 file of one sentence."""
    from shards.drawn_face import clip

    _, _, frames, _ = clip(row.speaker, expression(row), FPS)
    return encode(frames, hum(row.speaker, len(frames) / FPS))


def hum(speaker: int, seconds: float) -> np.ndarray:
    """(n,) float32 sound of a voice without words: a few harmonics in syllables."""
    rng = np.random.default_rng([speaker, 2])
    t = np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE
    pitch = rng.uniform(90, 230) * (1 + 0.04 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / SOUND_RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 6))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2.5, 4) * t), 0, 1)
    return (0.15 * tone * syllables).astype(np.float32)


def encode(frames: np.ndarray, sound: np.ndarray) -> bytes:
    """(n, H, W, 3) uint8 RGB and (m,) float32 at 16 kHz as MP4: H.264 in the packed form, AAC."""
    import av

    coding = Coding()
    buffer = io.BytesIO()
    with av.open(buffer, "w", "mp4", container_options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FPS)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.options = {
            "preset": coding.preset,
            "tune": "fastdecode",
            "crf": "24",
            "x264-params": f"keyint={coding.gop}:min-keyint={coding.gop}:scenecut=0:bframes=0:threads=1",
        }
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono", bit_rate=32_000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, len(sound), 1024):
            part = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
            part.sample_rate, part.pts, part.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return buffer.getvalue()
