"""SHARDS/manifest.json: what a folder of shards holds. FORMAT.md describes it field by field."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
TASKS = ("sentiment", "retrieval")
SPLITS = ("train", "valid", "test")
MAX_BYTES = 512 << 20
"""A manifest of 10^6 shards has ~200 MB; anything far beyond is refused unread."""

_SHARD_FILE = re.compile(r"(train|valid|test)/[0-9]{6,12}\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadManifest(ValueError):
    """manifest.json is missing, damaged, of another format, or says what cannot be."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar: its path relative to the manifest, size, checksum and number of samples."""

    file: str
    bytes: int
    sha256: str
    samples: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """The shards of a split in order, and statistics of its labels (see `label_statistics`)."""

    shards: tuple[Shard, ...]
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole file; `packing` holds the settings that decided the bytes and a fingerprint of the input."""

    dataset: str
    task: str
    splits: dict[str, Split]
    packing: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        splits = {
            name: {
                "samples": split.samples,
                "shards": [asdict(shard) for shard in split.shards],
                "labels": split.labels,
            }
            for name, split in self.splits.items()
        }
        whole = {
            "format": FORMAT,
            "dataset": self.dataset,
            "task": self.task,
            "splits": splits,
            "packing": self.packing,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Check and read the bytes of a manifest.json, which may come from a stranger; `where` names it in errors.

    Raises:
        BadManifest: with the place and what was expected there.
    """

    def require(ok: bool, key: str, expected: str, found: object) -> None:
        if not ok:
            shown = repr(found)
            shown = shown if len(shown) <= 80 else shown[:77] + "..."
            raise BadManifest(f"{where}: {key}: expected {expected}, found {shown}; pack the dataset again")

    require(len(data) <= MAX_BYTES, "size", f"at most {MAX_BYTES} bytes", len(data))
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"{where}: expected JSON, found something else ({error}); pack the dataset again") from error
    require(isinstance(whole, dict), "top level", "an object", whole)
    require(whole.get("format") == FORMAT, "format", f"{FORMAT} (this version reads no other)", whole.get("format"))
    require(isinstance(whole.get("dataset"), str), "dataset", "a name", whole.get("dataset"))
    require(whole.get("task") in TASKS, "task", " or ".join(TASKS), whole.get("task"))
    found_splits = whole.get("splits")
    require(isinstance(found_splits, dict) and set(found_splits) <= set(SPLITS), "splits", str(SPLITS), found_splits)
    splits: dict[str, Split] = {}
    files: set[str] = set()
    for name, split in found_splits.items():
        require(isinstance(split, dict), f"splits.{name}", "an object", split)
        require(isinstance(split.get("shards"), list), f"splits.{name}.shards", "a list", split.get("shards"))
        shards = []
        for number, entry in enumerate(split["shards"]):
            key = f"splits.{name}.shards[{number}]"
            require(isinstance(entry, dict), key, "an object", entry)
            file, digest = entry.get("file"), entry.get("sha256")
            known = isinstance(file, str) and _SHARD_FILE.fullmatch(file) and file.startswith(f"{name}/")
            require(bool(known) and file not in files, f"{key}.file", f"{name}/NUMBER.tar, each once", file)
            require(
                isinstance(digest, str) and bool(_SHA256.fullmatch(digest)), f"{key}.sha256", "64 hex digits", digest
            )
            for count in ("bytes", "samples"):
                value = entry.get(count)
                whole_number = isinstance(value, int) and not isinstance(value, bool)
                require(whole_number and 0 < value < 1 << 62, f"{key}.{count}", "a whole number above 0", value)
            files.add(file)
            shards.append(Shard(file=file, bytes=entry["bytes"], sha256=digest, samples=entry["samples"]))
        labels = split.get("labels", {})
        require(isinstance(labels, dict), f"splits.{name}.labels", "an object", labels)
        splits[name] = Split(shards=tuple(shards), labels=labels)
        require(
            split.get("samples") == splits[name].samples,
            f"splits.{name}.samples",
            "the shards' sum",
            split.get("samples"),
        )
    packing = whole.get("packing", {})
    require(isinstance(packing, dict), "packing", "an object", packing)
    return Manifest(dataset=whole["dataset"], task=whole["task"], splits=splits, packing=packing)


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of a folder on a local disk.

    Raises:
        BadManifest: there is none, or it is not a good one.
    """
    path = Path(folder) / "manifest.json"
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadManifest(f"{path}: expected at most {MAX_BYTES} bytes, found {size}")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadManifest(
            f"expected shards in {folder}, found no manifest.json there; make them with launch/pack.py"
        ) from error
    return parse_manifest(data, str(path))


def label_statistics(labels: list[float], task: str) -> dict[str, Any]:
    """min, max, mean, std (of the population) and a histogram of a split's labels.

    Sentiment is counted in the seven rounded classes -3 ... 3 (half to even, as Acc-7 does), events per class.
    """
    if not labels:
        return {"min": None, "max": None, "mean": None, "std": None, "histogram": {}}
    mean = math.fsum(labels) / len(labels)
    std = math.sqrt(math.fsum((label - mean) ** 2 for label in labels) / len(labels))
    bins = range(-3, 4) if task == "sentiment" else sorted({int(label) for label in labels})
    histogram = {str(value): 0 for value in bins}
    for label in labels:
        histogram[str(round(label))] += 1
    return {
        "min": min(labels),
        "max": max(labels),
        "mean": round(mean, 6),
        "std": round(std, 6),
        "histogram": histogram,
    }
