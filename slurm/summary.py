"""One row per point: what the status table shows, and sweep.json and sweep.csv, which are enough for reports."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slurm.folder import Folder, write_json, write_text
from slurm.progress import finished, progress, result, total_steps
from slurm.record import Record, read_record

FORMAT = 1


@dataclass(kw_only=True)
class Row:
    """A point as a reader sees it.

    Attributes:
        plan: what plan.json says of the point.
        total: optimizer steps of the whole run, where known.
        best: best validation score so far, None before the first.
        measure: what that score is called.
        eta: seconds to go for a running point, where they can be told.
        result: result.json of a finished one.
    """

    plan: dict[str, Any]
    record: Record
    step: int | None
    total: int | None
    epoch: int | None
    best: float | None
    measure: str | None
    eta: float | None
    result: dict[str, Any] | None

    @property
    def name(self) -> str:
        """Name of the point."""
        return str(self.plan["name"])

    @property
    def state(self) -> str:
        """Its state; what is finished on disk is finished, whatever the record says."""
        return "finished" if self.result is not None else self.record.state


def rows(folder: Folder) -> list[Row]:
    """All points, in the order of the sweep file."""
    return [_row(folder, plan) for plan in folder.points()]


def write(folder: Folder) -> list[Row]:
    """Write sweep.json and sweep.csv; returns what they hold."""
    found = rows(folder)
    meta = folder.meta()
    counts = dict(Counter(row.state for row in found))
    points = [_entry(folder, row) for row in found]
    keys = ("name", "description", "file", "cwd")
    summary = {"format": FORMAT, **{key: meta[key] for key in keys}, "updated": time.time(), "counts": counts}
    write_json(folder.path / "sweep.json", {**summary, "points": points})
    write_text(folder.path / "sweep.csv", _table(points))
    return found


def _row(folder: Folder, plan: dict[str, Any]) -> Row:
    run = folder.run(plan["name"])
    record, done = read_record(folder, plan["name"]), result(run)
    seen = progress(run) if done is None else finished(done)
    total, step = total_steps(plan["config"]), seen.step
    eta = None
    if record.state == "running" and seen.rate and total is not None and step is not None:
        eta = max(0, total - step) * plan["config"]["train"]["batch_size"] / seen.rate
    return Row(
        plan=plan,
        record=record,
        step=step,
        total=total,
        epoch=seen.epoch,
        best=seen.best,
        measure=seen.measure,
        eta=eta,
        result=done,
    )


def _entry(folder: Folder, row: Row) -> dict[str, Any]:
    record = row.record
    return {
        "point": row.name,
        "group": row.plan["group"],
        "seed": row.plan["seed"],
        "overrides": row.plan["overrides"],
        "run": str(folder.run(row.name).relative_to(folder.path)),
        "state": row.state,
        "job": record.job,
        "node": record.node,
        "code": record.code,
        "attempts": record.attempts,
        "step": row.step,
        "epoch": row.epoch,
        "best_valid": row.best,
        "measure": row.measure,
        "error": record.error,
        "history": record.history,
        "splits": (row.result or {}).get("splits", {}),
    }


def _table(points: list[dict[str, Any]]) -> str:
    """The same as CSV, nested values as dotted columns."""
    flat = [dict(_flat({k: v for k, v in point.items() if k != "history"})) for point in points]
    columns = list(dict.fromkeys(name for line in flat for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
