"""What a person decides about where and how points run: the `slurm` and `local` sections of a sweep."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import Any

from vadv.spelling import did_you_mean

MANAGED = {
    "array": "slurm.array_parallelism",
    "begin": None,
    "chdir": None,
    "cpus-per-task": "slurm.cpus_per_task",
    "error": None,
    "gpus-per-node": "slurm.gpus_per_node",
    "job-name": None,
    "mem": "slurm.mem_gb",
    "no-requeue": None,
    "nodes": "slurm.nodes",
    "ntasks": "slurm.tasks_per_node",
    "ntasks-per-node": "slurm.tasks_per_node",
    "open-mode": None,
    "output": None,
    "parsable": None,
    "partition": "slurm.partition",
    "account": "slurm.account",
    "qos": "slurm.qos",
    "constraint": "slurm.constraint",
    "requeue": None,
    "signal": "slurm.signal_delay",
    "time": "slurm.time",
    "wait": None,
    "wrap": None,
}
"""sbatch parameters that have a setting of their own, or that the sweep sets itself (None)."""

# `sbatch --help` of Slurm 22.05; the installed sbatch is asked too, so that newer parameters pass.
_KNOWN = """
acctg-freq array account bb bbf begin comment cpu-freq cpus-per-task dependency deadline delay-boot chdir error
export export-file get-user-env gid gres gres-flags hold ignore-pbs input job-name no-kill licenses clusters
container distribution mail-type mail-user mcs-label ntasks nice no-requeue ntasks-per-node nodes open-mode
output overcommit partition parsable power priority profile propagate qos quiet reboot requeue oversubscribe
core-spec signal spread-job switches thread-spec time time-min uid use-min-nodes verbose wait wckey wrap
cluster-constraint contiguous constraint nodefile mem mincpus reservation tmp nodelist exclude exclusive
mem-per-cpu sockets-per-node cores-per-socket threads-per-core extra-node-info ntasks-per-core ntasks-per-socket
hint mem-bind cpus-per-gpu gpus gpu-bind gpu-freq gpus-per-node gpus-per-socket gpus-per-task mem-per-gpu
network prefer segment resv-ports tres-per-task tres-bind extra
"""
KNOWN = frozenset(_KNOWN.split())


@dataclass(kw_only=True)
class Slurm:
    """What each point asks of Slurm. One task is one rank; a point is one element of a job array."""

    nodes: int = 1
    """Nodes per point."""
    gpus_per_node: int = 1
    """GPUs per node; 0 runs on CPUs."""
    tasks_per_node: int | None = None
    """Ranks per node; default: one per GPU, or one without GPUs."""
    cpus_per_task: int = 4
    """CPU cores per rank: the training process and `data.workers` decoders."""
    mem_gb: float | None = None
    """Memory per node in GB; default: the site's."""
    partition: str | None = None
    """Partition, or several with commas; default: the site's."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that nodes must have, such as `a100`."""
    time: str | int = "24:00:00"
    """Time limit of one attempt, as sbatch takes it: minutes, H:M:S or D-H:M:S. Longer points are requeued."""
    signal_delay: int = 120
    """Seconds before the time limit at which a point is told to save and be requeued."""
    array_parallelism: int = 32
    """Points of one array that run at the same time."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the ranks start, such as `module load cuda`."""
    python: str | None = None
    """Command for Python on a node, such as `apptainer exec --nv image.sif python`; default: this interpreter."""
    interface: str | None = None
    """Network interface by which ranks meet, such as `ib0`; default: the address that Slurm has of the first node."""
    srun: list[str] = field(default_factory=list)
    """Further arguments of srun, such as `--cpu-bind=cores`."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Further parameters of sbatch by long name, such as `{nice: 100, exclude: node7}`; true: no value needed."""

    def ranks(self) -> int:
        """World size of a point."""
        return self.nodes * self.per_node()

    def per_node(self) -> int:
        """Ranks on each node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    def minutes(self) -> int:
        """The time limit in whole minutes, rounded up.

        Raises:
            ValueError: not a time as sbatch writes it.
        """
        text = str(self.time)
        match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
        if not match:
            raise ValueError(f"slurm.time: expected minutes, H:M:S or D-H:M:S, found {text}")
        days, first, second, third = (int(part or 0) for part in match.groups())
        if match[1] is not None:
            seconds = ((days * 24 + first) * 60 + second) * 60 + third
        elif match[4] is not None:
            seconds = (first * 60 + second) * 60 + third
        else:
            seconds = first * 60 + second
        return math.ceil(seconds / 60)

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus_per_task", "array_parallelism"):
            if getattr(self, name) < 1:
                raise ValueError(f"slurm.{name}: expected at least 1, found {getattr(self, name)}")
        if self.gpus_per_node < 0:
            raise ValueError(f"slurm.gpus_per_node: expected 0 or more, found {self.gpus_per_node}")
        if self.tasks_per_node is not None and self.tasks_per_node < 1:
            raise ValueError(f"slurm.tasks_per_node: expected at least 1, found {self.tasks_per_node}")
        if not 0 < self.signal_delay < 60 * self.minutes():
            raise ValueError(
                f"slurm.signal_delay: expected more than 0 and less than slurm.time, {60 * self.minutes()} seconds, "
                f"found {self.signal_delay}"
            )
        self.sbatch = {name.lstrip("-").replace("_", "-"): value for name, value in self.sbatch.items()}
        for name in self.sbatch:
            if name in MANAGED:
                use = f"set {MANAGED[name]}" if MANAGED[name] else "the sweep sets it itself; leave it out"
                raise ValueError(f"slurm.sbatch: found {name}; {use}")
            if name not in KNOWN and name not in _installed():
                hint = did_you_mean(name, KNOWN) or "; `sbatch --help` lists them"
                raise ValueError(f"slurm.sbatch: unknown parameter {name}{hint}")


@dataclass(kw_only=True)
class Local:
    """How the local executor uses this machine."""

    parallel: int = 1
    """Points that run at the same time."""
    ranks: int = 1
    """Processes per point. GPUs, where there are any, are dealt out one per process."""

    def __post_init__(self) -> None:
        for name in ("parallel", "ranks"):
            if getattr(self, name) < 1:
                raise ValueError(f"local.{name}: expected at least 1, found {getattr(self, name)}")


def _installed() -> frozenset[str]:
    """Long names of the parameters of the sbatch on PATH; empty where there is none."""
    if shutil.which("sbatch") is None:
        return frozenset()
    text = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, timeout=30, check=False).stdout
    return frozenset(re.findall(r"--([a-z][a-z-]+)", text))
