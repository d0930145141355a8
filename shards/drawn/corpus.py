"""Draws the clips of the sample corpus: a talking face per sentence, with a hum for a voice, as MP4 files."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from shards.durable import write_whole
from shards.progress import Progress
from shards.sources.sample import Sentence, write_labels

FPS = 13
SECONDS = (2.0, 2.6)
CODING = {"preset": "veryfast", "tune": "psnr", "crf": "24", "x264-params": "no-mbtree=1:rc-lookahead=0:threads=1"}
"""Of the pictures, with x264. Camera noise would cost four times the bytes at a finer quality. With mbtree, which looks ahead,
x264 reads memory that it never set: with MALLOC_PERTURB_=1 the same clip gave other bytes."""
SOUND_RATE = 16_000
SOUND_FRAME = 1024
"""Samples per AAC frame."""

LIKENESS = 0.8
"""Correlation of the expression drawn with the label; `EXPRESSION_STD` and the cut at +-1 leave little of it out."""
LABEL_STD = 1.135
"""Standard deviation of the sentences' labels."""
EXPRESSION_STD = 0.5
REVISION = 2
"""Raised when the drawings change, so that an older corpus is not taken for a new one."""


def draw_corpus(root: Path, sentences: list[Sentence], workers: int | None = None) -> None:
    """Make the corpus below `root`, unless it is complete there; clips that exist already stay.

    Raises:
        ValueError: `root` holds something else.
    """
    stamp, wanted = root / "corpus.json", _stamp(sentences)
    if stamp.exists() and stamp.read_text() != wanted:
        raise ValueError(
            f"{root}: expected an empty folder or this sample corpus, found another one (other --clips, or an older "
            "version of it); remove it or choose another --root"
        )
    if stamp.exists() and (root / "label.csv").exists():
        return
    if not stamp.exists() and root.exists() and any(root.iterdir()):
        raise ValueError(
            f"{root}: expected an empty folder for the sample corpus, found other files; choose another --root"
        )
    write_whole(stamp, wanted.encode())
    speakers = [list(group) for _, group in itertools.groupby(_by_speaker(sentences), key=lambda row: row.speaker)]
    with Progress("drawing", len(sentences), "clips") as bar:
        with multiprocessing.get_context("forkserver").Pool(workers or len(os.sched_getaffinity(0))) as pool:
            for drawn in pool.imap_unordered(_draw_speaker, [(root, rows) for rows in speakers]):
                bar.update(drawn)
    write_labels(root, sentences)


def _by_speaker(sentences: Iterable[Sentence]) -> list[Sentence]:
    return sorted(sentences, key=lambda row: (row.speaker, row.clip))


def _stamp(sentences: list[Sentence]) -> str:
    """Tells this corpus from another."""
    rows = hashlib.sha256(json.dumps([vars(row) for row in sentences]).encode()).hexdigest()
    return json.dumps({"revision": REVISION, "likeness": LIKENESS, "clips": len(sentences), "rows": rows})


def _draw_speaker(task: tuple[Path, list[Sentence]]) -> int:
    """All clips of one speaker, whose portrait is painted once; returns how many."""
    import cv2

    from shards.drawn.face import Face
    from shards.drawn.identity import Identity

    cv2.setNumThreads(1)
    root, rows = task
    missing = [row for row in rows if not clip_path(root, row).exists()]
    if missing:
        face = Face(Identity(rows[0].speaker))
        for row in missing:
            write_whole(clip_path(root, row), draw_clip(face, row))
    return len(rows)


def clip_path(root: Path, row: Sentence) -> Path:
    return root / "Raw" / row.video_id / f"{row.clip}.mp4"


def draw_clip(face: object, row: Sentence) -> bytes:
    """The MP4 file of one sentence, spoken by `face` (a `Face`)."""
    from shards.drawn.face import Face
    from shards.drawn.motion import animate

    assert isinstance(face, Face)
    rng = np.random.default_rng([int(row.number), 0])
    seconds = rng.uniform(*SECONDS)
    frames = np.stack(list(animate(face, expression(row), seconds, FPS, rng)))
    return encode(frames, hum(row.speaker, len(frames) / FPS))


def expression(row: Sentence) -> float:
    """What the face shows, in [-1, 1]: the label with correlation `LIKENESS`, and noise of the clip's own."""
    noise = np.random.default_rng([int(row.number), 1]).standard_normal()
    score = LIKENESS * row.label / LABEL_STD + math.sqrt(1 - LIKENESS**2) * noise
    return float(np.clip(EXPRESSION_STD * score, -1, 1))


def hum(speaker: int, seconds: float) -> np.ndarray:
    """(n,) float32 sound of a voice without words: a few harmonics of the speaker's pitch, in syllables."""
    rng = np.random.default_rng([speaker, 2])
    time = np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE
    pitch = rng.uniform(90, 230) * (1 + 0.04 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / SOUND_RATE
    tone = np.sum([np.sin(k * phase) / k for k in range(1, 6)], axis=0)
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2.5, 4) * time), 0, 1)
    return (0.15 * tone * syllables).astype(np.float32)


def encode(frames: np.ndarray, sound: np.ndarray) -> bytes:
    """(n, H, W, 3) uint8 RGB and (m,) float32 at 16 kHz as MP4: H.264 and AAC, as cameras write them."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", "mp4", container_options={"fflags": "+bitexact"}) as container:
        height, width = frames.shape[1:3]
        video = container.add_stream("libx264", rate=FPS, options=CODING)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono", bit_rate=32_000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, len(sound), SOUND_FRAME):
            piece = av.AudioFrame.from_ndarray(sound[None, start : start + SOUND_FRAME], format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return buffer.getvalue()
