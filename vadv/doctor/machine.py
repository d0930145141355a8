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
GIB = 2**30
GPU_MARGIN, CPU_MARGIN = 3 * GIB // 2, 2 * GIB
"""What CUDA, NCCL and the allocator's gaps take on top of a plan; on a CPU, the libraries and the decoders."""
GIVES_UP = (ValueError, OSError)
"""What stops a computation whose cause another check tells of: the batch, the shards or the weights are wrong."""


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


def devices(config: Config, ranks: int, ranks_here: int) -> Iterator[Finding]:
    """GPUs or processor cores for the ranks of this machine.

    Args:
        ranks: of the whole run.
        ranks_here: of them on this machine.
    """
    import psutil
    import torch

    cores = len(os.sched_getaffinity(0))
    wanted = ranks_here * (1 + config.data.workers)
    text = f"{cores} cores for {ranks_here} ranks with {config.data.workers} decoders each"
    if wanted > cores:
        yield warn("cores", text, f"ask for {wanted} cores, or set data.workers to fewer")
    else:
        yield ok("cores", text)
    host = psutil.virtual_memory().available
    forced = os.environ.get("DS_ACCELERATOR") == "cpu"
    if forced or not torch.cuda.is_available():
        if torch.version.cuda and Path("/dev/nvidiactl").exists() and not forced:
            yield fail("devices", "a GPU that torch cannot use", "compare nvidia-smi's driver with torch's CUDA")
            return
        said = "DS_ACCELERATOR=cpu" if forced else "torch finds none"
        yield ok("devices", f"no GPU ({said}): ranks compute on the CPU and talk by gloo")
        yield from _memory(config, ranks, ranks_here, free=host // ranks_here, host=host, margin=CPU_MARGIN)
        return
    count = torch.cuda.device_count()
    names = sorted({torch.cuda.get_device_name(n) for n in range(count)})
    found = f"{count} x {', '.join(names)}, CUDA {torch.version.cuda}, "
    found += "bf16" if torch.cuda.is_bf16_supported() else "no bf16: take a preset in fp16 or fp32"
    if count < ranks_here:
        yield fail("devices", f"{found}, for {ranks_here} ranks", "start one rank per GPU")
    else:
        yield ok("devices", found)
    free = min(torch.cuda.mem_get_info(n)[0] for n in range(count))
    yield from _memory(config, ranks, ranks_here, free=free, host=host, margin=GPU_MARGIN)


def _memory(config: Config, ranks: int, ranks_here: int, *, free: int, host: int, margin: int) -> Iterator[Finding]:
    """The plan's peak against what a rank has."""
    from vadv.training.plan import predict

    try:
        need = predict(config, ranks, config.student.max_tokens)
    except GIVES_UP:
        return
    text = f"a rank needs {(need.peak + margin) / GIB:.1f} GiB of {free / GIB:.1f} GiB (launch/train.py --plan)"
    if need.host:
        text += f", and {ranks_here * need.host / GIB:.1f} of {host / GIB:.1f} GiB of the machine"
    if need.peak + margin > free or ranks_here * need.host > host:
        remedy = "take a smaller train.micro_batch_size, or a preset of a higher ZeRO stage: see --plan"
        yield fail("memory", text, remedy)
    else:
        yield ok("memory", text)


def room(config: Config, run: Path) -> Iterator[Finding]:
    """Space for the run folder's checkpoints."""
    from vadv.models.count import count
    from vadv.training.shapes import meta_task

    place = next(folder for folder in (run.absolute(), *run.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        yield fail("run folder", f"{place} is not writable", "give another --run")
        return
    try:
        trained = sum(row.trainable for row in count(meta_task(config).module))
    except GIVES_UP:
        return
    # float32 weights and two moments, and the module's own; one more than are kept while the next is written.
    need = 16 * trained * (config.train.keep_checkpoints + 1)
    free = shutil.disk_usage(place).free
    text = (
        f"{need / GIB:.1f} GiB for {config.train.keep_checkpoints} + 1 checkpoints of {free / GIB:.0f} GiB in {place}"
    )
    if free < need + GIB:
        yield fail("run folder", text, "free some space, give another --run, or lower train.keep_checkpoints")
    else:
        yield ok("run folder", text)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
