"""A dataset's raw clips to WebDataset shards: screened, transcoded, with face features, by all cores, resumable.

Work is cut into units: a unit is one shard, and which records belong to it is fixed before the first clip is opened. A
clip that turns out bad leaves its shard one sample shorter and touches nothing else. A unit is finished when its tar has
its name and its journal entry is on the disk; a second start goes on with the units that have none. The bytes are a
function of the input and of the settings in `manifest.packing`, not of the number of workers or of interruptions.

    OUT/.packing/plan.json          which pack this is, so that another one is not mixed into it
    OUT/.packing/NAME.part          the shard being written
    OUT/.packing/done/NAME.json     journal: one entry per finished unit
    OUT/SPLIT/NUMBER.tar, .idx      finished shards
    OUT/manifest.json               last: everything is there
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.checksum import sha256_of
from shards.durable import sync_folder, write_whole, written_whole
from shards.index import ShardIndex, index_path
from shards.journal import Journal, Unit, require_same, units_of
from shards.manifest import Manifest, Shard, Split, label_statistics, read_manifest
from shards.packed_form import Coding
from shards.prepare import Preparation, Prepared, check_models, prepare, start_worker
from shards.progress import Progress
from shards.screening import screen
from shards.sources.record import SPLITS, Raw, Rejected, Source
from shards.summary import Summary, write_rejected
from shards.workers import Failure, in_workers

REVISION = 4
"""Raised when a change of this package changes the bytes that packing writes."""
WORK = ".packing"


class NoSpace(OSError):
    """The disk is full; what is finished stays, and the same command goes on once there is room."""


@dataclass(kw_only=True)
class Options:
    """Settings of a pack.

    Attributes:
        coding: how clips are stored.
        openface: OpenFace's output folder in place of the built-in face detector.
        fer_onnx: FER+ model in place of the built-in expression model.
        shard_clips: records per shard, rejected ones included.
        workers: processes; default: one per core that this process may use.
        clip_timeout: seconds after which a clip's worker is killed and the clip rejected.
        progress: show progress on stderr.
    """

    coding: Coding = field(default_factory=Coding)
    openface: Path | None = None
    fer_onnx: Path | None = None
    shard_clips: int = 128
    workers: int | None = None
    clip_timeout: float = 300.0
    progress: bool = True

    def __post_init__(self) -> None:
        if self.shard_clips < 1:
            raise ValueError(f"--shard-clips: expected 1 or more, found {self.shard_clips}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers: expected 1 or more, found {self.workers}")
        if not self.clip_timeout > 0:
            raise ValueError(f"--clip-timeout: expected more than 0 seconds, found {self.clip_timeout}")

    def settings(self) -> dict[str, Any]:
        """What decides the bytes, for the manifest and for telling packs apart."""
        model = sha256_of(self.fer_onnx) if self.fer_onnx else "fer"
        detector = "openface" if self.openface else "mtcnn"
        settings = {"revision": REVISION, **asdict(self.coding), "shard_clips": self.shard_clips}
        return {**settings, "faces": detector, "expression": model}


def pack(source: Source, out: Path, options: Options) -> Summary:
    """Pack a source into the folder `out`; go on where an earlier start stopped; do nothing when all is there.

    Raises:
        ValueError: the source's tables are wrong, `out` holds something else, or no clip is left.
        OSError: the disk is full, or a folder cannot be written.
    """
    from filelock import FileLock, Timeout

    preparation = Preparation(
        dataset=source.dataset,
        coding=options.coding,
        openface=options.openface,
        fer_onnx=options.fer_onnx,
        features=getattr(source, "features", None),
        find_faces=getattr(source, "find_faces", True),
    )
    check_models(preparation)
    records, rejected = screen(source, source.task)
    if not records:
        causes = ", ".join(f"{cause} ({count})" for cause, count in Counter(r.cause for r in rejected).most_common())
        found = f"{len(rejected)} rows, none of them usable: {causes}" if rejected else "none at all"
        raise ValueError(f"{source.dataset}: expected clips, found {found}; see docs/own-data.md")
    settings = {**options.settings(), "input": fingerprint(source, records, rejected)}
    if preparation.features:
        settings |= preparation.features.settings()
    if not preparation.find_faces:
        settings["faces"] = "none"
    done = finished(out, settings)
    if done:
        return done
    if preparation.features:
        preparation.features.check()
    work = out / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            journal = Journal(out, work)
            journal.claim(settings)
            entries = _pack_units(units_of(records, options.shard_clips), preparation, journal, options)
            summary = _finish(entries, rejected, source, out, settings)
            shutil.rmtree(work)
    except Timeout:
        message = f"{out}: another packing process is at work there; wait for it or choose another --out"
        raise ValueError(message) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{out}: no space left on the disk; make room and start the same command to go on") from error
        raise
    return summary


def fingerprint(source: Source, records: list[Raw], rejected: list[Rejected]) -> str:
    """A digest of everything in the input but the pictures themselves: rows, and the size of each video file."""
    digest = hashlib.sha256(f"{source.dataset}\n{source.task}\n".encode())
    for record in records:
        size = record.video.stat().st_size if record.video and record.video.is_file() else -1
        line: list[Any] = [record.id, record.text, record.label, record.split, record.start, record.end, size]
        line += [record.video_id, record.clip_id, record.common_modalities]
        for vector in (record.audio, record.visual):
            line.append(None if vector is None else hashlib.sha256(vector.tobytes()).hexdigest())
        digest.update(json.dumps(line).encode() + b"\n")
    digest.update(json.dumps([[row.id, row.cause] for row in rejected]).encode())
    return digest.hexdigest()


def finished(out: Path, settings: dict[str, Any]) -> Summary | None:
    """The summary of a complete pack of the same input in `out`; None when there is no manifest yet."""
    if not (out / "manifest.json").exists():
        return None
    manifest = read_manifest(out)
    require_same(out, {key: manifest.packing.get(key) for key in settings}, settings)
    # Left by a start that was killed between the manifest and the end.
    shutil.rmtree(out / WORK, ignore_errors=True)
    return Summary(manifest=manifest, folder=out)


def _pack_units(
    units: list[Unit], preparation: Preparation, journal: Journal, options: Options
) -> list[dict[str, Any]]:
    """Pack the units that have no journal entry yet; return the entries of all, in order."""
    entries = {unit.file: journal.entry(unit) for unit in units}
    pending = [unit for unit in units if entries[unit.file] is None]
    total = sum(len(unit.records) for unit in units)
    before = total - sum(len(unit.records) for unit in pending)
    bar = Progress("packing", total, "clips", done=before, show=options.progress)
    records = (raw for unit in pending for raw in unit.records)
    results = in_workers(
        prepare,
        records,
        workers=options.workers,
        timeout=options.clip_timeout,
        start=start_worker,
        settings=(preparation,),
    )
    try:
        for unit in pending:
            entries[unit.file] = _pack_unit(unit, results, journal, bar)
    finally:
        results.close()
        bar.close()
    return [entry for entry in entries.values() if entry is not None]


def _pack_unit(
    unit: Unit, results: Iterator[Prepared | Rejected | Failure[Raw]], journal: Journal, bar: Progress
) -> dict[str, Any]:
    """Write one shard, its index and its journal entry, in this order."""
    from webdataset.writer import TarWriter

    entry: dict[str, Any] = {"split": unit.split, "shard": None, "rejected": [], "labels": [], "seconds": 0.0}
    entry |= {"kept": 0, "with_face": 0}
    grown = journal.work / f"{unit.name}.tar"
    with written_whole(grown) as file:
        writer = TarWriter(file, encoder=False, user="", group="", mtime=0.0)
        for row, result in zip(range(len(unit.records)), results):
            bar.update()
            if isinstance(result, Failure):
                detail = f"{result.detail}: {result.task.video}"
                result = Rejected(id=result.task.id, cause=result.cause, detail=detail)
            if isinstance(result, Rejected):
                entry["rejected"].append(asdict(result))
                bar.note(f"last rejected: {result.cause}")
                continue
            for name, data in result.members:
                # One call per member: TarWriter would sort a sample's members by name.
                writer.write({"__key__": f"{unit.first + row:08d}", name: data})
            entry["labels"].append(result.label)
            entry["seconds"] += result.duration
            entry["kept"] += result.kept
            entry["with_face"] += result.faces > 0
        writer.close()
    if entry["labels"]:
        index = ShardIndex.build(grown)
        tar = journal.out / unit.file
        tar.parent.mkdir(exist_ok=True)
        index.save(index_path(tar))
        grown.replace(tar)
        sync_folder(tar.parent)
        shard = Shard(file=unit.file, bytes=index.bytes, sha256=index.sha256, samples=len(entry["labels"]))
        entry["shard"] = asdict(shard)
    else:
        grown.unlink()
    journal.write(unit, entry)
    return entry


def _finish(
    entries: list[dict[str, Any]], rejected: list[Rejected], source: Source, out: Path, settings: dict[str, Any]
) -> Summary:
    """Write rejected.csv and the picture, then the manifest: its presence says that everything else is there."""
    rejected = rejected + [Rejected(**row) for entry in entries for row in entry["rejected"]]
    write_rejected(out / "rejected.csv", rejected)
    splits = {}
    for name in SPLITS:
        mine = [entry for entry in entries if entry["split"] == name]
        labels = [label for entry in mine for label in entry["labels"]]
        shards = tuple(Shard(**entry["shard"]) for entry in mine if entry["shard"])
        splits[name] = Split(shards=shards, labels=label_statistics(labels, source.task))
    causes: dict[str, int] = {}
    for row in rejected:
        causes[row.cause] = causes.get(row.cause, 0) + 1
    counts = {
        "hours": round(sum(entry["seconds"] for entry in entries) / 3600, 6),
        "kept_bytes": sum(entry["kept"] for entry in entries),
        "with_face": sum(entry["with_face"] for entry in entries),
        "rejected": dict(sorted(causes.items())),
    }
    manifest = Manifest(dataset=source.dataset, task=source.task, splits=splits, packing={**settings, **counts})
    summary = Summary(manifest=manifest, folder=out)
    summary.draw(out / "labels.png")
    write_whole(out / "manifest.json", manifest.to_json().encode())
    return summary
