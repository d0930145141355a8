"""VEGAS, and any audio-visual set in its form: videos of a few seconds with sound, one event class each.

Two layouts:
    --root FOLDER   FOLDER/CLASS/**/VIDEO: classes are numbered in the order of their names. Or FOLDER/clips.csv with
                    the columns id, video, label [, split]; labels are numbers, or names, numbered in their order.
    --h5 FILE       vegas_feature.h5 as published: features only. There is no video for a teacher to watch.
With --root, vectors come from ID.npy files (--audio-features, --visual-features) or are computed from the clips.

VEGAS has no validation split. A tenth of the training clips, chosen by a hash of their ids, becomes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from shards.features import Features
from shards.sources.record import Raw, Rejected, UnsafePath, path_below, to_number
from shards.sources.table import read_table
from shards.sources.vegas_h5 import read_h5

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv")
TABLE = "clips.csv"
TEST_SHARE = 0.2
"""Of the clips, where nothing says which are for testing: 5,621 of 28,103 (Table 1)."""


@dataclass(kw_only=True)
class Vegas:
    """VEGAS, or your own clips of events with sound: videos (--root) or vegas_feature.h5 (--h5)"""

    root: Path | None = field(default=None, metadata={"help": "folder of videos: CLASS/**/VIDEO, or clips.csv"})
    h5: Path | None = field(default=None, metadata={"help": "feature file as published, in place of videos"})
    audio_features: Path | None = field(default=None, metadata={"help": "folder of ID.npy audio vectors"})
    visual_features: Path | None = field(default=None, metadata={"help": "folder of ID.npy visual vectors"})
    audio_onnx: Path | None = field(default=None, metadata={"help": "VGGish in ONNX (default: log-mel statistics)"})
    visual_onnx: Path | None = field(default=None, metadata={"help": "image model in ONNX (default: frozen CLIP)"})
    clip: str = field(default="ViT-L-14-quickgelu", metadata={"help": "open_clip model of the visual vectors"})
    clip_weights: str = field(default="openai", metadata={"help": "its weights: an open_clip tag, a file, or random"})
    audio_width: int = field(default=128, metadata={"help": "width of the audio vectors in --h5 (default: 128)"})
    visual_width: int = field(default=1024, metadata={"help": "width of the visual vectors in --h5 (default: 1024)"})
    find_faces: bool = field(default=False, metadata={"help": "look for faces too, for a teacher with teacher.face"})
    valid_share: float = field(default=0.1, metadata={"help": "share of training clips for validation (default: 0.1)"})
    name: str = field(default="vegas", metadata={"help": "name of the dataset (default: vegas)"})

    task: Literal["sentiment", "retrieval"] = field(default="retrieval", init=False)

    def __post_init__(self) -> None:
        if (self.root is None) == (self.h5 is None):
            found = "neither" if self.root is None else "both"
            raise ValueError(f"expected either --root (videos) or --h5 (features only), found {found}")
        given = {"audio-features": self.audio_features, "visual-features": self.visual_features}
        others = {**given, "audio-onnx": self.audio_onnx, "visual-onnx": self.visual_onnx}
        if self.h5 is not None and any(others.values()):
            raise ValueError(f"--h5 brings its own features: expected none of --{', --'.join(others)} beside it")
        for kind in ("audio", "visual"):
            if others[f"{kind}-features"] and others[f"{kind}-onnx"]:
                raise ValueError(f"expected --{kind}-features or --{kind}-onnx, found both; leave one out")
        for option, folder in given.items():
            if folder is not None and not folder.is_dir():
                raise FileNotFoundError(f"--{option}: expected a folder of ID.npy files, found none at {folder}")
        if not 0 < self.valid_share < 1:
            raise ValueError(f"--valid-share: expected a share between 0 and 1, found {self.valid_share}")

    @property
    def dataset(self) -> str:
        return self.name

    @property
    def features(self) -> Features | None:
        """What computes vectors for clips that bring none."""
        if self.root is None:
            return None
        folders = {"audio": self.audio_features, "visual": self.visual_features}
        return Features(
            audio_onnx=self.audio_onnx,
            visual_onnx=self.visual_onnx,
            clip=self.clip,
            clip_weights=self.clip_weights,
            given=tuple(kind for kind, folder in folders.items() if folder is not None),
        )

    def __iter__(self) -> Iterator[Raw | Rejected]:
        if self.h5 is not None:
            yield from self._from_h5(self.h5)
            return
        assert self.root is not None
        widths: dict[str, int] = {}
        for record in self._from_videos(self.root):
            yield record if isinstance(record, Rejected) else self._with_vectors(record, widths)

    def _from_h5(self, path: Path) -> Iterator[Raw]:
        for part, rows in read_h5(path, self.audio_width, self.visual_width).items():
            for number in range(len(rows.labels)):
                identity = f"{part}-{number:06d}"
                yield Raw(
                    id=identity,
                    text="",
                    label=float(rows.labels[number]),
                    split=self._split(identity, part),
                    audio=rows.audio[number],
                    visual=rows.visual[number],
                )

    def _from_videos(self, root: Path) -> Iterator[Raw | Rejected]:
        if (root / TABLE).is_file():
            yield from self._from_table(root)
            return
        if not root.is_dir():
            raise FileNotFoundError(f"--root: expected a folder of videos, found none at {root}")
        classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if len(classes) < 2:
            raise ValueError(f"{root}: expected a folder per event class, or {TABLE}, found {len(classes)} folder(s)")
        for label, name in enumerate(classes):
            for video in sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in ENDINGS and p.is_file()):
                identity = video.relative_to(root).with_suffix("").as_posix()
                yield Raw(
                    id=identity,
                    text=spoken(name),
                    label=label,
                    split=self._split(identity, "test" if _hash(identity, "test") < TEST_SHARE else "train"),
                    video=video,
                )

    def _from_table(self, root: Path) -> Iterator[Raw | Rejected]:
        rows = list(read_table(root / TABLE, ("id", "video", "label")))
        names = sorted({row["label"].strip() for row in rows} - {""})
        numbered = all(np.isfinite(to_number(name)) for name in names)
        own_validation = any(row.get("split", "").strip() == "valid" for row in rows)
        for row in rows:
            identity, label, split = row["id"].strip(), row["label"].strip(), row.get("split", "").strip()
            try:
                video = path_below(root, row["video"])
            except UnsafePath as error:
                yield Rejected(id=identity, cause="unsafe path", detail=str(error))
                continue
            if not split:
                split = "test" if _hash(identity, "test") < TEST_SHARE else "train"
            yield Raw(
                id=identity,
                text="" if numbered else spoken(label),
                label=to_number(label) if numbered or not label else names.index(label),
                split=split if own_validation else self._split(identity, split),
                video=video,
            )

    def _with_vectors(self, raw: Raw, widths: dict[str, int]) -> Raw | Rejected:
        """The record with the vectors that files hold for it; without its file, or with a bad one, it is rejected."""
        vectors: dict[str, np.ndarray] = {}
        for kind, folder in (("audio", self.audio_features), ("visual", self.visual_features)):
            if folder is None:
                continue
            try:
                vectors[kind] = read_vector(path_below(folder, f"{raw.id}.npy"))
                width = widths.setdefault(kind, len(vectors[kind]))
                if len(vectors[kind]) != width:
                    raise ValueError(f"expected {width} numbers as in the clips before, found {len(vectors[kind])}")
            except FileNotFoundError as error:
                return Rejected(id=raw.id, cause=f"no {kind} features", detail=str(error))
            except ValueError as error:
                return Rejected(id=raw.id, cause=f"bad {kind} features", detail=str(error))
        return replace(raw, **vectors)  # type: ignore[arg-type]

    def _split(self, identity: str, part: str) -> str:
        """`part`, but a share of the training clips is for validation."""
        return "valid" if part == "train" and _hash(identity, "valid") < self.valid_share else part


def read_vector(path: Path) -> np.ndarray:
    """The vector of a .npy file, (D,) float32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a .npy file of one vector of finite numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a vector in {path}, found no such file")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected a .npy array of numbers, found something else") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.size == 0:
        raise ValueError(f"{path}: expected a .npy array of numbers, found another kind")
    if array.size != max(array.shape, default=0):
        raise ValueError(f"{path}: expected one vector, found shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: expected finite numbers, found NaN or infinity")
    return np.ascontiguousarray(array.reshape(-1), dtype=np.float32)


def spoken(name: str) -> str:
    """A folder's name as words: baby_cry → baby cry."""
    return name.replace("_", " ").replace("-", " ").strip()


def _hash(identity: str, purpose: str) -> float:
    """A number in [0, 1) from an id, the same on every machine; independent between purposes."""
    digest = hashlib.blake2b(f"{purpose}/{identity}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


SOURCE = Vegas
