"""A copy of the code at submission, so that edits made while points wait or run do not change them."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from slurm.folder import Folder, write_json

PACKAGES = ("vadv", "shards", "slurm")
COMMIT = "commit.json"
"""In the copy: the commit that it was made from, and whether anything was changed since."""
START = "start.py"
"""The file a job runs. Python puts its folder first on the path of modules, before an installed or edited copy."""
_START = '''"""Runs one part of a job with the code in this folder."""

if __name__ == "__main__":
    from slurm.job import main

    main()
'''


def snapshot_path(folder: Folder) -> Path:
    """Where `snapshot` puts, or has put, a copy of the code as it is now: SWEEP/code/HASH."""
    digest = hashlib.sha256(_START.encode())
    for name, file in _files().items():
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return folder.path / "code" / digest.hexdigest()[:12]


def snapshot(folder: Folder) -> Path:
    """Copy the packages into SWEEP/code/HASH, unless the same code is there already.

    Returns:
        The folder of the copy, named by the hash of its content.
    """
    target = snapshot_path(folder)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copy-"))
    scratch.chmod(0o755)
    for name, file in _files().items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, scratch / name)
    (scratch / START).write_text(_START, encoding="utf-8")
    write_json(scratch / COMMIT, _commit(Path(__file__).resolve().parents[1]))
    try:
        scratch.rename(target)
    except OSError:  # another launch made the same copy meanwhile
        shutil.rmtree(scratch)
    return target


def _files() -> dict[str, Path]:
    """The packages' files, by their path in the copy."""
    found = {}
    for name in PACKAGES:
        root = Path(importlib.import_module(name).__path__[0])
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                found[f"{name}/{file.relative_to(root).as_posix()}"] = file
    return found


def _commit(root: Path) -> dict[str, str | None]:
    """The commit that the code came from, and what was not committed."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return {"commit": git("rev-parse", "HEAD"), "uncommitted": git("status", "--porcelain", "--untracked-files=no")}
