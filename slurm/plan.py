"""The plan of a sweep: its points written down once, so that a job, a table or another machine needs nothing else."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from slurm.folder import Folder, read_json, write_json, write_text
from slurm.sweep import Point, Sweep

FORMAT = 1


def write_plan(folder: Folder, sweep: Sweep, points: list[Point], file: Path) -> list[str]:
    """Write SWEEP/plan.json, or bring it up to date with a changed sweep file.

    New points are added. Those that were planned before stay as they were; one whose settings would change is refused,
    for its runs so far belong to the old settings. Points that have left the file stay in the plan.

    Returns:
        Names of the points of the sweep file.

    Raises:
        ValueError: names the points and settings that differ from the plan.
    """
    planned = {plan["name"]: plan for plan in folder.points()} if folder.plan.is_file() else {}
    cwd = Path(folder.meta()["cwd"]) if planned else Path.cwd()
    wanted = [_entry(folder, point, cwd) for point in points]
    changed = [
        f"{plan['name']}: {', '.join(_differences(planned[plan['name']]['config'], plan['config']))}"
        for plan in wanted
        if plan["name"] in planned and planned[plan["name"]]["config"] != plan["config"]
    ]
    if changed:
        raise ValueError(
            f"{folder.path}: expected the settings that its points were planned with, found others for {changed[0]}"
            f"{f' and {len(changed) - 1} more points' if len(changed) > 1 else ''}; give another --out, or mend {file}"
        )
    merged = {plan["name"]: plan for plan in wanted} | planned
    meta = {
        "format": FORMAT,
        "name": sweep.name,
        "description": sweep.description,
        "file": str(file),
        "cwd": str(cwd),
        "entry": sweep.entry,
        "retries": sweep.retries,
        "interface": sweep.slurm.interface,
        "signal_delay": sweep.slurm.signal_delay,
    }
    text = yaml.safe_dump(sweep.content, sort_keys=False, allow_unicode=True, width=120)
    write_text(folder.path / "sweep.yaml", text)
    write_json(folder.plan, {**meta, "points": list(merged.values())})
    return [plan["name"] for plan in wanted]


def _entry(folder: Folder, point: Point, cwd: Path) -> dict[str, Any]:
    config = asdict(point.config)
    config["deepspeed"] = _keep_deepspeed(folder, cwd / config["deepspeed"])
    return {**asdict(point), "config": config}


def _keep_deepspeed(folder: Folder, path: Path) -> str:
    """Copy a DeepSpeed JSON beside the points: like the code, it must not change under a waiting job."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the DeepSpeed JSON of the sweep's base, found no such file")
    kept = folder.path / "deepspeed" / path.name
    if not kept.is_file():
        write_json(kept, read_json(path))
    return str(kept)


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(before) | set(now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old}, is {new}")
    return found
