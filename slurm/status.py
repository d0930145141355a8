"""The table that a person watches."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable

from slurm.folder import Folder
from slurm.queue import Queued, SlurmError, my_jobs
from slurm.summary import Row, write

COLUMNS = ("point", "state", "job", "node", "step", "epoch", "best valid {}", "ETA", "retries", "last error")
"""The metric is the one that the points' runs say, once they were validated."""

OVER = ("finished", "failed", "cancelled")
"""States after which nothing happens by itself."""


def table(found: list[Row], queue: dict[str, Queued], width: int | None = None) -> str:
    """The points as a table of fixed columns; the last one, the error, is cut to the width.

    Args:
        found: the rows.
        queue: what Slurm says of their jobs; empty without Slurm.
        width: of the terminal in characters; None cuts nothing.
    """
    measures = "/".join(sorted({row.measure for row in found if row.measure}))
    cells = [tuple(name.format(measures).strip() for name in COLUMNS), *(_cells(row, queue) for row in found)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(COLUMNS) - 1)]
    lines = []
    for line in cells:
        text = "  ".join([*(cell.ljust(w) for cell, w in zip(line, widths)), line[-1]]).rstrip()
        lines.append(text[:width] if width else text)
    counts = Counter(row.state for row in found)
    order = ("finished", "running", "queued", "waiting", "failed", "cancelled")
    lines.append("")
    lines.append(f"{len(found)} points: " + ", ".join(f"{counts[state]} {state}" for state in order if counts[state]))
    return "\n".join(lines)


def watch(folder: Folder, step: Callable[[], bool], every: float) -> None:
    """Show the table until `step`, called before each showing, says that it is over.

    On a terminal the table is redrawn in place; otherwise a line is printed when a point changes its state, so that a
    log stays short.
    """
    live = sys.stdout.isatty()
    shown: dict[str, str] = {}
    while True:
        over = step()
        found = write(folder)
        if live:
            size = shutil.get_terminal_size()
            body = table(found, _queue(found), size.columns).splitlines()
            if len(body) > size.lines - 1:
                body = [*body[: size.lines - 4], "...", *body[-2:]]
            print("\033[H\033[2J" + "\n".join(body), flush=True)
        else:
            for row in found:
                if shown.get(row.name) != row.state:
                    extra = f": {row.record.error}" if row.state == "failed" else ""
                    print(f"{time.strftime('%T')} {row.name} {row.state}{extra}", flush=True)
                    shown[row.name] = row.state
        if over:
            break
        time.sleep(every)
    if not live:
        print(table(found, _queue(found)), flush=True)


def show(folder: Folder) -> list[Row]:
    """Print the table once and renew the summary files."""
    found = write(folder)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(table(found, _queue(found), width), flush=True)
    return found


def _queue(found: list[Row]) -> dict[str, Queued]:
    """The jobs of these points as Slurm sees them; empty where no Slurm is concerned or it does not answer."""
    if not any(row.record.job and not row.record.job.startswith("local") and not row.record.over for row in found):
        return {}
    try:
        return my_jobs()
    except SlurmError as error:
        print(f"Slurm does not answer ({error}); showing what the files say", file=sys.stderr)
        return {}


def _cells(row: Row, queue: dict[str, Queued]) -> tuple[str, ...]:
    record = row.record
    state = row.state
    queued = queue.get(record.job)
    if state == "queued" and queued is not None and queued.reason not in ("", "None"):
        state = f"queued ({queued.reason})"
    step = "-" if row.step is None else f"{row.step}/{row.total}" if row.total else str(row.step)
    return (
        row.name,
        state,
        record.job or "-",
        record.node or "-",
        step,
        "-" if row.epoch is None else str(row.epoch + 1),
        "-" if row.best is None else f"{row.best:.4f}",
        "-" if row.eta is None else _duration(row.eta),
        str(max(0, record.attempts - 1)),
        record.error,
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
