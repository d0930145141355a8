"""The cache's key: a hash of everything that decides the numbers which frozen CLIP gives for a clip."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from typing import Any

import torch
from torch import Tensor

from vadv.models.clip import FrozenFrames, Geometry

FORMAT = 2
"""Counted up when the tower, the preprocessing of frames or the files on the disk change their meaning."""
LIBRARIES = ("torch", "decord", "pillow")
"""Packages that take part in the way from a video to tokens; another version may round differently."""


def fingerprint(
    tower: FrozenFrames,
    geometry: Geometry,
    *,
    frames: int,
    computed: torch.dtype,
    stored: torch.dtype,
    device: torch.device,
) -> tuple[str, dict[str, Any]]:
    """Identify what the tower computes.

    Takes a second per GB of weights.

    Args:
        tower: with its whole weights, as they were loaded, on any device.
        geometry: of the CLIP that the tower is of.
        frames: T, frames per clip.
        computed: number format in which the tower will run.
        stored: number format in which its tokens are kept.
        device: where it will run: a GPU and a CPU do not give the same bits.

    Returns:
        The key, 32 hexadecimal digits, and what it was made of.
    """
    about = {
        "format": FORMAT,
        "weights": _digest({**dict(tower.named_parameters()), **dict(tower.named_buffers())}),
        "heads": geometry.heads,
        "quick_gelu": geometry.quick_gelu,
        "frames": frames,
        "frame_size": geometry.image,
        "tokens_per_frame": geometry.patches + 1,
        "width": geometry.width,
        "computed": str(computed).removeprefix("torch."),
        "stored": str(stored).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "matmul_precision": torch.get_float32_matmul_precision(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    text = json.dumps(about, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest(), about


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
