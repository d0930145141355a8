"""How the ranks of a Slurm job find each other, and what a training process is told: one task is one rank."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from slurm.folder import write_json
from vadv.ports import free_port

PATIENCE = 600.0
"""Seconds a rank waits for rank 0's address: nodes of one job may start minutes apart."""


def rank_environment(env: Mapping[str, str], folder: Path, interface: str | None = None) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT of this task, from the variables that srun sets.

    Rank 0 chooses a free port on its node and writes it to a file that the others read: only it can know what is free
    there, and a port derived from the job's number would collide where nodes are shared.

    Args:
        env: the environment of the task.
        folder: on a file system that all nodes see.
        interface: network interface whose address rank 0 gives, such as `ib0`.

    Raises:
        ValueError: not inside a task of srun, or no such interface.
        TimeoutError: rank 0 did not come.
    """
    try:
        rank, size, local = (int(env[name]) for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
    except KeyError as error:
        raise ValueError(f"{error.args[0]}: expected a task started by srun, found no such variable") from None
    nodes = int(env.get("SLURM_JOB_NUM_NODES", "1"))
    attempt = f"{env['SLURM_JOB_ID']}-{env.get('SLURM_STEP_ID', '0')}-{env.get('SLURM_RESTART_COUNT', '0')}"
    file = folder / f"rendezvous-{attempt}.json"
    if size == 1:
        address, port = "127.0.0.1", free_port()
    elif rank == 0:
        address, port = own_address(env, nodes, interface), free_port()
        write_json(file, {"address": address, "port": port})
    else:
        address, port = _wait_for(file)
    devices = env.get("CUDA_VISIBLE_DEVICES", "")
    if devices and "," not in devices:
        local = 0  # Slurm gave each task a GPU of its own, which is the only one it sees
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(max(1, size // nodes)),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def adopt(folder: Path) -> None:
    """Let a command that was started by `srun` be one rank of several; without srun, or under a launcher, do nothing.

    Args:
        folder: the run folder, which all ranks see.
    """
    env = os.environ
    # The batch script itself has SLURM_NTASKS and SLURM_PROCID as well, but no step.
    if "RANK" not in env and "SLURM_STEP_ID" in env and int(env.get("SLURM_NTASKS", "1")) > 1:
        env.update(rank_environment(env, folder / "rendezvous"))


def own_address(env: Mapping[str, str], nodes: int, interface: str | None) -> str:
    """The address under which the other nodes reach this one."""
    if nodes == 1:
        return "127.0.0.1"
    import psutil

    found = psutil.net_if_addrs()
    if interface is not None:
        if interface not in found:
            raise ValueError(f"slurm.interface: expected one of {', '.join(sorted(found))}, found {interface}")
        return next(a.address for a in found[interface] if a.family == socket.AF_INET)
    # In a batch job srun runs on the first node, as rank 0 does, and this is the address by which Slurm's daemons reach
    # it. The host's own name may resolve to 127.0.1.1, as it does on every Debian.
    launcher = env.get("SLURM_LAUNCH_NODE_IPADDR")
    if launcher in {address.address for addresses in found.values() for address in addresses}:
        return str(launcher)
    return socket.gethostbyname(socket.gethostname())


def _wait_for(file: Path) -> tuple[str, int]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        # Listing the folder makes a network file system look for new files.
        if file.parent.is_dir() and file.name in os.listdir(file.parent):  # noqa: PTH208
            content = json.loads(file.read_text(encoding="utf-8"))
            return content["address"], content["port"]
        time.sleep(0.2)
    raise TimeoutError(f"rank 0 did not give its address within {PATIENCE:.0f} seconds in {file}")
