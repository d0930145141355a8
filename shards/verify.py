"""Whether a folder of shards is what its manifest says: files, checksums, indices, samples, clips.

Nothing of the folder is trusted: it may come from a stranger. Clips are decoded in processes that may be killed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.checksum import sha256_of
from shards.index import BadIndex, ShardIndex, index_path
from shards.manifest import Manifest, Shard, label_statistics, read_manifest
from shards.progress import Progress
from shards.sample import BadSample, limit_of, parse_arrays, parse_meta, video_suffix
from shards.screening import label_fault
from shards.tar import Member
from shards.workers import Failure, in_workers, one_thread

CLIP_TIMEOUT = 60.0
"""Seconds for one clip."""


@dataclass(frozen=True)
class Fault:
    """Something wrong.

    Attributes:
        where: shard, or shard and member.
        cause: a short fixed phrase.
        detail: one line for a person.
    """

    where: str
    cause: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.cause}: {' '.join(self.detail.split())}"


@dataclass
class Report:
    """What was looked at and what is wrong.

    Attributes:
        shards, samples, clips: how many were checked.
        faults: a verified folder has none.
        notes: what a person may want to know and what is no fault.
    """

    shards: int = 0
    samples: int = 0
    clips: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, where: str, cause: str, detail: str) -> None:
        self.faults.append(Fault(where, cause, detail))


@dataclass(frozen=True)
class ClipTask:
    """One sample for a worker: the tar, its members, what the manifest says of it."""

    tar: Path
    where: str
    members: dict[str, Member]
    dataset: str
    split: str
    task: str


@dataclass(frozen=True)
class Checked:
    """A worker's findings.

    Attributes:
        meta: KEY.json, or None when it cannot be read.
        faults: what is wrong with the sample.
        video: whether there was one.
    """

    meta: dict[str, Any] | None
    faults: list[Fault]
    video: bool


def verify(folder: Path, *, fast: bool = False, workers: int | None = None, progress: bool = True) -> Report:
    """Check a folder of shards.

    Args:
        folder: with manifest.json.
        fast: sizes and checksums only.
        workers: processes; default: one per core.
        progress: show progress on stderr.

    Raises:
        ValueError: no workers.
        BadManifest: there is no manifest that can be read, so nothing to check against.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"--workers: expected 1 or more, found {workers}")
    manifest = read_manifest(folder)
    report = Report()
    _strangers(folder, manifest, report)
    shards = [(name, shard) for name, split in manifest.splits.items() for shard in split.shards]
    size = sum(shard.bytes for _, shard in shards)
    tasks: list[ClipTask] = []
    with Progress("checksums", size, "bytes", show=progress) as bar:
        for name, shard in shards:
            index = _shard(folder, shard, report, fast, bar)
            if index:
                tasks += _tasks(folder, name, shard, index, manifest)
    if not fast:
        _samples(tasks, manifest, report, workers, progress)
    return report


def _strangers(folder: Path, manifest: Manifest, report: Report) -> None:
    """Tars that the manifest does not name: a reader that lists files would take them for samples."""
    known = {shard.file for split in manifest.splits.values() for shard in split.shards}
    for path in sorted(folder.glob("*/*.tar")):
        name = path.relative_to(folder).as_posix()
        if name not in known:
            report.add(name, "unknown shard", "a tar that manifest.json does not name; remove it or pack again")
    if (folder / ".packing").exists():
        report.notes.append(f"{folder / '.packing'}: packing is under way, or was interrupted")


def _shard(folder: Path, shard: Shard, report: Report, fast: bool, bar: Progress) -> ShardIndex | None:
    """Compare a tar with the manifest, and its index with the tar; returns the tar's true index for the next step."""
    path = folder / shard.file
    report.shards += 1
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            report.add(shard.file, "wrong size", f"expected {shard.bytes} bytes, found {size}")
        index = None if fast else ShardIndex.build(path)
        digest = index.sha256 if index else sha256_of(path)
    except OSError as error:
        report.add(shard.file, "unreadable", error.strerror or str(error))
        bar.update(shard.bytes)
        return None
    bar.update(shard.bytes)
    if digest != shard.sha256:
        report.add(shard.file, "wrong checksum", f"expected SHA-256 {shard.sha256[:16]}..., found {digest[:16]}...")
    if index is None:
        return None
    for broken in index.errors:
        report.add(shard.file, f"tar {broken.cause}", str(broken))
    if len(index) != shard.samples:
        report.add(shard.file, "wrong count", f"expected {shard.samples} samples, found {len(index)}")
    _stored_index(path, shard.file, index, report)
    return index


def _stored_index(tar: Path, name: str, built: ShardIndex, report: Report) -> None:
    path = index_path(tar)
    where = str(Path(name).with_suffix(".idx"))
    if not path.exists():
        report.notes.append(f"{where}: there is no index; it is made when it is first needed")
        return
    try:
        stored = ShardIndex.parse(path.read_bytes(), where)
    except (OSError, BadIndex) as error:
        report.add(where, "bad index", str(error))
        return
    if stored.sha256 != built.sha256:
        report.add(where, "stale index", "it belongs to another tar; delete it, it is made again")
    elif stored.tobytes() != built.tobytes():
        report.add(where, "wrong index", "it differs from what the tar holds; delete it, it is made again")


