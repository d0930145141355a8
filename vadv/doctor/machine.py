"""Versions of what is installed, processors and their memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from vadv.config import Config
from vadv.doctor import Finding, fail, ok, warn

PROJECT = "videoadviser"


def versions() -> Iterator[Finding]:
    """Python and every package that pyproject.toml asks for, in a version that it allows."""
    from packaging.requirements import Requirement

    wrong = []
    needed = importlib.metadata.requires(PROJECT) or []
    for requirement in map(Requirement, needed):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
    main = ", ".join(f"{name} {_version(name)}" for name in ("torch", "deepspeed", "transformers"))
    if wrong:
        yield fail("versions", ", ".join(wrong), "run `make env`, or pip install -e . -c constraints.txt")
    else:
        yield ok("versions", f"Python {platform.python_version()}, {main}, and {len(needed)} requirements met")
    if shutil.which("g++") is None and shutil.which("c++") is None:
        yield warn(
            "compiler", "no C++ compiler", "DeepSpeed's offload presets compile code; install g++, or avoid them"
        )


def devices(config: Config, ranks_here: int) -> Iterator[Finding]:
    """GPUs or processor cores for the ranks of this machine, and memory.

    Args:
        ranks_here: ranks that will run on this machine.
    """
    import psutil
    import torch

    cores = len(os.sched_getaffinity(0))
    wanted = ranks_here * (1 + config.data.workers)
    text = f"{cores} cores for {ranks_here} ranks with {config.data.workers} decoders each, "
    text += f"{psutil.virtual_memory().available / 2**30:.0f} GiB of memory free"
    if wanted > cores:
        yield warn("cores", text, f"ask for {wanted} cores, or set data.workers to fewer")
    else:
        yield ok("cores", text)
    if os.environ.get("DS_ACCELERATOR") == "cpu" or not torch.cuda.is_available():
        said = "DS_ACCELERATOR=cpu" if os.environ.get("DS_ACCELERATOR") == "cpu" else "torch finds no GPU"
        if torch.version.cuda and Path("/dev/nvidiactl").exists() and os.environ.get("DS_ACCELERATOR") != "cpu":
            yield fail(
                "devices", "there is a GPU that torch cannot use", "compare nvidia-smi's driver with torch's CUDA"
            )
        else:
            yield ok("devices", f"none: {said}; ranks compute on the CPU and talk by gloo")
        return
    count = torch.cuda.device_count()
    names = sorted({torch.cuda.get_device_name(n) for n in range(count)})
    free = [torch.cuda.mem_get_info(n)[0] / 2**30 for n in range(count)]
    found = f"{count} x {', '.join(names)}, {min(free):.0f} GiB free, CUDA {torch.version.cuda}"
    found += ", bf16" if torch.cuda.is_bf16_supported() else ", no bf16: take a preset in fp16 or fp32"
    if count < ranks_here:
        yield fail("devices", f"{found}, for {ranks_here} ranks", "start one rank per GPU")
    else:
        yield ok("devices", found)


def room(config: Config, run: Path, ranks: int) -> Iterator[Finding]:
    """Space for checkpoints in the run folder's file system."""
    place = next(folder for folder in (run.absolute(), *run.absolute().parents) if folder.exists())
    usage = shutil.disk_usage(place)
    text = f"{usage.free / 2**30:.0f} GiB free in {place}"
    if not os.access(place, os.W_OK):
        yield fail("run folder", f"{place} is not writable", "give another --run")
    elif usage.free < 2 * 2**30:
        yield fail("run folder", text, "free some space, or give another --run")
    else:
        yield ok("run folder", text)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
