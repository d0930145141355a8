"""The Slurm of the tests itself: who must have it, and that nothing of it is left behind however its tests end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import lab as slurm_lab
import psutil
import pytest
from leftovers import clear, members
from sweeping import HERE, ROOT, Client, until


@pytest.mark.parametrize(
    ("value", "must"), [("true", True), ("1", True), ("woodpecker", True), ("", False), ("false", False), ("0", False)]
)
def test_ci_says_so_by_its_usual_variable(value: str, must: bool) -> None:
    assert slurm_lab.must_run({"CI": value}) is must
    assert not slurm_lab.must_run({})


@pytest.mark.parametrize("ci", [True, False])
def test_without_slurm_ci_fails_where_others_skip_with_the_reason(ci: bool, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "CI" and "XDIST" not in name}
    env |= {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), **({"CI": "true"} if ci else {})}
    name = "tests/slurm/test_arrays_on_slurm.py::test_two_launches_at_the_same_moment_do_not_collide"
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-q", name]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    reason = "Slurm comes from Debian's packages, and there is no apt-get here"
    assert reason in done.stdout
    if ci:
        assert done.returncode == 1 and "CI must not skip its tests" in done.stdout and "1 error" in done.stdout
    else:
        assert done.returncode == 0 and "1 skipped" in done.stdout


def test_continuous_integration_asks_for_it() -> None:
    assert "export CI=true" in (ROOT / ".ci" / "run").read_text().splitlines()


TESTS = """
import subprocess, sys, time
lab = subprocess.Popen([sys.executable, sys.argv[1], "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                       text=True, start_new_session=True)
print(lab.stdout.readline().strip(), lab.pid, flush=True)
time.sleep(3600)
"""


def names(folder: Path) -> set[str]:
    """Of the processes of a lab, those that have not ended meanwhile."""
    found = set()
    for process in members(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(process.name())
    return found


@pytest.mark.parametrize("killed", ["the tests", "the lab"])
def test_kill_9_leaves_nothing_behind(killed: str) -> None:
    """Of the tests: the lab sees that they are gone. Of the lab itself: whoever needs a lab next clears up."""
    try:
        slurm_lab.binaries()
    except slurm_lab.Unavailable as reason:
        if slurm_lab.must_run(os.environ):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    tests = subprocess.Popen([sys.executable, "-c", TESTS, str(HERE / "lab.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert tests.stdout is not None
        where, pid = tests.stdout.readline().split()
        folder, lab = Path(where), psutil.Process(int(pid))
        client = Client(slurm_lab.client_environment(folder))
        client.slurm("sbatch", "-o", "/dev/null", "--wrap", "trap '' TERM; sleep 3600 & wait; sleep 3600")
        until(lambda: "RUNNING" in client.slurm("squeue", "-h", "-o", "%T"), "a job that runs", 60)
        assert len(members(folder)) > 6 and folder not in clear()
        if killed == "the tests":
            tests.kill()
            until(lambda: not folder.exists() and not members(folder), "the end of the lab", 60)
        else:
            lab.send_signal(signal.SIGKILL)
            daemons = {
                "munged",
                "mariadbd",
                "slurmdbd-wlm",
                "slurmdbd",
                "slurmctld",
                "slurmctld-wlm",
                "slurmd",
                "slurmd-wlm",
            }
            until(lambda: not daemons & names(folder), "the end of the daemons", 60)
            assert members(folder)  # the job's step and its shell, which nobody ends
            assert folder in clear()
            assert not folder.exists() and not members(folder)
    finally:
        tests.kill()
        tests.wait()
        clear()
