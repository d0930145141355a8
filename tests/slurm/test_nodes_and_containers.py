"""Several nodes without Slurm, and containers as far as a machine without them can tell."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sweeping import ROOT

from vadv.ports import free_port

CONTAINERS = ROOT / "slurm" / "containers"
BIN = Path(sys.executable).parent


@pytest.fixture
def base(sample_shards: Path, tmp_path: Path) -> Path:
    settings = {
        "data": {"shards": str(sample_shards), "workers": 0, "frames": 2},
        "teacher": {"clip": str(ROOT / "configs" / "clip" / "tiny.json"), "weights": "random"},
        "student": {"model": "tiny-roberta", "weights": "random"},
        "train": {"max_steps": 2, "batch_size": 4},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def run_together(commands: list[list[str]]) -> None:
    env = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    started = [
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(outputs)


@pytest.mark.slow
def test_torchrun_on_two_nodes(base: Path, tmp_path: Path) -> None:
    command = [str(BIN / "torchrun"), "--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1"]
    command += ["--master_port", str(free_port())]
    script = ["launch/train.py", "--config", str(base), "--run", str(tmp_path / "run")]
    run_together([[*command, "--node_rank", str(node), "--", *script] for node in (0, 1)])
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.slow
def test_deepspeed_with_a_hostfile(base: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 slots=1\nlocalhost slots=1\n")
    # As over ssh, less the ssh, which no test machine can be asked to have.
    command = [str(BIN / "deepspeed"), "--hostfile", str(hosts), "--no_ssh", "--master_addr", "127.0.0.1"]
    command += ["--master_port", str(free_port())]
    script = ["launch/train.py", "--config", str(base), "--run", str(tmp_path / "run")]
    run_together([[*command, "--node_rank", str(node), *script] for node in (0, 1)])
    assert (tmp_path / "run" / "result.json").is_file()


def test_both_container_files_hold_the_same_and_only_what_exists() -> None:
    docker, apptainer = ((CONTAINERS / name).read_text() for name in ("Dockerfile", "videoadviser.def"))
    copied = {name for line in re.findall(r"^COPY (.*)", docker, re.MULTILINE) for name in line.split()[:-1]}
    files = apptainer.split("%files")[1].split("%post")[0]
    assert copied == {line.split()[0] for line in files.splitlines() if line.strip()}
    assert all((ROOT / name).exists() for name in copied)
    packages = [
        set(re.search(r"--no-install-recommends (.*)", text)[1].rstrip("\\ ").split()) for text in (docker, apptainer)
    ]
    assert packages[0] == packages[1]
    assert re.findall(r"^(?:FROM|From:) (\S+)", docker + apptainer, re.MULTILINE) == ["python:3.11-slim-bookworm"] * 2
    commands = [re.findall(r"pip install .*?(?=\n| \\)", text) for text in (docker, apptainer)]
    assert commands[0] == commands[1] and len(commands[0]) == 2
    extras = set(re.search(r"videoadviser\[(.*?)\]", docker)[1].split(","))
    assert extras <= set(importlib.metadata.metadata("videoadviser").get_all("Provides-Extra"))
    if shutil.which("apt-cache"):
        done = subprocess.run(["apt-cache", "show", *packages[0]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
