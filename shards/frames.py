"""Which frames of a clip are shown, and how they come to the model's size."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from shards.order import mix, mix_all

if TYPE_CHECKING:
    from PIL.Image import Image


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


def fit(image: Image, size: int) -> Image:
    """Resize the short side to `size` pixels (bicubic, antialiased) and crop the centre, size x size.

    Equals open_clip's evaluation transform (torchvision's Resize and CenterCrop on a PIL image) bit for bit. Cropping
    first would save a third of the time, but PIL keeps crop boxes in float32: one pixel in 10,000 comes out one off.
    """
    from PIL.Image import Resampling

    width, height = image.size
    if min(width, height) != size:
        if width <= height:
            width, height = size, int(size * height / width)
        else:
            width, height = int(size * width / height), size
        image = image.resize((width, height), Resampling.BICUBIC)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size)) if (width, height) != (size, size) else image


def show(pictures: np.ndarray, out: np.ndarray) -> None:
    """Fit each of `pictures`, (T, h, w, 3) uint8, into `out`, (T, 3, H, H) uint8."""
    from PIL import Image

    for at, picture in enumerate(pictures):
        for channel, band in enumerate(fit(Image.fromarray(picture), out.shape[-1]).split()):
            out[at, channel] = np.asarray(band)
