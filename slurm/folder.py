"""Where the files of a sweep lie. Everything that a launch, a job, a status table and a report know stands in them.

SWEEP/sweep.yaml           the sweep file as it was launched
SWEEP/plan.json            the points: name, group, seed, settings, whole configuration
SWEEP/points/NAME/         the run folder of a point
SWEEP/state/NAME.json      what has happened to a point (slurm/record.py)
SWEEP/submissions/TAG.json the points of one job array, in the order of its elements
SWEEP/logs/                output of each job and rank
SWEEP/code/HASH/           the code as it was at a submission
SWEEP/sweep.json, .csv     the summary that reports read
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


class Folder:
    """The folder of a sweep."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()

    @property
    def plan(self) -> Path:
        """The points."""
        return self.path / "plan.json"

    @property
    def lock(self) -> Path:
        """Held while a launch decides what to submit."""
        return self.path / "lock"

    @property
    def logs(self) -> Path:
        """Output of jobs."""
        return self.path / "logs"

    def run(self, point: str) -> Path:
        """Run folder of a point."""
        return self.path / "points" / point

    def state(self, point: str) -> Path:
        """Record of a point."""
        return self.path / "state" / f"{point}.json"

    def note(self, point: str, kind: str) -> Path:
        """A small file by which a rank tells the supervisor of its job something: `error-RANK` or `stopped-RANK`."""
        return self.path / "state" / f"{point}.{kind}"

    def notes(self, point: str, kind: str) -> list[Path]:
        """The notes of one kind (`error`, `stopped`) of all ranks."""
        return sorted((self.path / "state").glob(f"{point}.{kind}-*"))

    def log(self, job: str, point: str, rank: int) -> Path:
        """Output of one rank; attempts of one job follow each other in it."""
        return self.logs / f"{point if job.startswith('local') else job}_{rank}_log.out"

    def submission(self, tag: str) -> Path:
        """The points of one job array."""
        return self.path / "submissions" / f"{tag}.json"

    def meta(self) -> dict[str, Any]:
        """What plan.json says of the sweep as a whole: name, entry, retries, cwd, ..."""
        return {key: value for key, value in self._plan().items() if key != "points"}

    def points(self) -> list[dict[str, Any]]:
        """What plan.json says of each point.

        Raises:
            FileNotFoundError: this is not the folder of a sweep.
        """
        return list(self._plan()["points"])

    def _plan(self) -> dict[str, Any]:
        if not self.plan.is_file():
            raise FileNotFoundError(f"{self.path}: expected the folder of a sweep, found no plan.json in it")
        return dict(read_json(self.plan))


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step: readers see the old content or the new, also after a crash."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
