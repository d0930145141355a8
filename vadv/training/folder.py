"""The run folder: what identifies a run, and what is cut back when it goes on from an earlier step."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shards.dataset import ClipSet
from vadv.config import HANDLING, Config
from vadv.config_file import dump, load

FREE = {
    *HANDLING,
    "data.shards",  # compared by content
    "train.max_steps",
    "deepspeed",  # a checkpoint knows its ZeRO stage
}
"""Settings that may differ when a run goes on."""

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
RESULT = "result.json"
BAD_SAMPLES = "bad_samples.jsonl"
METRICS = "metrics.jsonl"


def differences(run: Path, config: Config) -> list[str]:
    """Settings in which `config` differs from the run's recorded ones and that change its numbers, a line each."""
    before, now = _flat(asdict(load(run / CONFIG))), _flat(asdict(config))
    keys = sorted(set(before) | set(now))
    return [
        f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in keys
        if before.get(key) != now.get(key) and key not in FREE
    ]


def data_fingerprint(clips: ClipSet) -> str:
    """Identifies a split by its shards' checksums, wherever they lie."""
    sums = [shard.sha256 for manifest in clips.manifests for shard in manifest.splits[clips.split].shards]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def record(run: Path, config: Config, world_size: int, devices: list[str]) -> None:
    """Write RUN/config.yaml and RUN/environment.json."""
    write_json(run / ENVIRONMENT, environment(world_size, devices))
    write_text(run / CONFIG, dump(config))


def environment(world_size: int, devices: list[str]) -> dict[str, Any]:
    """Versions, code, command and devices: enough to rebuild what a run ran in."""
    root = Path(__file__).resolve().parents[2]
    packages = (distribution.metadata for distribution in importlib.metadata.distributions())
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {of["Name"]: of["Version"] for of in packages if of["Name"]},
        **_code(root),
        "command": sys.argv,
        "world_size": world_size,
        "devices": devices,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def commit(run: Path) -> dict[str, Any]:
    """`commit` and `uncommitted_changes` of the code that trains a run, as its environment.json has them."""
    found = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    return {"commit": found.get("commit"), "uncommitted_changes": bool(found.get("uncommitted"))}


def cut_back(run: Path, step: int) -> None:
    """Forget what was logged after optimizer step `step`: the steps that follow are taken again."""
    for path in (run / METRICS, run / BAD_SAMPLES, *run.glob("samples-*.jsonl")):
        if path.is_file():
            with path.open(encoding="utf-8") as file:
                kept = "".join(line for line in file if _logged_until(line, step))
            write_text(path, kept)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole, or not at all. JSON knows no NaN: undefined metrics become null."""
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False, default=str)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, or not at all."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A folder to fill that then takes the place of folder `path` in one move."""
    import shutil

    scratch, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    for leftover in (scratch, old):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir(parents=True)
    yield scratch
    if path.exists():
        path.rename(old)
    scratch.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _logged_until(line: str, step: int) -> bool:
    try:
        content = json.loads(line)
    except json.JSONDecodeError:  # the last line of a process that was killed
        return False
    return isinstance(content, dict) and content.get("step", 0) <= step


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.")
    return flat


def _code(root: Path) -> dict[str, Any]:
    """Commit of the code that runs. A sweep's points run a copy of it, which knows where it came from."""
    copied = root / "commit.json"
    if copied.is_file():
        return {**json.loads(copied.read_text(encoding="utf-8")), "copy": str(root)}
    status = ("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git(root, "rev-parse", "HEAD"), "uncommitted": _git(root, *status)}


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
