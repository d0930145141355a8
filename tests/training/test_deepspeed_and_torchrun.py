"""The launchers that people use: a signal to the launcher saves the run, the same command goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from training_runs import changed, logged

PORT = {"deepspeed": "29731", "torchrun": "29732"}
LAUNCHERS = {
    "deepspeed": ["deepspeed", "--num_accelerators", "2", "--master_port", PORT["deepspeed"]],
    "torchrun": ["torchrun", "--nproc-per-node", "2", "--master-port", PORT["torchrun"], "--"],  # else it reads --run
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_signal_to_the_launcher_saves_and_the_same_command_goes_on(
    tiny: dict[str, Any], tmp_path: Path, launcher: str
) -> None:
    run, config = tmp_path / "run", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(changed(tiny, train={"epochs": 8, "max_steps": 12, "evaluate_every": 8})))
    words = LAUNCHERS[launcher]
    command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
    command += ["launch/train.py", "--config", str(config), "--run", str(run)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 900
            while not (run / "metrics.jsonl").is_file() or len(logged(run)) < 3:
                assert started.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.05)
            started.send_signal(signal.SIGTERM)
            assert started.wait(300) != 0
            # DeepSpeed's launcher does not wait for the ranks that it has told to stop.
            psutil.wait_procs(_session(started.pid), timeout=300)
            assert _session(started.pid) == []
        finally:
            for process in _session(started.pid):
                process.kill()
    step = max(logged(run))
    assert (run / "checkpoints" / f"step-{step}" / "complete.json").is_file(), (tmp_path / "log").read_text()[-3000:]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resuming from {run}/checkpoints/step-{step}" in done.stdout + done.stderr
    assert sorted(logged(run)) == list(range(1, 13))


def _session(leader: int) -> list[psutil.Process]:
    """Processes of a session that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