def _tasks(folder: Path, split: str, shard: Shard, index: ShardIndex, manifest: Manifest) -> Iterator[ClipTask]:
    for row in range(len(index)):
        yield ClipTask(
            tar=folder / shard.file,
            where=f"{shard.file}:{index.key(row)}",
            members=index.members(row),
            dataset=manifest.dataset,
            split=split,
            task=manifest.task,
        )


def _samples(tasks: list[ClipTask], manifest: Manifest, report: Report, workers: int | None, progress: bool) -> None:
    """Read and decode every sample; then what only all of them together show: ids that come twice, statistics."""
    seen: dict[str, str] = {}
    labels: dict[str, list[float]] = {name: [] for name in manifest.splits}
    videos: dict[str, set[str]] = {}
    results = in_workers(check_sample, tasks, workers=workers, timeout=CLIP_TIMEOUT, start=one_thread)
    with Progress("decoding", len(tasks), "clips", show=progress) as bar:
        for task, result in zip(tasks, results):
            bar.update()
            report.samples += 1
            if isinstance(result, Failure):
                report.add(task.where, result.cause, result.detail)
                continue
            report.clips += result.video
            report.faults += result.faults
            if result.meta is None:
                continue
            identity = result.meta["id"]
            if identity in seen:
                across = "" if seen[identity].split("/")[0] == task.split else " (another split: leakage)"
                report.add(task.where, "duplicate id", f"{identity!r} is also in {seen[identity]}{across}")
            seen.setdefault(identity, task.where)
            labels[task.split].append(result.meta["label"])
            if video := result.meta.get("video_id"):
                videos.setdefault(str(video), set()).add(task.split)
    for name, split in manifest.splits.items():
        found = label_statistics(labels[name], manifest.task) if not report.faults else split.labels
        if split.labels and found != split.labels:
            report.add("manifest.json", "wrong statistics", f"splits.{name}.labels differ from the samples' labels")
        if not split.samples:
            report.notes.append(f"{name}: there is no sample")
    shared = sorted(video for video, splits in videos.items() if len(splits) > 1)
    if shared:
        report.notes.append(f"{len(shared)} recordings (video_id) have clips in several splits, such as {shared[0]!r}")


def check_sample(task: ClipTask) -> Checked:
    """Read one sample and decode its clip, in a worker."""
    faults: list[Fault] = []
    meta: dict[str, Any] | None = None
    suffix = video_suffix(task.members)
    try:
        data = _read(task)
        if "json" not in data:
            raise BadSample("missing", "there is no KEY.json", "json")
        meta = parse_meta(data["json"])
        faults += _meta_faults(meta, task)
        parse_arrays(data)
        if suffix and "faces.npy" not in data:
            raise BadSample("missing", "a sample with a video has face features", "faces.npy")
        if suffix:
            _decode(data[suffix], suffix, meta)
    except BadSample as error:
        member = f".{error.member}" if error.member else ""
        faults.append(Fault(task.where + member, error.cause, error.detail))
    return Checked(meta=meta, faults=faults, video=suffix is not None)


def _read(task: ClipTask) -> dict[str, bytes]:
    """All members' bytes, none larger than its kind may be."""
    data = {}
    descriptor = os.open(task.tar, os.O_RDONLY)
    try:
        for suffix, member in task.members.items():
            if member.size > limit_of(suffix):
                raise BadSample("refused", f"expected at most {limit_of(suffix)} bytes, found {member.size}", suffix)
            data[suffix] = os.pread(descriptor, member.size, member.offset)
    finally:
        os.close(descriptor)
    return data


def _meta_faults(meta: dict[str, Any], task: ClipTask) -> list[Fault]:
    where = f"{task.where}.json"
    faults = []
    for key, expected in (("dataset", task.dataset), ("split", task.split)):
        if meta.get(key) != expected:
            faults.append(Fault(where, f"wrong {key}", f"expected {expected!r}, found {meta.get(key)!r:.60}"))
    if wrong := label_fault(meta["label"], task.task):
        faults.append(Fault(where, *wrong))
    if task.task == "sentiment" and not meta["text"].strip():
        faults.append(Fault(where, "empty text", "expected a transcript, found nothing"))
    return faults


def _decode(data: bytes, suffix: str, meta: dict[str, Any]) -> None:
    """Decode all frames and compare their number with KEY.json's."""
    import av

    from shards.probe import open_clip

    try:
        with open_clip(io.BytesIO(data)) as container:
            if not container.streams.video:
                raise BadSample("undecodable", "there is no video stream", suffix)
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frames = sum(1 for _ in container.decode(stream))
    except av.error.FFmpegError as error:
        raise BadSample("undecodable", error.strerror or type(error).__name__, suffix) from error
    if frames != meta.get("frames"):
        raise BadSample("wrong frames", f"expected {meta.get('frames')!r:.40}, {frames} decode", suffix)
