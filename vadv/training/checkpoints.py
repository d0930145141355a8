"""Checkpoint folders on disk: complete or absent.

    RUN/checkpoints/step-120/            DeepSpeed's files, and complete.json with sizes, hashes and the loop's state
    RUN/checkpoints/latest               the name of the newest complete one, replaced by rename
    RUN/checkpoints/.saving/step-140/    a save under way, or torn by a crash; never read, removed at the next start
    RUN/checkpoints/.universal/step-120/ the same state in DeepSpeed's universal form, for another number of ranks

A folder counts only with its complete.json, which is written last, after every file has reached the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from shards.checksum import sha256_of

COMPLETE = "complete.json"
LATEST = "latest"
SAVING = ".saving"
UNIVERSAL = ".universal"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        path: its folder, RUN/checkpoints/step-N.
        step: optimizer steps done.
        world_size, zero_stage: what it was saved with.
        state: the loop's state, as `save` was given it.
    """

    path: Path
    step: int
    world_size: int
    zero_stage: int
    state: dict[str, Any]


def read(path: Path) -> Checkpoint:
    """Read and check one checkpoint folder.

    Raises:
        ValueError: it is not complete, or a file is missing, short or damaged; says which.
    """
    record = path / COMPLETE
    if not record.is_file():
        raise ValueError(f"{path}: expected a complete checkpoint, found no {COMPLETE}")
    try:
        content = json.loads(record.read_text())
        files: dict[str, dict[str, Any]] = content["files"]
        found = Checkpoint(path, content["step"], content["world_size"], content["zero_stage"], content["state"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a complete checkpoint, found no valid {COMPLETE} ({error})") from None
    for name, expected in files.items():
        file = path / name
        size = file.stat().st_size if file.is_file() else None
        if size != expected["bytes"]:
            raise ValueError(f"{file}: expected {expected['bytes']} bytes, found {'no file' if size is None else size}")
        if sha256_of(file) != expected["sha256"]:
            raise ValueError(f"{file}: damaged, its SHA-256 is not the one in {COMPLETE}")
    return found


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest complete checkpoint of RUN/checkpoints, and a line for each torn one that was passed over."""
    torn: list[str] = []
    for path in sorted(folder.glob("step-*"), key=_step, reverse=True):
        try:
            return read(path), torn
        except ValueError as error:
            torn.append(f"torn checkpoint passed over: {error}")
    return None, torn


def publish(saving: Path, folder: Path, content: dict[str, Any], keep: int) -> Path:
    """Turn the finished files of a save into the newest checkpoint.

    Args:
        saving: RUN/checkpoints/.saving/step-N, all files written and flushed.
        folder: RUN/checkpoints.
        content: what complete.json holds: files, step, world_size, zero_stage, state.
        keep: complete checkpoints that stay; older ones are removed.
    """
    _write(saving / COMPLETE, json.dumps(content, indent=1))
    path = folder / saving.name
    if path.exists():  # a torn one of the same step
        shutil.rmtree(path)
    saving.rename(path)
    _flush(folder)
    _write(folder / LATEST, path.name + "\n")
    complete = [old for old in sorted(folder.glob("step-*"), key=_step) if (old / COMPLETE).is_file()]
    for old in complete[:-keep]:
        (old / COMPLETE).unlink()  # from here on it is absent, even if the removal is cut short
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(folder / UNIVERSAL / old.name, ignore_errors=True)
    return path


def clean(folder: Path) -> None:
    """Remove what a killed save or conversion left behind. Called once at the start, by one rank."""
    shutil.rmtree(folder / SAVING, ignore_errors=True)
    for path in folder.glob("step-*"):
        if not (path / COMPLETE).is_file() and not any(path.iterdir()):
            path.rmdir()


def universal(checkpoint: Checkpoint) -> Path:
    """The checkpoint in DeepSpeed's universal form, converted on first use.

    Two jobs that meet here wait for each other; a conversion that was cut short leaves nothing that counts.

    Raises:
        ValueError: DeepSpeed could not convert it.
    """
    folder = checkpoint.path.parent / UNIVERSAL
    folder.mkdir(exist_ok=True)
    path = folder / checkpoint.path.name
    with FileLock(folder / "lock"):
        if path.is_dir():
            return path
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder) as scratch:
            target = Path(scratch) / path.name
            command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--num_extract_workers=1"]
            command += ["--num_merge_workers=1", f"--input_folder={checkpoint.path}", f"--output_folder={target}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
                raise ValueError(f"{checkpoint.path}: DeepSpeed could not convert it to another world size: {last}")
            target.rename(path)
    return path


def _step(path: Path) -> int:
    number = path.name.removeprefix("step-")
    return int(number) if number.isdigit() else -1


def _write(path: Path, text: str) -> None:
    """Write a small file whole, or not at all."""
    scratch = path.with_name(f".{path.name}.tmp")
    with scratch.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    _flush(path.parent)


def _flush(folder: Path) -> None:
    """Let renames in `folder` reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
