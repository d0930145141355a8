"""What labs leave behind that were killed themselves, found and ended by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

PLACE, PREFIX = Path("/tmp"), "slurm-lab-"
"""Where labs have their folders, and how these begin."""


def members(folder: Path) -> list[Any]:
    """Processes of the lab in a folder: daemons, steps, and what jobs started.

    Daemons and jobs have the lab's slurm.conf in their environment. Steps write their title over theirs; they hold the
    log of their node open.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mine = process.environ().get("SLURM_CONF") == str(folder / "slurm.conf")
            for file in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    path = Path(os.readlink(file))  # noqa: PTH115
                    mine |= folder in path.parents and path.name != "alive"  # whoever clears up has that one open
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def clear(place: Path = PLACE) -> list[Path]:
    """Remove what labs left behind that were killed themselves; returns their folders.

    A lab holds a lock in its folder as long as it lives. Daemons end with it, but steps of its jobs are then nobody's
    children and may wait for ever.
    """
    import psutil

    left = []
    for alive in place.glob(f"{PREFIX}*/alive"):
        with contextlib.suppress(OSError), alive.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            while orphans := members(alive.parent):
                for process in orphans:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                psutil.wait_procs(orphans, timeout=10)
            shutil.rmtree(alive.parent, ignore_errors=True)
            left.append(alive.parent)
    return left
