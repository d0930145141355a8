"""The event corpus that comes with the project: ten kinds of made sound with the picture of what makes them.

Nothing here is recorded. Bells, rain, engines and the rest are synthesised, and drawn moving at the same moments
(event_score.py, event_sound.py, event_picture.py), so that the retrieval task of the paper can be run where VEGAS is
not at hand. In two clips of five a second, fainter event is heard, every clip has a room's noise, and a quarter stands
in surroundings drawn from all classes. Clips are real H.264/AAC files, and packed as any user's data.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shards.durable import write_whole
from shards.features import Features
from shards.progress import Progress
from shards.sources.event_score import EVENTS
from shards.sources.record import Raw, Rejected

REVISION = 1
"""Raised when the made clips change, so that an older corpus is not taken for a new one."""
SEED = 20_000
"""Clip n has the random numbers of SEED + n."""
VALID_SHARE, TEST_SHARE = 0.12, 0.18


@dataclass(kw_only=True)
class SampleEvents:
    """the event corpus that comes with the project: ten classes of made sound and matching picture"""

    root: Path = field(metadata={"help": "folder for the raw corpus; made there unless complete"})
    clips: int = field(default=600, metadata={"help": "number of clips (default: 600)"})
    workers: int | None = field(default=None, metadata={"help": "processes (default: one per core)"})
    clip: str = field(default="configs/clip/tiny.json", metadata={"help": "CLIP of the visual features"})
    clip_weights: str = field(default="random", metadata={"help": "its weights (default: random, always the same)"})

    dataset: str = field(default="sample-events", init=False)
    find_faces: bool = field(default=False, init=False)
    task: Literal["sentiment", "retrieval"] = field(default="retrieval", init=False)

    def __post_init__(self) -> None:
        self.features.settings()  # a wrong --clip is told before a minute of rendering
        if self.clips < 3 * len(EVENTS) or self.clips % len(EVENTS):
            raise ValueError(
                f"--clips: expected a multiple of {len(EVENTS)} from {3 * len(EVENTS)} on, found {self.clips}"
            )

    @property
    def features(self) -> Features:
        """What computes the feature vectors at pack time."""
        return Features(clip=self.clip, clip_weights=self.clip_weights)

    def __iter__(self) -> Iterator[Raw | Rejected]:
        render_corpus(self.root, self.clips, self.workers)
        for number in range(self.clips):
            event = event_of(number)
            yield Raw(
                id=f"event-{number:05d}",
                text=EVENTS[event],
                label=event,
                split=split_of(number, self.clips),
                video=video_path(self.root, number),
            )


def event_of(number: int) -> int:
    """Class of a clip: they come in turns, so any prefix of the corpus is balanced."""
    return number % len(EVENTS)


def split_of(number: int, clips: int) -> str:
    """Split of a clip: whole rounds of the ten classes are dealt out, so that every split is balanced."""
    rounds = clips // len(EVENTS)
    valid, test = (max(1, round(share * rounds)) for share in (VALID_SHARE, TEST_SHARE))
    # A multiplicative shuffle of the rounds, so that no split is one stretch of the corpus.
    place = number // len(EVENTS) * 7919 % rounds
    return "valid" if place < valid else "test" if place < valid + test else "train"


def video_path(root: Path, number: int) -> Path:
    """Where a clip's file is."""
    return root / "clips" / f"event-{number:05d}.mp4"


def render_corpus(root: Path, clips: int, workers: int | None = None) -> None:
    """Make the corpus below `root`, unless it is complete there; clips that exist already stay.

    Raises:
        ValueError: `root` holds something else.
    """
    stamp, complete = root / "events.json", root / "complete"
    wanted = json.dumps({"revision": REVISION, "seed": SEED, "clips": clips})
    if stamp.exists() and stamp.read_text() != wanted:
        raise ValueError(
            f"{root}: expected an empty folder or this corpus, found another one (other --clips, or an older version "
            "of it); remove it or choose another --root"
        )
    if not stamp.exists() and root.exists() and any(root.iterdir()):
        raise ValueError(
            f"{root}: expected an empty folder for the event corpus, found other files; choose another --root"
        )
    if stamp.exists() and complete.exists():
        return
    write_whole(stamp, wanted.encode())
    tasks = [(root, number) for number in range(clips)]
    with multiprocessing.get_context("forkserver").Pool(workers or len(os.sched_getaffinity(0))) as pool:
        made = pool.imap_unordered(_render_one, tasks, chunksize=4)
        with Progress("rendering", len(tasks), "clips") as bar:
            for _ in made:
                bar.update()
    write_whole(complete, b"")


def _render_one(task: tuple[Path, int]) -> None:
    root, number = task
    path = video_path(root, number)
    if not path.exists():
        write_whole(path, clip_bytes(number))


def clip_bytes(number: int) -> bytes:
    """The MP4 file of one clip; the same number gives the same bytes."""
    import numpy as np

    from shards.drawn.corpus import FPS, encode
    from shards.sources.event_picture import frames
    from shards.sources.event_score import compose
    from shards.sources.event_sound import sound

    score = compose(event_of(number), SEED + number)
    return encode(np.stack(list(frames(score, FPS))), sound(score))


SOURCE = SampleEvents
