"""Saving without holding up training: copy the state, train on, write it behind the steps, publish when all ranks have.

DeepSpeed collects the state on every rank and hands it to its checkpoint engine. Ours copies it to host memory and
returns; a thread writes, flushes and hashes the files. Once every rank's thread is done, rank 0 publishes the folder
(checkpoints.py) between two steps. A rank that cannot write says so there, and the older checkpoint stays.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from shards.checksum import sha256_of
from vadv.training import checkpoints
from vadv.training.distributed import World

GROUP_SETTINGS = ("weight_decay", "lr_factor")
"""What distinguishes our parameter groups (engine.py)."""


class CopyingCheckpointEngine(TorchCheckpointEngine):
    """DeepSpeed's checkpoint engine, but `save` only copies; `take` gives the copies away."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: list[tuple[Path, Any]] = []

    def save(self, state_dict: Any, path: str) -> None:
        """Copy `state_dict` to host memory, to be written to `path` later."""
        self._copies.append((Path(path), _copy(state_dict)))

    def take(self) -> list[tuple[Path, Any]]:
        """The copies since the last call."""
        copies, self._copies = self._copies, []
        return copies


class Saver:
    """Saves the state of a run; every method is called by all ranks in step.

    Args:
        engine: the DeepSpeed engine.
        folder: RUN/checkpoints.
        keep: complete checkpoints that stay.
        zero_stage: recorded beside the world size, since a checkpoint can be loaded by the same stage only.
    """

    def __init__(self, engine: Any, folder: Path, world: World, keep: int, zero_stage: int) -> None:
        self.engine, self.folder, self.world, self.keep, self.zero_stage = engine, folder, world, keep, zero_stage
        self.saved_step: int | None = None
        """Step of the newest checkpoint that is complete."""
        self.stall = 0.0
        """Seconds of the last save during which training waited."""
        self._content: dict[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._files: dict[str, dict[str, Any]] = {}
        self._failure: str | None = None
        engine.checkpoint_engine = CopyingCheckpointEngine()

    def begin(self, state: dict[str, Any]) -> str | None:
        """Start to save the state after optimizer step `state["step"]`; one that is under way is finished first.

        Returns:
            A line about an earlier save that failed, or None.
        """
        failure = self.finish()
        began = time.monotonic()
        name = f"step-{state['step']}"
        saving = self.folder / checkpoints.SAVING
        self._failure = None
        if self.world.first:
            try:
                shutil.rmtree(saving, ignore_errors=True)
                (saving / name).mkdir(parents=True)
            except OSError as error:
                self._failure = _line(error)
        if refused := self.world.broadcast(self._failure):
            return f"step {state['step']} was not saved: {refused}"
        self.engine.save_checkpoint(
            str(saving),
            tag=name,
            client_state={"universal_checkpoint_info": {"universal_checkpoint_version": 0.2}},
            save_latest=False,
            exclude_frozen_parameters=True,
        )
        self._content = {
            "step": state["step"],
            "world_size": self.world.size,
            "zero_stage": self.zero_stage,
            "state": state,
        }
        self._files = {}
        copies = self.engine.checkpoint_engine.take()
        self._thread = threading.Thread(target=self._write, args=(saving / name, copies), name="save", daemon=True)
        self._thread.start()
        self.stall = time.monotonic() - began
        return failure

    @property
    def pending(self) -> bool:
        """Whether a save is under way that `finish` has yet to publish."""
        return self._thread is not None

    @property
    def writing(self) -> bool:
        """Whether this rank still writes."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self) -> str | None:
        """Wait until every rank has written, then publish the checkpoint.

        Returns:
            None, or one line that says why the save failed; the older checkpoint is then still the newest.
        """
        if self._thread is None or self._content is None:
            return None
        self._thread.join()
        self._thread = None
        began = time.monotonic()
        step, failures = self._content["step"], []
        for rank, (files, failure) in enumerate(self.world.collect((self._files, self._failure))):
            self._content.setdefault("files", {}).update(files)
            if failure:
                failures.append(f"rank {rank}: {failure}")
        saving = self.folder / checkpoints.SAVING / f"step-{step}"
        failure = "; ".join(failures) or None
        if self.world.first:
            try:
                if failure is None:
                    checkpoints.publish(saving, self.folder, self._content, self.keep)
            except OSError as error:
                failure = _line(error)
            shutil.rmtree(saving.parent, ignore_errors=True)
        failure = self.world.broadcast(failure)
        self._content = None
        self.stall += time.monotonic() - began
        if failure is not None:
            return f"step {step} was not saved: {failure}"
        self.saved_step = step
        return None

    def _write(self, saving: Path, copies: list[tuple[Path, Any]]) -> None:
        try:
            for path, content in copies:
                with path.open("wb") as file:
                    torch.save(content, file)
                    file.flush()
                    os.fsync(file.fileno())
                self._files[str(path.relative_to(saving))] = {
                    "bytes": path.stat().st_size,
                    "sha256": sha256_of(path),
                }
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
            self._failure = _line(error)


def load(engine: Any, checkpoint: checkpoints.Checkpoint, world: World, universal: bool) -> None:
    """Give `engine` the state of `checkpoint`.

    Args:
        universal: the engine was built to load the universal form, since the world size differs.

    Raises:
        ValueError: the checkpoint has other parameters than the model.
    """
    source = checkpoint.path
    if universal:
        failure = None
        if world.first:
            try:
                checkpoints.universal(checkpoint)
            except (ValueError, OSError) as error:
                failure = _line(error)
        if failure := world.broadcast(failure):
            raise ValueError(failure)
        source = checkpoint.path.parent / checkpoints.UNIVERSAL / checkpoint.path.name
    own = next(iter(sorted(checkpoint.path.glob("*model_states.pt"))))
    saved = torch.load(own, map_location="cpu", weights_only=False, mmap=True)["module"]  # a run's own file
    trained = {name for name, parameter in engine.module.named_parameters() if parameter.requires_grad}
    if missing := sorted(trained - set(saved)):
        raise ValueError(
            f"{checkpoint.path}: expected the parameters of this model, found none for {missing[0]} "
            f"and {len(missing) - 1} more; resume with the configuration it was saved with"
        )
    groups = [{key: group[key] for key in GROUP_SETTINGS} for group in engine.optimizer.param_groups]
    engine.load_checkpoint(str(source.parent), tag=source.name, load_module_strict=False)
    if universal:
        _mend_universal(engine, saved, groups)


def _mend_universal(engine: Any, saved: Mapping[str, torch.Tensor], groups: list[dict[str, Any]]) -> None:
    """Put right what DeepSpeed 0.19's universal form loses.

    It holds parameters only: memories and other buffers come from the checkpoint itself. Under ZeRO-3 it gives all
    parameter groups the settings of the first, and all of them one and the same step counter, which AdamW then advances
    once per group.
    """
    for name, buffer in engine.module.named_buffers():
        if name in saved:
            buffer.copy_(saved[name])
    for group, own in zip(engine.optimizer.param_groups, groups):
        group.update(own)
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    for state in optimizer.state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()


def _copy(value: Any) -> Any:
    """A copy in host memory of nested containers of tensors; other leaves are shared."""
    if isinstance(value, torch.Tensor):
        # clone, also of a CPU tensor: torch.save of a view would write its whole storage
        return value.detach().clone() if value.device.type == "cpu" else value.detach().cpu()
    if isinstance(value, dict):
        copied = {key: _copy(item) for key, item in value.items()}
        return copied if type(value) is dict else type(value)(copied)
    if isinstance(value, list):
        return [_copy(item) for item in value]
    if type(value) is tuple:
        return tuple(_copy(item) for item in value)
    return value


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
