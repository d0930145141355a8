"""A dataset's raw clips to WebDataset shards: screened, transcoded, with face features, by all cores, resumable.

Work is cut into units: a unit is one shard, and which records belong to it is fixed before the first clip is opened. A clip
that turns out bad leaves its shard one sample shorter and touches nothing else. A unit is finished when its tar has its
name and its journal entry is on the disk; a second start goes on with the first unit that has none. The bytes are a function
of the input and of the settings in `manifest.packing` alone, not of the number of workers or of interruptions.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.durable import write_whole, written_whole
from shards.manifest import Manifest, Shard, Split, label_statistics, read_manifest
from shards.prepare import Preparation, Prepared, check_models, prepare, start_worker
from shards.screening import screen
from shards.sources.record import SPLITS, Raw, Rejected, Source
from shards.summary import Summary, write_rejected
from shards.transcode import Coding

REVISION = 1
"""Raised when a change of this package changes the bytes that packing writes."""


@dataclass(kw_only=True)
class Options:
    """Settings of a pack.

    Attributes:
        coding: how clips are stored.
        fer_onnx: FER+ model in place of the built-in expression model.
        shard_clips: records per shard (rejected ones included).
        workers: processes; default: one per core that this process may use.
        clip_timeout: seconds after which a clip's worker is killed and the clip rejected.
        progress: show a progress bar on stderr.
    """

    coding: Coding = field(default_factory=Coding)
    fer_onnx: Path | None = None
    shard_clips: int = 128
    workers: int | None = None
    clip_timeout: float = 300.0
    progress: bool = True

    def settings(self) -> dict[str, Any]:
        """What decides the bytes, for the manifest and for telling packs apart."""
        model = hashlib.sha256(self.fer_onnx.read_bytes()).hexdigest() if self.fer_onnx else "fer"
        return {"revision": REVISION, **asdict(self.coding), "shard_clips": self.shard_clips, "expression": model}


@dataclass(frozen=True)
class Unit:
    """One shard to be: its split, its number there, the running number of its first record, its records."""

    split: str
    number: int
    first: int
    records: list[Raw]

    @property
    def file(self) -> str:
        return f"{self.split}/{self.number:06d}.tar"


def pack(source: Source, out: Path, options: Options) -> Summary:
    """Pack a source into the folder `out`; go on where an earlier start stopped; do nothing when all is there.

    Raises:
        ValueError: the source's tables are wrong, `out` holds something else, or no clip is left.
        OSError: the disk is full, or a folder cannot be written.
    """
    from filelock import FileLock, Timeout

    check_models(options.fer_onnx)
    records, rejected = screen(source, source.task)
    if not records:
        raise ValueError(f"expected clips in {source.dataset}, found {len(rejected)} rows and none of them usable")
    settings = {**options.settings(), "input": fingerprint(source, records, rejected)}
    done = _finished(out, source.dataset, settings)
    if done is not None:
        return done
    work = out / ".packing"
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            _claim(out, work, settings)
            journal = _pack_units(units_of(records, options.shard_clips), source, out, work, options)
            summary = _finish(journal, rejected, source, out, settings)
    except Timeout:
        raise ValueError(
            f"{out}: another packing process is at work there; wait for it or choose another --out"
        ) from None
    _clear(work)
    return summary


def units_of(records: Iterable[Raw], shard_clips: int) -> list[Unit]:
    """Records of each split in their order, cut into shards of `shard_clips`."""
    by_split: dict[str, list[Raw]] = {split: [] for split in SPLITS}
    for record in records:
        by_split[record.split].append(record)
    return [
        Unit(split, first // shard_clips, first, members[first : first + shard_clips])
        for split, members in by_split.items()
        for first in range(0, len(members), shard_clips)
    ]


def fingerprint(source: Source, records: list[Raw], rejected: list[Rejected]) -> str:
    """A digest of everything in the input but the pictures themselves: rows, and the size of each video file."""
    digest = hashlib.sha256(f"{source.dataset}\n{source.task}\n".encode())
    for record in records:
        size = record.video.stat().st_size if record.video and record.video.is_file() else -1
        line = [record.id, record.text, record.label, record.split, record.start, record.end, size]
        for vector in (record.audio, record.visual):
            line.append(None if vector is None else hashlib.sha256(vector.tobytes()).hexdigest())
        digest.update(json.dumps(line).encode() + b"\n")
    digest.update(json.dumps([[row.id, row.cause] for row in rejected]).encode())
    return digest.hexdigest()


def _finished(out: Path, dataset: str, settings: dict[str, Any]) -> Summary | None:
    """The summary of a complete pack of the same input in `out`; None when there is no manifest yet."""
    if not (out / "manifest.json").exists():
        return None
    manifest = read_manifest(out)
    _require_same(out, {key: manifest.packing.get(key) for key in settings}, settings)
    return Summary.of(manifest, out)


def _claim(out: Path, work: Path, settings: dict[str, Any]) -> None:
    """Note in `out` which pack is being made there, or check that it is the same one."""
    plan = work / "plan.json"
    if plan.exists():
        _require_same(out, json.loads(plan.read_text()), settings)
        return
    strangers = sorted(path.name for path in out.iterdir() if path != work)
    if strangers:
        raise ValueError(
            f"{out}: expected an empty folder for new shards, found {strangers[0]!r} in it; choose another --out"
        )
    write_whole(plan, json.dumps(settings).encode())


def _require_same(out: Path, found: dict[str, Any], settings: dict[str, Any]) -> None:
    differing = [key for key in settings if found.get(key) != settings[key]]
    if not differing:
        return
    what = (
        "other input (rows or video files have changed)" if differing == ["input"] else f"other {', '.join(differing)}"
    )
    raise ValueError(
        f"{out}: expected an empty folder or the same pack, found one of {what}; choose another --out or remove it"
    )


def _pack_units(units: list[Unit], source: Source, out: Path, work: Path, options: Options) -> list[dict[str, Any]]:
    """Pack the units that have no journal entry yet; return the entries of all, in order."""
    from tqdm import tqdm

    entries = {unit.file: _journal_entry(unit, out, work) for unit in units}
    pending = [unit for unit in units if entries[unit.file] is None]
    total = sum(len(unit.records) for unit in units)
    before = total - sum(len(unit.records) for unit in pending)
    bar = tqdm(total=total, initial=before, unit="clip", desc="packing", disable=not options.progress, mininterval=1.0)
    preparation = Preparation(dataset=source.dataset, coding=options.coding, fer_onnx=options.fer_onnx)
    results = prepared((raw for unit in pending for raw in unit.records), preparation, options)
    try:
        for unit in pending:
            entries[unit.file] = _pack_unit(unit, results, out, work, bar)
    except OSError as error:
        import errno

        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"{out}: no space left on the disk; free some and start the same command again to go on"
            ) from error
        raise
    finally:
        results.close()
        bar.close()
    return [entry for entry in entries.values() if entry is not None]


def _pack_unit(unit: Unit, results: Iterator[Prepared | Rejected], out: Path, work: Path, bar: Any) -> dict[str, Any]:
    """Write one shard and its journal entry, in this order."""
    from webdataset.writer import TarWriter

    entry: dict[str, Any] = {"split": unit.split, "shard": None, "rejected": [], "labels": [], "seconds": 0.0}
    entry |= {"kept": 0, "with_face": 0}
    tar = out / unit.file
    part = work / f"{unit.split}-{unit.number:06d}.tar.part"
    with written_whole(part.with_suffix("")) as file:
        writer = TarWriter(file, encoder=False, user="", group="", mtime=0.0)
        for row, result in zip(range(len(unit.records)), results):
            bar.update()
            if isinstance(result, Rejected):
                entry["rejected"].append(asdict(result))
                bar.set_postfix_str(f"last rejected: {result.cause}", refresh=False)
                continue
            for name, data in result.members:
                # One call per member: TarWriter would sort a sample's members by name.
                writer.write({"__key__": f"{unit.first + row:08d}", name: data})
            entry["labels"].append(result.label)
            entry["seconds"] += result.duration
            entry["kept"] += result.kept
            entry["with_face"] += result.faces > 0
        writer.close()
    whole = part.with_suffix("")
    if entry["labels"]:
        entry["shard"] = {"file": unit.file, **_sum(whole), "samples": len(entry["labels"])}
        tar.parent.mkdir(exist_ok=True)
        whole.replace(tar)
    else:
        whole.unlink()
    write_whole(_journal_path(unit, work), json.dumps(entry).encode())
    return entry


def _sum(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _journal_path(unit: Unit, work: Path) -> Path:
    return work / "done" / f"{unit.split}-{unit.number:06d}.json"


def _journal_entry(unit: Unit, out: Path, work: Path) -> dict[str, Any] | None:
    """What the journal says of a unit, if that is still true of the disk."""
    path = _journal_path(unit, work)
    if not path.exists():
        return None
    entry: dict[str, Any] = json.loads(path.read_text())
    shard, tar = entry["shard"], out / unit.file
    return entry if shard is None or (tar.exists() and tar.stat().st_size == shard["bytes"]) else None


def prepared(records: Iterable[Raw], preparation: Preparation, options: Options) -> Iterator[Prepared | Rejected]:
    """Results in the order of `records`, made by killable processes; a bounded number of clips is under way."""
    from pebble import ProcessPool

    workers = options.workers or len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("forkserver")
    # Imported once, so that a worker in the place of a killed one starts at once.
    context.set_forkserver_preload(["torch", "cv2", "av", "shards.prepare"])
    pool = ProcessPool(workers, context=context, initializer=start_worker, initargs=[preparation])
    under_way: deque[tuple[Raw, Any]] = deque()
    try:
        for raw in records:
            under_way.append((raw, pool.schedule(prepare, args=[raw], timeout=options.clip_timeout)))
            if len(under_way) >= 4 * workers:
                yield _result(*under_way.popleft(), options)
        while under_way:
            yield _result(*under_way.popleft(), options)
    finally:
        pool.stop()
        pool.join()


def _result(raw: Raw, future: Any, options: Options) -> Prepared | Rejected:
    """What a worker made of a clip; a killed or crashed worker, or an unforeseen error, costs this clip only."""
    from pebble import ProcessExpired

    try:
        result: Prepared | Rejected = future.result()
        return result
    except TookTooLong:
        detail = f"not done after {options.clip_timeout:g} s: {raw.video}"
        return Rejected(id=raw.id, cause="timeout", detail=detail)
    except ProcessExpired as error:
        return Rejected(id=raw.id, cause="crash", detail=f"the worker ended with code {error.exitcode}: {raw.video}")
    except Exception as error:
        return Rejected(id=raw.id, cause="failed", detail=f"{type(error).__name__}: {error}: {raw.video}")


def _finish(
    journal: list[dict[str, Any]], rejected: list[Rejected], source: Source, out: Path, settings: dict[str, Any]
) -> Summary:
    """Write rejected.csv, then the manifest: its presence says that everything else is there."""
    rejected = rejected + [Rejected(**row) for entry in journal for row in entry["rejected"]]
    write_rejected(out / "rejected.csv", rejected)
    splits = {}
    for name in SPLITS:
        entries = [entry for entry in journal if entry["split"] == name]
        labels = [label for entry in entries for label in entry["labels"]]
        shards = tuple(Shard(**entry["shard"]) for entry in entries if entry["shard"])
        splits[name] = Split(shards=shards, labels=label_statistics(labels, source.task))
    causes: dict[str, int] = {}
    for row in rejected:
        causes[row.cause] = causes.get(row.cause, 0) + 1
    counts = {
        "hours": round(sum(entry["seconds"] for entry in journal) / 3600, 6),
        "kept_bytes": sum(entry["kept"] for entry in journal),
        "with_face": sum(entry["with_face"] for entry in journal),
        "rejected": dict(sorted(causes.items())),
    }
    manifest = Manifest(dataset=source.dataset, task=source.task, splits=splits, packing={**settings, **counts})
    write_whole(out / "manifest.json", manifest.to_json().encode())
    return Summary.of(manifest, out)


def _clear(work: Path) -> None:
    """Remove the journal of a finished pack."""
    import shutil

    shutil.rmtree(work, ignore_errors=True)
