"""One way of reading clips, timed in a process of its own: python -m vadv.bench.ways WAY FOLDER WORKERS PASSES

Prints one JSON object: clips, seconds, and cpu: seconds of processor time that this process and all below it used.
Every way yields T frames of 224 x 224 pixels per clip, except `limit` and `limit_excerpt`, which stop at decord's own
pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

FRAMES, SIZE = 8, 224


def main() -> None:
    """Run one way and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=sorted(WAYS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("workers", type=int)
    parser.add_argument("passes", type=int)
    options = parser.parse_args()
    print(json.dumps(WAYS[options.way](options.folder, options.workers, options.passes)))


def _cpu() -> float:
    """Processor seconds of this process and of all that it ever started."""
    import psutil

    total = sum(os.times()[:2])
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total += ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _timed(passes: int, one_pass: Callable[[], int]) -> dict[str, Any]:
    """Time passes after one to warm up: imports, processes, the page cache."""
    one_pass()
    began, used = time.perf_counter(), _cpu()
    clips = sum(one_pass() for _ in range(passes))
    return {"clips": clips, "seconds": time.perf_counter() - began, "cpu": _cpu() - used}


def decord_frames(data: bytes, **options: Any) -> np.ndarray:
    """As decord's documentation shows: a reader on the bytes, a batch of frames; then CLIP's resize and crop."""
    import decord

    from shards.frames import segment_centres, show

    reader = decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), **options)
    out = np.empty((FRAMES, 3, SIZE, SIZE), np.uint8)
    show(reader.get_batch(segment_centres(len(reader), FRAMES)).asnumpy(), out)
    return out


def _webdataset_sample(sample: dict[str, Any]) -> tuple[Any, Any]:
    return decord_frames(sample["mp4"]), json.loads(sample["json"])["label"]


