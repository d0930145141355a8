"""Which frames of a clip are shown, and how they come to the model's size."""

from __future__ import annotations

import hashlib

import numpy as np

from shards.order import mix, mix_all


def sample_key(seed: int, view: int, dataset: str, id: str) -> int:
    """64-bit key of a clip's random numbers: a function of the seed, the view and the sample, of nothing else."""
    name = hashlib.blake2b(f"{dataset}\0{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return mix_all(seed, view, int.from_bytes(name, "little"))


def segment_centres(total: int, count: int) -> np.ndarray:
    """(count,) int64 growing frame numbers, the middle of each of `count` equal segments of `total` frames.

    Source: X-CLIP's test sampling, floor(i·N/T + N/(2T)).
    """
    return (np.arange(count, dtype=np.int64) * 2 + 1) * total // (2 * count)


def segment_random(total: int, count: int, key: int) -> np.ndarray:
    """(count,) int64 growing frame numbers, one drawn from each of `count` equal segments of `total` frames.

    A segment without a frame of its own (total < count) shows the frame before it.

    Source: X-CLIP's training sampling.
    """
    edges = np.arange(count + 1, dtype=np.int64) * total // count
    widths = np.maximum(edges[1:] - edges[:-1], 1)
    drawn = mix(np.arange(count, dtype=np.uint64) ^ np.uint64(key)) >> np.uint64(32)
    offsets = (drawn * widths.astype(np.uint64)) >> np.uint64(32)
    return np.minimum(edges[:-1] + offsets.astype(np.int64), total - 1)


def size_at(width: float, height: float, short_side: int) -> tuple[int, int]:
    """Width and height of a picture when its short side becomes `short_side`; rounds as torchvision's Resize."""
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """(h, w, 3) uint8 to (height, width, 3): bicubic, antialiased, bit for bit open_clip's (PIL's)."""
    from PIL import Image

    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def view(picture: np.ndarray, size: int, aspect: float = 1.0) -> np.ndarray:
    """(h, w, 3) uint8 to (size, size, 3): the short side resized to `size`, the centre of the long one cropped out.

    Equals open_clip's evaluation transform (torchvision's Resize and CenterCrop on a PIL image) bit for bit. Cropping
    first would save a third of the resize, but PIL keeps crop boxes in float32: one pixel in 10,000 comes out one off.

    Args:
        aspect: width of a pixel over its height.
    """
    width, height = size_at(picture.shape[1] * aspect, picture.shape[0], size)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return resize(picture, width, height)[top : top + size, left : left + size]


def show(pictures: np.ndarray, out: np.ndarray) -> None:
    """The view of `pictures`, (T, h, w, 3) uint8, into `out`, (T, 3, H, H) uint8; packed for this size they are it already."""
    for picture, shown in zip(pictures, out, strict=True):
        shown[...] = view(picture, out.shape[-1]).transpose(2, 0, 1)
