"""What a configuration would load and need, without loading it: `launch/train.py --plan`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from vadv import tasks
from vadv.config import Config, Student, Teacher
from vadv.models.count import Count, count
from vadv.tasks import Task
from vadv.training.activations import activations
from vadv.training.debug import is_here
from vadv.training.engine import deepspeed_settings, parameter_groups, precision, zero_stage
from vadv.training.evaluation import MICRO_BATCH
from vadv.training.memory import MASTER, STATES, Memory, Parameters, memory
from vadv.training.shapes import meta_task

GIB = 2**30
STAGES: dict[str, dict[str, Any]] = {
    "ZeRO-0": {"stage": 0},
    "ZeRO-1": {"stage": 1},
    "ZeRO-2": {"stage": 2},
    "ZeRO-2, optimizer offloaded": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    "ZeRO-3": {"stage": 3},
}
PRECISIONS: dict[str, dict[str, Any]] = {"float32": {}, "bfloat16": {"bf16": {"enabled": True}}}


def plan(config: Config, world_size: int | None = None) -> str:
    """The plan as text.

    Args:
        world_size: number of GPUs; default: of the environment.

    Raises:
        ValueError: as a run's.
    """
    world_size = world_size or int(os.environ.get("WORLD_SIZE", "1"))
    deepspeed_settings(config, world_size)  # wrong arithmetic is told first
    task = meta_task(config)
    sizes = _sizes(task, config)
    parts = [
        _parameters(count(task.module)),
        _weights(config),
        _batch(task, config, world_size),
        _memory(sizes, config, world_size),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def predict(config: Config, world_size: int, tokens: int, *, on_cpu: bool = False) -> Memory:
    """Memory of one rank with the configuration's own DeepSpeed JSON.

    Args:
        tokens: length of the texts.
        on_cpu: see `memory`.
    """
    settings = deepspeed_settings(config, world_size)
    found = activations(config, config.train.micro(world_size), tokens, _dtype(settings), MICRO_BATCH)
    return memory(settings, _sizes(meta_task(config), config), found, world_size, on_cpu=on_cpu)


def _dtype(settings: dict[str, Any]) -> torch.dtype:
    return getattr(torch, precision(settings))


def _sizes(task: Task, config: Config) -> Parameters:
    model: Any = task.module
    groups = [sum(p.numel() for p in group["params"]) for group in parameter_groups(model, config)]
    apart = 0
    if config.teacher is not None and config.teacher.cache_features:
        apart = sum(p.numel() for p in model.teacher.clip.parameters())
    total = sum(p.numel() for p in model.parameters())
    return Parameters(total=total - apart, trained=sum(groups), group=max(groups), apart=apart)


def _parameters(rows: list[Count]) -> list[str]:
    cells = [["module", "what", "frozen", "trained"]]
    cells += [[row.module, row.what, _millions(row.frozen), _millions(row.trainable)] for row in rows]
    frozen, trained = sum(row.frozen for row in rows), sum(row.trainable for row in rows)
    return ["Parameters", *_table([*cells, ["all", "", _millions(frozen), _millions(trained)]])]


def _weights(config: Config) -> list[str]:
    """What would be loaded, and whether it is on this machine."""
    lines = []
    if config.teacher is not None:
        lines.append(f"  teacher.clip {config.teacher.clip}: {_clip_source(config.teacher)}")
    if tasks.kind(config).text:
        lines.append(f"  student.model {config.student.model}: {_student_source(config.student)}")
    return ["Weights that would be loaded", *(lines or ["  none: all start random, from the seed"])]


def _student_source(student: Student) -> str:
    if student.weights == "random":
        return "random, from the seed"
    if student.model.startswith("package:") or Path(student.model).is_dir():
        return "a folder on this machine"
    there = "in the cache of this machine" if is_here(student.model, "config.json") else "not on this machine yet"
    return f"huggingface.co/{student.model}, {there}"


def _clip_source(teacher: Teacher) -> str:
    clip, weights = teacher.clip, teacher.weights
    if weights == "random":
        return "random, from the seed"
    if Path(weights).is_file():
        return f"the file {weights}"
    if Path(clip).is_dir():
        return "a folder on this machine"
    import open_clip

    known = open_clip.get_pretrained_cfg(clip, weights)
    if not known:
        return f"nothing: {weights} is neither a file nor one of open_clip's weights of this model"
    repository = known.get("hf_hub", "").strip("/")
    there = repository and is_here(repository, "open_clip_model.safetensors")
    where = f"huggingface.co/{repository}" if repository else known.get("url", "")
    return f"{where} ({weights}), {'in the cache of this machine' if there else 'not on this machine yet'}"


def _batch(task: Task, config: Config, world_size: int) -> list[str]:
    train = config.train
    line = (
        f"Batch: {train.batch_size} clips a step = {world_size} GPU(s) x {train.micro(world_size)} clips x "
        f"{train.accumulation(world_size)} micro-batch(es)"
    )
    if task.video:
        line += f", {config.data.frames} frames of {config.data.frame_size} pixels"
    return [line + f", texts of {config.student.max_tokens} tokens" if task.text else line]


def _memory(sizes: Parameters, config: Config, world_size: int) -> list[str]:
    """A table for each number format and ZeRO stage; the configuration's own is marked."""
    own = deepspeed_settings(config, world_size)
    micro = config.train.micro(world_size)
    cells = [["", "", "weights", "optimizer", "fwd + bwd", "step", "evaluation", "peak", "host"]]
    for name, mixed in PRECISIONS.items():
        found = activations(config, micro, config.student.max_tokens, getattr(torch, name), MICRO_BATCH)
        for title, zero in STAGES.items():
            same = (zero_stage(own), precision(own), _offloads(own)) == (
                zero["stage"],
                name,
                "offload_optimizer" in zero,
            )
            chosen = own.get("zero_optimization", {}) if same else {**_BUCKETS, **zero}
            need = memory({**mixed, "zero_optimization": chosen}, sizes, found, world_size)
            columns = (need.weights, need.optimizer, need.backward, need.step, need.evaluation, need.peak, need.host)
            cells.append([">" if same else "", f"{title}, {name}", *(f"{value / GIB:.2f}" for value in columns)])
    checkpoint = (MASTER + STATES) * sizes.trained + (2 if precision(own) != "float32" else 4) * sizes.trained
    return [
        f"Memory of each of {world_size} GPU(s) in GiB; > marks {config.deepspeed}",
        *_table(cells),
        "  peak = weights + optimizer + the largest of the next three columns. CUDA, NCCL and the allocator's gaps come on",
        "  top: reckon with 1 to 1.5 GiB. host: memory of the machine per GPU. docs/performance.md explains the columns.",
        f"  A checkpoint has {checkpoint / GIB:.2f} GiB over all ranks: frozen weights are not saved.",
    ]


def _offloads(settings: dict[str, Any]) -> bool:
    return settings.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none") != "none"


_BUCKETS = {"reduce_bucket_size": 65_000_000}
"""As the presets in configs/deepspeed set it."""


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number else ""


def _table(rows: list[list[str]]) -> list[str]:
    """Aligned columns: texts to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    texts = [not any(c.isdigit() for c in rows[1][i][:1]) and i < 2 for i in range(len(widths))]
    return [
        "  " + "  ".join(c.ljust(w) if t else c.rjust(w) for c, w, t in zip(row, widths, texts)).rstrip()
        for row in rows
    ]
