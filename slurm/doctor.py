"""What a site's Slurm allows and offers, as far as sweeps need it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

from slurm import queue
from slurm.settings import Slurm

GRACE = 60
"""Seconds that a preempted job should have to save."""

Told = tuple[str, str, str]
"""Verdict (ok, warn, fail), text, remedy."""


def check(settings: Slurm) -> Iterator[Told]:
    """Whether Slurm is reachable, has the partition, limits and features that a sweep with these settings needs."""
    if shutil.which("sbatch") is None:
        yield "warn", "no Slurm commands on PATH", "sweeps run here with --executor local"
        return
    try:
        config = _config()
        partitions = _partitions()
    except queue.SlurmError as error:
        yield "fail", str(error), "ask on a login node whether the controller is up (sinfo)"
        return
    wanted = (settings.partition or "").split(",")
    names = [name for name in wanted if name] or [name for name, p in partitions.items() if p["default"]]
    yield "ok", f"{config.get('SLURM_VERSION', '?')}, arrays up to {config.get('MaxArraySize', '?')}", ""
    yield from _access(settings, partitions, names)
    yield from _preemption(config, {name: partitions[name] for name in names if name in partitions})
    if config.get("AccountingStorageType", "").endswith("none"):
        yield "warn", "no accounting", "states come from squeue; why a job ended is known for MinJobAge seconds only"
    free = queue.room()
    if free is not None:
        yield (
            ("ok" if free else "warn"),
            f"{free} more jobs allowed to you now",
            "" if free else "a launch waits for room",
        )


def _access(settings: Slurm, partitions: dict[str, dict[str, str]], names: list[str]) -> Iterator[Told]:
    for name in names:
        if name not in partitions:
            known = ", ".join(sorted(partitions))
            yield "fail", f"no partition {name}", f"set slurm.partition to one of {known}"
            continue
        partition = partitions[name]
        limit = _minutes(partition["time"])
        text = f"partition {name}: {partition['state']}, time limit {partition['time']}, gres {partition['gres']}"
        if limit is not None and settings.minutes() > limit:
            yield "fail", text, f"set slurm.time to at most {partition['time']}; longer points are requeued"
        elif settings.gpus_per_node and "gpu" not in partition["gres"]:
            yield "fail", text, "no GPUs there: choose another slurm.partition, or set slurm.gpus_per_node to 0"
        elif partition["state"] != "up":
            yield "warn", text, "jobs wait until it is up again"
        else:
            yield "ok", text, ""
    if not names:
        yield "fail", "no default partition", "set slurm.partition"


def _preemption(config: dict[str, str], partitions: dict[str, dict[str, str]]) -> Iterator[Told]:
    """How the site takes jobs away, and whether they are warned in time to save.

    Args:
        partitions: those that jobs would run in.
    """
    if config.get("JobRequeue") == "0":
        yield "warn", "JobRequeue=0", "jobs ask for --requeue, which the site may refuse: then --resume continues them"
    if config.get("PreemptType", "preempt/none").endswith("none"):
        yield "ok", "no preemption; time limits are met by requeueing", ""
    elif "preempt_send_user_signal" in config.get("SlurmctldParameters", ""):
        yield "ok", f"preemption ({config['PreemptMode']}) sends the signal to save", ""
    else:
        remedy = "the trainer saves on SIGTERM if the partition has a GraceTime; ask for preempt_send_user_signal"
        yield "warn", f"preemption ({config.get('PreemptMode')}) sends SIGTERM only", remedy
    if not config.get("PreemptType", "preempt/none").endswith("none"):
        yield from _grace(partitions)
    wait = re.match(r"\d+", config.get("KillWait", ""))
    if wait and int(wait[0]) < 10:
        yield (
            "warn",
            f"KillWait={wait[0]} s",
            "a job past its time limit is killed soon; keep slurm.signal_delay generous",
        )


def _grace(partitions: dict[str, dict[str, str]]) -> Iterator[Told]:
    """What a partition does with a job that must leave, and how long that has to save."""
    for name, partition in partitions.items():
        mode, grace = partition.get("PreemptMode", ""), int(partition.get("GraceTime") or 0)
        if mode == "OFF":
            continue
        text = f"partition {name}: preempted jobs get {grace} s of grace (PreemptMode {mode or '?'})"
        if grace < GRACE:
            remedy = (
                f"ask for a GraceTime of {GRACE} s or more, or set train.checkpoint_every low: there is no time to save"
            )
            yield "warn", text, remedy
        elif mode == "CANCEL":
            yield "warn", text, "jobs that could not requeue themselves in time wait for --resume"
        else:
            yield "ok", text, ""


def _config() -> dict[str, str]:
    lines = queue.call("scontrol", "show", "config").splitlines()
    return {key.strip(): value.strip() for key, eq, value in (line.partition("=") for line in lines) if eq}


def _partitions() -> dict[str, dict[str, str]]:
    """State, time limit, generic resources, and where known GraceTime and PreemptMode, by partition."""
    found: dict[str, dict[str, str]] = {}
    for line in queue.call("sinfo", "-h", "-o", "%P|%a|%l|%G").splitlines():
        name, state, limit, gres = line.strip().split("|")
        entry = found.setdefault(
            name.rstrip("*"),
            {"state": state, "time": limit, "gres": "", "default": "yes" if name.endswith("*") else ""},
        )
        entry["gres"] = ",".join(filter(None, [entry["gres"], gres]))
    for line in queue.call("scontrol", "show", "partition", "-o").splitlines():
        known = dict(re.findall(r"(\w+)=(\S*)", line))
        if known.get("PartitionName") in found:
            found[known["PartitionName"]] |= {key: known[key] for key in ("GraceTime", "PreemptMode") if key in known}
    return found


def _minutes(limit: str) -> int | None:
    """A partition's time limit; None for none."""
    return None if limit == "infinite" else Slurm(time=limit, signal_delay=1).minutes()
