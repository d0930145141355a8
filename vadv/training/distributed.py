"""The ranks of a run: joining them, and the small messages that keep them in step."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

CONNECTION_TIMEOUT = 1800.0
"""Seconds that ranks wait for each other to start: a first download or a shared file system may hold one up."""


@dataclass(frozen=True)
class World:
    """This process's place among the ranks.

    Attributes:
        rank, size: global rank and number of ranks.
        device: where the model lives.
        control: a gloo group beside the main one, for messages that the host needs without waiting for the GPU.
    """

    rank: int
    size: int
    device: torch.device
    control: dist.ProcessGroup

    @property
    def first(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def agree(self, values: Sequence[float], op: str = "max") -> list[float]:
        """The element-wise maximum or sum of `values` over the ranks, the same list on each."""
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX if op == "max" else dist.ReduceOp.SUM, group=self.control)
        return tensor.tolist()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.agree([0.0])

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value` on every rank."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def collect(self, value: Any) -> list[Any]:
        """The `value` of every rank, in rank order, on every rank."""
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value, group=self.control)
        return box

    def rows(self, table: np.ndarray) -> np.ndarray:
        """All ranks' rows of a 2-D float64 table, one after the other; ranks may have none."""
        return np.concatenate([part for part in self.collect(table) if len(part)] or [table])

    def leave(self) -> None:
        """Take down the process groups, so that the process could join another run."""
        import deepspeed.comm.comm

        if dist.is_initialized():
            deepspeed.comm.comm.destroy_process_group()
        deepspeed.comm.comm.cdb = None


def choose_accelerator() -> None:
    """Tell DeepSpeed, before it is imported, that there is only the CPU: its own search prints warnings."""
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"


def join(timeout: float) -> World:
    """Find the other ranks and the device.

    Args:
        timeout: seconds after which a collective without an answer fails.

    Raises:
        ValueError: the environment describes no valid set of ranks.
    """
    rank, size = _integer("RANK", 0), _integer("WORLD_SIZE", 1)
    local = _integer("LOCAL_RANK", 0)
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it
    cuda = torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"
    if cuda and local >= torch.cuda.device_count():
        raise ValueError(
            f"LOCAL_RANK: expected less than {torch.cuda.device_count()}, the GPUs of this machine, found {local}; "
            "start fewer processes, or set DS_ACCELERATOR=cpu"
        )
    if cuda:
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    _initialise("cpu:gloo,cuda:nccl" if cuda else "gloo", rank, size, timeout)
    _wrap_for_deepspeed()
    return World(rank, size, device, dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout)))


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed since another rank is gone."""
    signs = ("connection closed", "connection reset", "broken pipe", "timed out", "timeout", "gloo", "nccl", "peer")
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(sign in text for sign in signs)


def _initialise(backend: str, rank: int, size: int, timeout: float) -> None:
    if dist.is_initialized():
        return
    limit = timedelta(seconds=timeout)
    if size == 1:
        # No port and no address: a single process must not fail because of another on the same machine.
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=limit)
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise ValueError(f"{name}: expected the rendezvous of {size} ranks in the environment, found nothing")
    address, port = os.environ["MASTER_ADDR"], _integer("MASTER_PORT", 0)
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = dist.TCPStore(address, port, size, serves, timeout=timedelta(seconds=CONNECTION_TIMEOUT))
    except dist.DistNetworkError as error:
        if "EADDRINUSE" in str(error):
            raise ValueError(
                f"MASTER_PORT: port {port} of {address} is in use, perhaps by another run; give another one, as "
                "`deepspeed --master_port 29501` or `torchrun --master_port 29501`"
            ) from None
        raise
    dist.init_process_group(backend, store=dist.PrefixStore("vadv", store), rank=rank, world_size=size, timeout=limit)


def _wrap_for_deepspeed() -> None:
    """Let DeepSpeed use the group that exists.

    Its shared-memory all-reduce for CPUs is switched off: it takes a minute to compile on a new machine, spins for ever
    when a peer dies, and leaves files in /dev/shm; gloo reports a lost peer at once.
    """
    import deepspeed
    import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel("WARNING")
    logger.addFilter(_matters)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(verbose=False)


def _matters(record: logging.LogRecord) -> bool:
    """False for what ZeRO-3 says of modules that take or return dataclasses, for which it gathers nothing in the backward
    pass: ours have no parameters of their own (tests/models/test_ablations.py)."""
    return "unknown inputs or outputs type" not in record.getMessage()


def _integer(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise ValueError(f"{name}: expected a whole number in the environment, found {text}")
    return int(text)
