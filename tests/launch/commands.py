"""The commands of launch/ as a person starts them, and in this process, which is quicker and tells the same."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "launch").glob("[a-z]*.py"))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def started(*words: str, cwd: Path = ROOT, **environment: str) -> Outcome:
    """Start `python launch/WORDS`."""
    command = [sys.executable, str(ROOT / "launch" / f"{words[0]}.py"), *words[1:]]
    env = {**os.environ, "DS_ACCELERATOR": "cpu", **environment}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, env=env, cwd=cwd
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def called(capfd: pytest.CaptureFixture[str], *words: str) -> Outcome:
    """The same in this process: libraries are loaded once for all of them; what they write is captured as well."""
    capfd.readouterr()
    code = call(*words)
    found = capfd.readouterr()
    return Outcome(code, found.out, found.err)


def call(*words: str) -> int:
    """Run a command in this process and return its exit code; arguments and the current folder are put back."""
    script, argv, path, cwd = ROOT / "launch" / f"{words[0]}.py", sys.argv, list(sys.path), Path.cwd()
    sys.argv, sys.path[:0] = [str(script), *words[1:]], [str(script.parent)]
    code: int | str | None = 0
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, sys.path[:] = argv, path
        os.chdir(cwd)
    assert isinstance(code, int), code
    return code
