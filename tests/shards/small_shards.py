"""Small shards for tests, made the way pack makes them: webdataset's TarWriter, PyAV, a manifest."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from shards.manifest import Manifest, Shard, Split

Members = list[tuple[str, bytes]]


@functools.cache
def clip(frames: int = 24, width: int = 96, height: int = 64, fps: int = 12, gop: int = 8, bright: int = 0) -> bytes:
    """An H.264 clip whose frame i is as bright as 8·i (above `bright`), so that a picture tells its number."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "g": str(gop), "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(frames):
            picture = np.full((height, width, 3), (bright + 8 * number) % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def meta(number: int, dataset: str = "toy", **changes: Any) -> bytes:
    """KEY.json of a sample."""
    found = {
        "id": f"{dataset}-{number}",
        "dataset": dataset,
        "video_id": f"v{number}",
        "clip_id": "0",
        "text": f"text {number}",
        "label": number % 7 - 3.0,
        "split": "train",
        "duration": 2.0,
        "fps": 12.0,
        "frames": 24,
    }
    return json.dumps(found | changes).encode()


def text_only(number: int) -> Members:
    return [("json", meta(number))]


def with_video(number: int) -> Members:
    faces = np.full((64, 8), number, np.float32)
    return [("json", meta(number)), ("mp4", clip(bright=number % 3)), ("faces.npy", npy(faces))]


def write_tar(path: Path, first: int, samples: Sequence[Members], mtime: float = 0) -> None:
    """A tar of samples with keys from `first` on."""
    from webdataset.writer import TarWriter  # imports torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = TarWriter(file, encoder=False, user="", group="", mtime=mtime)
        for row, members in enumerate(samples):
            for suffix, data in members:
                writer.write({"__key__": f"{first + row:08d}", suffix: data})
        writer.close()


def write_shards(
    folder: Path,
    sizes: Sequence[int],
    sample: Callable[[int], Members] = text_only,
    dataset: str = "toy",
    split: str = "train",
) -> Path:
    """A folder of shards of one split."""
    first = 0
    for number, size in enumerate(sizes):
        write_tar(folder / split / f"{number:06d}.tar", first, [sample(n) for n in range(first, first + size)])
        first += size
    write_manifest(folder, sizes, dataset, split)
    return folder


def write_manifest(folder: Path, sizes: Sequence[int], dataset: str = "toy", split: str = "train") -> None:
    """A manifest of the tars as they are now."""
    shards = []
    for number, size in enumerate(sizes):
        data = (folder / split / f"{number:06d}.tar").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        shards.append(Shard(file=f"{split}/{number:06d}.tar", bytes=len(data), sha256=digest, samples=size))
    manifest = Manifest(dataset=dataset, task="sentiment", splits={split: Split(shards=tuple(shards))})
    (folder / "manifest.json").write_text(manifest.to_json())


def descriptors() -> int:
    """Open file descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def tar_of(*entries: tuple[str | tarfile.TarInfo, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of (name or TarInfo, bytes) between two good samples."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in [("00000000.json", meta(0)), *entries, ("00000009.json", meta(9))]:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
