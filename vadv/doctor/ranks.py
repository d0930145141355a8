"""A collective between all ranks: whether they find each other, compute the right sum, and how fast."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict

from vadv.doctor import Finding, fail, ok, warn
from vadv.ports import free_port

BYTES_CPU, BYTES_GPU = 16 * 2**20, 256 * 2**20
"""Size of the tensor that is summed."""
ROUNDS = 5
PATIENCE = 180.0
"""Seconds for ranks that are started here."""
SLOW = 0.05
"""GB/s below which gradients of a few hundred million numbers take longer than the step itself."""


def measure() -> list[Finding]:
    """Sum a tensor over all ranks of the environment, on each of them; rank 0's findings tell of all."""
    import torch
    import torch.distributed as dist

    from vadv.training.distributed import join

    world = join(PATIENCE)
    gpu = world.device.type == "cuda"
    data = torch.full(((BYTES_GPU if gpu else BYTES_CPU) // 4,), float(world.rank + 1), device=world.device)
    times = []
    for _ in range(ROUNDS):
        copy = data.clone()
        world.barrier()
        begin = time.perf_counter()
        dist.all_reduce(copy)
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    expected = world.size * (world.size + 1) / 2
    right = bool((copy == expected).all())
    places = world.collect((socket.gethostname(), os.environ.get("SLURMD_NODENAME"), right, min(times)))
    world.leave()
    nodes = sorted({node or host for host, node, _, _ in places})
    # A ring moves 2 (n - 1) / n of the tensor through each rank's link.
    moved = 2 * (world.size - 1) / world.size * data.numel() * 4
    rate = moved / max(took for *_, took in places) / 1e9
    text = f"{world.size} ranks on {', '.join(nodes)} by {'nccl' if gpu else 'gloo'}"
    if not all(correct for _, _, correct, _ in places):
        return [fail("collective", f"{text}: a wrong sum", "test the network and the driver of these nodes")]
    if world.size == 1:
        return [ok("collective", "one rank: nothing to talk about")]
    text += f", all-reduce of {data.numel() * 4 / 2**20:.0f} MiB at {rate:.2f} GB/s per rank"
    if rate < SLOW and len(nodes) > 1:
        return [warn("collective", text, "set slurm.interface or NCCL_SOCKET_IFNAME to the fast network")]
    return [ok("collective", text)]


def measure_here(ranks: int) -> list[Finding]:
    """The same with ranks that are started on this machine for the purpose."""
    rendezvous = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = []
    for rank in range(ranks):
        env = {**os.environ, **rendezvous, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-m", "vadv.doctor.ranks"]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        outputs = [process.communicate(timeout=PATIENCE) for process in started]
    except subprocess.TimeoutExpired:
        remedy = "look for a firewall on the loopback interface, or a hanging GPU"
        return [fail("collective", f"{ranks} ranks did not finish within {PATIENCE:.0f} seconds", remedy)]
    finally:
        for process in started:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()
    broken = next((n for n, process in enumerate(started) if process.returncode), None)
    if broken is not None:
        last = (outputs[broken][1].strip().splitlines() or ["no message"])[-1]
        return [fail("collective", f"rank {broken} ended with {started[broken].returncode}: {last}", "mend that first")]
    return [Finding(**content) for content in json.loads(outputs[0][0].splitlines()[-1])]


if __name__ == "__main__":
    print(json.dumps([asdict(finding) for finding in measure()]))
