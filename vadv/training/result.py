"""RUN/result.json: all that reports read of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import nn

from shards.dataset import ClipSet
from vadv.config import Config
from vadv.tasks import Task
from vadv.training.evaluation import Evaluation
from vadv.training.folder import RESULT, write_json
from vadv.training.state import State


def write_result(
    run: Path,
    config: Config,
    state: State,
    task: Task,
    found: Mapping[str, Evaluation],
    clips: Mapping[str, ClipSet],
    parameters: Mapping[str, int],
) -> None:
    """Write the result of a finished run, whole or not at all.

    Args:
        found: evaluation of the best student (and its teacher) per split.
        clips: the splits that were opened.
        parameters: `count_parameters` of the whole model.
    """
    steps = max(1, state.step)
    write_json(
        run / RESULT,
        {
            "state": "finished",
            "task": config.task,
            "dataset": clips["train"].dataset,
            "variant": variant(config),
            "seed": config.seed,
            "splits": {split: evaluation.metrics for split, evaluation in found.items()},
            "clips": {split: len(part) for split, part in clips.items()},
            "measure": asdict(task.measure),
            "best": state.best,
            "steps": state.step,
            "epochs": state.epoch,
            "skipped_steps": state.skipped,
            "parameters": parameters,
            "wall_seconds": state.seconds,
            "samples_per_second": steps * config.train.batch_size / state.seconds,
            "config": asdict(config),
        },
    )


def variant(config: Config) -> str:
    """How the student was taught: the objective's variant, or `student alone`."""
    return config.objective.variant if config.teacher is not None else "student alone"


def count_parameters(module: nn.Module) -> dict[str, int]:
    """Number of parameters of student and teacher, and of all that are trained; before DeepSpeed has it."""
    counted = {
        part: sum(p.numel() for p in getattr(module, part).parameters())
        for part in ("student", "teacher")
        if getattr(module, part, None) is not None
    }
    return {**counted, "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad)}
