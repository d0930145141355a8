"""A Slurm for the session, and sweeps of a toy trainer to run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lab as slurm_lab
import pytest
from sweeping import HERE, Client, ToySweep


@pytest.fixture(scope="session")
def slurm() -> Iterator[Client]:
    """A client of a real Slurm that lives as long as the session."""
    try:
        slurm_lab.binaries()
    except slurm_lab.Unavailable as reason:
        if slurm_lab.must_run(os.environ):
            pytest.fail(f"no Slurm here, and CI must not skip its tests: {reason}")
        pytest.skip(f"no Slurm here: {reason}")
    with subprocess.Popen(
        [sys.executable, str(HERE / "lab.py"), "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C ends the tests; the lab goes down when its standard input ends
    ) as lab:
        assert lab.stdout is not None and lab.stdin is not None
        try:
            folder = lab.stdout.readline().strip()
            if not folder:
                pytest.fail("Slurm did not come up; its logs are above")
            yield Client(slurm_lab.client_environment(Path(folder)), lab)
        finally:
            lab.stdin.close()
            lab.wait(60)


@pytest.fixture
def toys(tmp_path: Path) -> Callable[..., ToySweep]:
    """Make a sweep of the toy trainer."""
    return lambda name="toys", **content: ToySweep(tmp_path / name, **content)
