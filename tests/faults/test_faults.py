"""A few of the trials of `make faults`, for every change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_broken_runs_come_back_bit_identical(sample_shards: Path, tmp_path: Path) -> None:
    # Trials 22 to 25: ZeRO-2; kill -9 of a rank, while saving, of both; SIGTERM.
    command = [sys.executable, "tests/faults/trials.py", "--first", "22", "--trials", "4"]
    command += ["--shards", str(sample_shards), "--folder", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
