"""The corpus that comes with the project: real rated sentences, paired with drawn faces.

What is real: the text and its label. They are the 4,200 tweets of Hutto and Gilbert, each with the mean rating of at
least 20 people in [-4, 4], scaled by 0.75 into [-3, 3]. Please cite: C.J. Hutto and E.E. Gilbert, "VADER: A Parsimonious
Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014. They come with the source distribution of
vaderSentiment 3.3.2 (MIT licence).

What is made: the pictures, the sound, and the pairing. A drawn face (nobody's likeness, shards/drawn/) shows an
expression that follows the rating only in part, so that the face tells something of the label and never all of it; the
sound is a hum in syllables without words. Clips are real H.264/AAC files in MMSA's layout, packed as any user's data.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shards.durable import write_whole
from shards.sources.mmsa import Mmsa
from shards.sources.record import Raw, Rejected

SDIST = "vaderSentiment-3.3.2.tar.gz"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
TWEETS = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
SCALE = 0.75
"""Ratings are in [-4, 4], labels in [-3, 3]."""
SPLIT_SHARES = {"train": 0.70, "valid": 0.12, "test": 0.18}
CLIPS_PER_SPEAKER = 4
"""So many sentences, at most, come from the mouth of one drawn person."""
MAX_CLIPS = 4200


@dataclass(frozen=True)
class Sentence:
    """One rated text and where it belongs."""

    number: str
    text: str
    label: float
    split: str
    speaker: int
    clip: int

    @property
    def video_id(self) -> str:
        """The speaker's name in MMSA's layout."""
        return f"drawn{self.speaker:04d}"


@dataclass(kw_only=True)
class Sample:
    """the corpus that comes with the project: rated sentences (real) with drawn faces (made)"""

    root: Path = field(metadata={"help": "folder for the raw corpus; made there unless complete"})
    clips: int = field(default=1600, metadata={"help": "number of clips (default: 1600; at most 4200)"})
    sdist: Path | None = field(default=None, metadata={"help": f"{SDIST} (default: where `make env` puts it)"})
    workers: int | None = field(default=None, metadata={"help": "processes that draw (default: one per core)"})

    dataset: str = field(default="sample", init=False)
    task: Literal["sentiment", "retrieval"] = field(default="sentiment", init=False)

    def __iter__(self) -> Iterator[Raw | Rejected]:
        from shards.drawn.corpus import draw_corpus

        if not 1 <= self.clips <= MAX_CLIPS:
            raise ValueError(f"--clips: expected 1 to {MAX_CLIPS}, found {self.clips}")
        draw_corpus(self.root, sentences(find_sdist(self.sdist), self.clips), workers=self.workers)
        return iter(Mmsa(root=self.root, name=self.dataset))


def find_sdist(given: Path | None) -> Path:
    """The source distribution with the rated sentences: `given`, $VADV_SAMPLE_SDIST, or where `make env` puts it.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = given or Path(os.environ.get("VADV_SAMPLE_SDIST") or Path(sys.prefix, "share", "videoadviser", SDIST))
    if not path.is_file():
        raise FileNotFoundError(
            f"expected {SDIST} (the rated sentences) at {path}, found none; run `make env`, or name the file with --sdist"
        )
    return path


def read_tweets(sdist: Path) -> list[tuple[str, float, str]]:
    """(number, rating in [-4, 4], text) of every rated tweet.

    Raises:
        ValueError: the archive is not the one expected.
    """
    try:
        with tarfile.open(sdist) as outer:
            inner = outer.extractfile(INNER)
            assert inner is not None
            with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
                file = archive.extractfile(TWEETS)
                assert file is not None
                lines = file.read().decode("utf-8", "replace").splitlines()
    except (tarfile.TarError, KeyError) as error:
        raise ValueError(
            f"{sdist}: expected the source distribution {SDIST} with {INNER}, found another file ({type(error).__name__})"
        ) from error
    rows = [line.split("\t", 2) for line in lines if line]
    return [(number, float(rating), html.unescape(text).strip()) for number, rating, text in rows]


def sentences(sdist: Path, clips: int) -> list[Sentence]:
    """`clips` sentences, chosen and split by hashes of their normalised text: equal texts share a split.

    Each split has drawn speakers of its own, so neither a text nor a face of training is met again in the test.
    """
    rows = [(digest(normalised(text)), number, rating, text) for number, rating, text in read_tweets(sdist)]
    rows.sort()  # by hash: the file is in the order of collection
    speakers: dict[str, tuple[int, int]] = {}
    chosen = []
    for key, number, rating, text in rows[:clips]:
        split = split_of(key)
        speaker, clip = speakers.get(split, (-1, CLIPS_PER_SPEAKER))
        if clip == CLIPS_PER_SPEAKER:
            taken = max((used for used, _ in speakers.values()), default=-1)
            speaker, clip = taken + 1, 0
        speakers[split] = (speaker, clip + 1)
        chosen.append(Sentence(number, text, round(SCALE * rating, 4), split, speaker, clip))
    return chosen


def normalised(text: str) -> str:
    """Letters and digits only, in lower case: what two copies of one text share."""
    kept = "".join(c if c.isalnum() else " " for c in text.lower())
    return " ".join(kept.split()) or text


def digest(text: str) -> int:
    """A number in [0, 2^64) from a text, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(key: int) -> str:
    """The split of a text by its hash, hence independent of how many clips are asked for."""
    # Other bits than those that order the texts: the low half.
    share, upper = (key & 0xFFFFFFFF) / 2**32, 0.0
    for name, part in SPLIT_SHARES.items():
        upper += part
        if share < upper:
            return name
    return "test"


def write_labels(root: Path, rows: list[Sentence]) -> None:
    """label.csv of MMSA's layout, written last: its presence says that all clips are there."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V", "annotation", "mode"])
    for row in rows:
        mood = "Negative" if row.label < 0 else "Positive" if row.label > 0 else "Neutral"
        writer.writerow([row.video_id, row.clip, row.text, row.label, "", "", "", mood, row.split])
    write_whole(root / "label.csv", buffer.getvalue().encode())


SOURCE: type = Sample