def webdataset_decord(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """webdataset's pipeline with decord in its map, batched by its loader."""
    import webdataset

    urls = sorted(str(path) for path in (folder / "train").glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).map(_webdataset_sample)
    loader = webdataset.WebLoader(data.batched(4), batch_size=None, num_workers=workers)
    return _timed(passes, lambda: sum(len(labels) for _, labels in loader))


def ours(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """ClipStream, as training uses it."""
    with _stream(folder, workers, shuffle=False) as stream:
        return _timed(passes, lambda: sum(_good(step) for step in stream.epoch(0)))


def _stream(folder: Path, workers: int, **options: Any) -> Any:
    from shards.dataset import ClipSet, ClipStream

    options |= {"workers": workers, "batch_size": 4, "micro_batch_size": 4, "frames": FRAMES, "frame_size": SIZE}
    return ClipStream(ClipSet(folder, "train"), seed=1, **options)


def _good(step: Any) -> int:
    clips = [clip for micro_batch in step.micro_batches for clip in micro_batch if clip.index >= 0]
    assert all(clip.fault is None for clip in clips), [clip.fault for clip in clips]
    return len(clips)


def videos_of(folder: Path) -> list[bytes]:
    from shards.dataset import ClipSet

    clips = ClipSet(folder, "train")
    return [clips.read(*clips.locate(number))["mp4"] for number in range(len(clips))]


def limit(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """decord alone, on bytes that are in memory."""
    return _decord_alone(videos_of(folder), passes)


def limit_excerpt(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """decord alone, on files of just the pictures that are shown, which are in memory."""
    from shards.excerpt import pictures
    from shards.frames import segment_centres

    clips = [pictures(data) for data in videos_of(folder)]
    excerpts = [clip.avi(segment_centres(len(clip), FRAMES).tolist()) for clip in clips if clip is not None]
    return _decord_alone(excerpts, passes)


def _decord_alone(videos: list[bytes], passes: int) -> dict[str, Any]:
    import decord

    from shards.frames import segment_centres

    def one_pass() -> int:
        for data in videos:
            reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
            reader.get_batch(segment_centres(len(reader), FRAMES)).asnumpy()
        return len(videos)

    return _timed(passes, one_pass)


def limit_resized(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """decord and CLIP's resize and crop, on bytes that are in memory."""
    videos = videos_of(folder)

    def one_pass() -> int:
        for data in videos:
            decord_frames(data, num_threads=1)
        return len(videos)

    return _timed(passes, one_pass)


def mosaic(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """MosaicML streaming: its own shards of the same bytes, decoded by decord in its workers."""
    from streaming import MDSWriter, StreamingDataset
    from torch.utils.data import DataLoader

    class Clips(StreamingDataset):
        def __getitem__(self, at: int) -> Any:
            sample = super().__getitem__(at)
            return decord_frames(sample["mp4"]), sample["label"]

    where = folder / "mds"
    if not where.exists():
        with MDSWriter(out=str(where), columns={"mp4": "bytes", "label": "float64"}) as writer:
            for data in videos_of(folder):
                writer.write({"mp4": data, "label": 0.0})
    data = Clips(local=str(where), shuffle=False, batch_size=4)
    loader = DataLoader(data, batch_size=4, num_workers=workers)
    return _timed(passes, lambda: sum(len(labels) for _, labels in loader))


def members(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """The index and one pread a sample, without a look at the bytes."""
    from shards.dataset import ClipSet

    clips = ClipSet(folder, "train")

    def one_pass() -> int:
        for number in range(len(clips)):
            place = clips.place(*clips.locate(number))
            first = min(member.offset for member in place.members.values())
            last = max(member.offset + member.size for member in place.members.values())
            os.pread(place.shard.descriptor, last - first, first)
        return len(clips)

    return _timed(passes, one_pass)


def checked_members(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """The same with the CRC-32 of every member."""
    from shards.dataset import ClipSet

    clips = ClipSet(folder, "train")

    def one_pass() -> int:
        for number in range(len(clips)):
            clips.read(*clips.locate(number))
        return len(clips)

    return _timed(passes, one_pass)


def cat(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """cat of the same tars."""
    import subprocess

    tars = sorted((folder / "train").glob("*.tar"))

    def one_pass() -> int:
        subprocess.run(["cat", *map(str, tars)], stdout=subprocess.DEVNULL, check=True)
        return 1

    return _timed(passes, one_pass)


def first_batch(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """Seconds from a process that has imported its modules to the first step in hand."""
    import shards.dataset  # noqa: F401 - before the clock starts

    began = time.perf_counter()
    with _stream(folder, workers) as stream:
        next(stream.epoch(0))
        return {"clips": 4, "seconds": time.perf_counter() - began, "cpu": _cpu()}


def memory(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """Resident memory of this process and of the decoders, in MB, after each pass."""
    import psutil

    def resident() -> Iterator[float]:
        for process in psutil.Process().children(recursive=True):
            yield process.memory_info().rss

    with _stream(folder, workers) as stream:
        trainer, decoders = [], []
        for epoch in range(passes):
            for step in stream.epoch(epoch):
                _good(step)
            trainer.append(psutil.Process().memory_info().rss / 1e6)
            decoders.append(sum(resident()) / 1e6)
    return {"trainer": trainer, "decoders": decoders}


def quality(folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """PSNR and SSIM of every clip's frames, packed against raw; `folder` holds both."""
    from vadv.bench.quality import nearness

    views = zip(*(map(decord_frames, videos_of(folder / form)) for form in ("packed", "raw")), strict=True)
    found = [nearness(packed, raw) for packed, raw in views]
    return {name: [each[at] for each in found] for at, name in enumerate(("psnr", "ssim"))}


WAYS = {
    way.__name__: way
    for way in (
        webdataset_decord,
        ours,
        limit,
        limit_excerpt,
        limit_resized,
        mosaic,
        members,
        checked_members,
        cat,
        first_batch,
        memory,
        quality,
    )
}

if __name__ == "__main__":
    main()
