"""Shards: whether they are there and whole, and whether disk and decoders keep up with each other."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vadv.config import Config
from vadv.doctor import Finding, fail, ok, warn

READ = 256 * 2**20
"""Bytes read or written to measure a disk."""
SECONDS = 10.0
"""For which decoding is watched."""


def shards(config: Config, fast: bool) -> Iterator[Finding]:
    """Manifests readable, files as the manifest says.

    Args:
        fast: sizes and checksums only; otherwise every clip is decoded.
    """
    from shards.remote import is_remote
    from shards.verify import verify

    for folder in config.data.folders():
        if is_remote(folder):
            yield from _remote(config, folder)
            continue
        try:
            report = verify(Path(folder), fast=fast)
        except (ValueError, OSError) as error:
            yield fail("shards", str(error), f"pack the dataset into {folder}, or set data.shards")
            continue
        if report.faults:
            first = report.faults[0]
            yield fail("shards", f"{len(report.faults)} faults in {folder}, first: {first}", "see launch/verify.py")
        else:
            yield ok("shards", f"{folder}: {report.shards} shards, {'checksums' if fast else 'all clips'} fine")


def throughput(config: Config, ranks_here: int) -> Iterator[Finding]:
    """Clips that the disk delivers per second against what the decoders of this machine's ranks take."""
    import torch

    from shards.dataset import ClipSet, ClipStream
    from shards.remote import is_remote

    folders = config.data.folders()
    if any(is_remote(folder) for folder in folders):
        return
    try:
        clips = ClipSet(folders, "train")
    except (ValueError, OSError):
        return  # `shards` has told what is wrong
    files = [path for folder in folders for path in sorted(Path(folder).glob("train/*.tar"))]
    per_clip = sum(path.stat().st_size for path in files) / max(1, len(clips))
    disk = _read_rate(files)
    torch.set_num_threads(1)
    stream = ClipStream(
        clips,
        seed=config.seed,
        batch_size=4,
        micro_batch_size=4,
        workers=config.data.workers,
        frames=config.data.frames,
        frame_size=config.data.frame_size,
        decode_timeout=config.data.decode_timeout,
        video=config.teacher is not None,
    )
    try:
        count, begin = 0, 0.0
        for step in stream.epoch(0):
            if not begin:  # the first step starts the decoders
                begin = time.perf_counter()
                continue
            count += step.planned
            if time.perf_counter() - begin > SECONDS:
                break
        decoded = ranks_here * count / max(1e-9, time.perf_counter() - begin)
    finally:
        stream.close()
    text = (
        f"disk {disk / 2**20:.0f} MiB/s = {disk / per_clip:.0f} clips/s; decoders of {ranks_here} ranks "
        f"{decoded:.0f} clips/s (train.batch_size {config.train.batch_size})"
    )
    if count and disk / per_clip < decoded:
        yield warn("throughput", text, "copy the shards to a local disk; training waits for this one")
    else:
        yield ok("throughput", text)


def cache(config: Config) -> Iterator[Finding]:
    """The folder of remote shards and cached features: writable, large and fast enough."""
    folder = config.data.cache_folder()
    used = config.teacher is not None and config.teacher.cache_features
    if not used and not any("://" in name for name in config.data.folders()):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rate = _write_rate(folder)
    except OSError as error:
        yield fail("cache", f"{folder}: {error}", "set data.cache_dir to a folder on a local disk")
        return
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    text = f"{folder}: {free / 2**30:.0f} GiB free, writes {rate / 2**20:.0f} MiB/s"
    if free < 2**30:
        yield fail("cache", text, "set data.cache_dir to a disk with room")
    else:
        yield ok("cache", text)


def _remote(config: Config, folder: str) -> Iterator[Finding]:
    from shards.cache import ShardCache

    kept = ShardCache(config.data.cache_folder(), config.data.cache_bytes)
    try:
        manifest = kept.manifest(folder)
        split = manifest.splits["train"]
        begin = time.perf_counter()
        path = kept.fetch(folder, split.shards[0])
        took = time.perf_counter() - begin
        rate = path.stat().st_size / 2**20 / max(took, 1e-9)
        yield ok(
            "shards", f"{folder}: {len(split.shards)} shards, the first fetched and its checksum fine, {rate:.0f} MiB/s"
        )
    except (ValueError, OSError, KeyError) as error:
        yield fail("shards", f"{folder}: {error}", "check the address, the credentials and the network of this node")
    finally:
        kept.close()


def _read_rate(files: list[Path]) -> float:
    """Bytes per second from the disk itself: the page cache is told to forget the files before."""
    read, took = 0, 0.0
    for path in files:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            begin = time.perf_counter()
            while block := file.read(4 * 2**20):
                read += len(block)
            took += time.perf_counter() - begin
        if read > READ:
            break
    return read / max(took, 1e-9)


def _write_rate(folder: Path) -> float:
    block = os.urandom(4 * 2**20)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        begin = time.perf_counter()
        for _ in range(16):
            file.write(block)
        os.fsync(file.fileno())
        return 16 * len(block) / (time.perf_counter() - begin)
