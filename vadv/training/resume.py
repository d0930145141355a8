"""Where a run starts from: nowhere, or a checkpoint that fits it."""

from __future__ import annotations

import json
from pathlib import Path

from vadv.config import Config
from vadv.training import checkpoints, folder


def find_checkpoint(
    run: Path, config: Config, resume: str, data: str, zero_stage: int
) -> tuple[checkpoints.Checkpoint | None, list[str]]:
    """The checkpoint to start from, and lines for the person. Cleans the folder of what a killed run left; one rank.

    Args:
        run: the run folder, made if it is not there.
        resume: auto, never, or the path of a checkpoint.
        data: fingerprint of the training data.
        zero_stage: of the DeepSpeed configuration.

    Raises:
        ValueError: `never` and there is a run; another configuration, data or ZeRO stage; no such checkpoint.
    """
    own = run / "checkpoints"
    own.mkdir(parents=True, exist_ok=True)
    torn: list[str] = []
    found: checkpoints.Checkpoint | None
    if resume not in ("auto", "never"):
        if not Path(resume).exists():
            raise ValueError(f"--resume: expected auto, never or the path of a checkpoint, found {resume}")
        found = checkpoints.read(Path(resume))
    else:
        checkpoints.clean(own)
        found, torn = checkpoints.newest(own)
        if resume == "never" and found is not None:
            raise ValueError(
                f"--resume never: {run} holds a run at step {found.step}; give another --run, remove that folder, or go "
                "on with --resume auto"
            )
    if found is None:
        return None, torn
    _require_same(run, config, found, data, zero_stage)
    return found, [*torn, f"resuming from {found.path}, saved by {found.world_size} process(es)"]


def _require_same(run: Path, config: Config, found: checkpoints.Checkpoint, data: str, zero_stage: int) -> None:
    if (run / folder.CONFIG).is_file() and (differing := folder.differences(run, config)):
        raise ValueError(
            f"{run}: expected the configuration the run was started with, found {'; '.join(differing)}; change it back, "
            "or give another --run"
        )
    if found.state["data"] != data:
        raise ValueError(
            f"{run}: expected the training data it was started with, found other shards in "
            f"{', '.join(config.data.folders())}; point data.shards to the first ones, or give another --run"
        )
    if found.zero_stage != zero_stage:
        raise ValueError(
            f"{found.path}: was saved with ZeRO stage {found.zero_stage}, {config.deepspeed} asks for {zero_stage}; "
            "DeepSpeed cannot convert between stages: resume with the first one"
        )


def finished_steps(run: Path) -> int:
    """Optimizer steps of a finished run, -1 for one that is not."""
    try:
        return int(json.loads((run / folder.RESULT).read_text())["steps"])
    except (OSError, ValueError, KeyError):
        return -1
