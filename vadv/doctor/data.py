"""Shards: whether they are there and whole, and whether disk or network keep up with the decoders."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from shards.manifest import Shard
from shards.remote import local_path
from vadv.config import Config, Data
from vadv.doctor import Finding, fail, ok, warn

READ = 256 * 2**20
"""Bytes read to measure a disk or a network."""
SECONDS = 10.0
"""For which decoding is watched."""


def shards(config: Config, fast: bool) -> Iterator[Finding]:
    """Manifests readable and of the task, files as the manifest says.

    Args:
        fast: sizes and checksums only; otherwise every clip is decoded.
    """
    from shards.remote import is_remote
    from shards.verify import verify
    from vadv import tasks
    from vadv.clips import open_clips

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
            try:
                open_clips(Data(shards=folder), "train", tasks.kind(config).shards)
            except ValueError as error:
                yield fail("shards", str(error), "set data.shards, or task")


def throughput(config: Config, ranks_here: int) -> Iterator[Finding]:
    """Clips per second that the disk or the network delivers against what the decoders of this machine's ranks take."""
    import torch

    from shards.dataset import ClipStream
    from shards.remote import is_remote
    from vadv.clips import open_clips

    folders = config.data.folders()
    try:
        clips = open_clips(config.data, "train")
    except (ValueError, OSError):
        return  # `shards` has told what is wrong
    shards = [shard for manifest in clips.manifests for shard in manifest.splits["train"].shards]
    per_clip = sum(shard.bytes for shard in shards) / max(1, len(clips))
    rates = {}
    for folder, manifest in zip(folders, clips.manifests, strict=True):
        try:
            rates[folder] = (_network_rate if is_remote(folder) else _read_rate)(
                folder, manifest.splits["train"].shards
            )
        except OSError:
            return
    torch.set_num_threads(1)
    stream = ClipStream(
        clips,
        seed=config.seed,
        batch_size=4,
        micro_batch_size=4,
        shuffle=False,
        workers=config.data.workers,
        frames=config.data.frames,
        frame_size=config.data.frame_size,
        decode_timeout=config.data.decode_timeout,
        video=config.teacher is not None,
    )
    # Of remote shards the first is in the cache already: what follows it would be the network's rate again.
    enough = int(clips.sizes[0]) if any(map(is_remote, folders)) else len(clips)
    try:
        count, begin, took = 0, 0.0, 0.0
        for step in stream.epoch(0):
            if not begin:  # the first step starts the decoders
                begin = time.perf_counter()
                continue
            count += step.planned
            took = time.perf_counter() - begin
            if took > SECONDS or step.position >= enough:
                break
        decoded = ranks_here * count / max(1e-9, took)
    finally:
        stream.close()
    for folder, rate in rates.items():
        text = (
            f"{'network' if is_remote(folder) else 'disk'} {rate / 2**20:.0f} MiB/s = {rate / per_clip:.0f} clips/s; "
            f"decoders of {ranks_here} ranks {decoded:.0f} clips/s (train.batch_size {config.train.batch_size})"
        )
        if not count or rate / per_clip >= decoded:
            yield ok("throughput", text)
        elif is_remote(folder):
            remedy = "the first epoch waits for the network; let data.cache_bytes hold all shards, or copy them before"
            yield warn("throughput", text, remedy)
        else:
            yield warn("throughput", text, "copy the shards to a local disk; training waits for this one")


def _remote(config: Config, folder: str) -> Iterator[Finding]:
    from shards.cache import ShardCache

    kept = ShardCache(config.data.cache_folder(), config.data.cache_bytes)
    try:
        split = kept.manifest(folder).splits["train"]
        kept.fetch(folder, split.shards[0])
        yield ok("shards", f"{folder}: {len(split.shards)} shards, the first is here and its checksum fine")
    except (ValueError, OSError, KeyError) as error:
        yield fail("shards", f"{folder}: {error}", "check the address, the credentials and the network of this node")
    finally:
        kept.close()


def _read_rate(folder: str, shards: Sequence[Shard]) -> float:
    """Bytes per second from the disk itself: the page cache is told to forget the files before."""
    read, took = 0, 0.0
    for shard in shards:
        with (Path(local_path(folder)) / shard.file).open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            begin = time.perf_counter()
            while block := file.read(4 * 2**20):
                read += len(block)
            took += time.perf_counter() - begin
        if read > READ:
            break
    return read / max(took, 1e-9)


def _network_rate(folder: str, shards: Sequence[Shard]) -> float:
    """Bytes per second over the network, past the cache."""
    from shards.remote import Remote

    remote, read, begin = Remote(folder), 0, time.perf_counter()
    for shard in shards:
        for piece in remote.pieces(shard.file, 0, shard.bytes):
            read += len(piece)
            if read > READ or time.perf_counter() - begin > SECONDS:
                break
        if read > READ or time.perf_counter() - begin > SECONDS:
            break
    return read / max(time.perf_counter() - begin, 1e-9)
