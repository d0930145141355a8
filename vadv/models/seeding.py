"""Random weights that depend on a seed and a name only: not on ranks, nor on what was built before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Within the block, torch's CPU generator starts from (seed, name); afterwards it is as before.

    Modules are built on the CPU (or the meta device) and moved later, so other devices' generators do not matter.
    """
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little") >> 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        yield
