"""launch/doctor.py: what it finds well, what it finds wrong, and what to do about it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from sweeping import ROOT, Client

from slurm import doctor as site
from slurm.settings import Slurm
from vadv.config_file import build
from vadv.doctor import data, machine


@pytest.fixture
def config_file(sample_shards: Path, tmp_path: Path) -> Path:
    settings = {
        "data": {"shards": str(sample_shards), "workers": 0},
        "teacher": {"clip": str(ROOT / "configs" / "clip" / "tiny.json"), "weights": "random"},
        "student": {"model": "tiny-roberta", "weights": "random"},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_an_allocation_of_two_nodes_is_examined_as_one(slurm: Client, config_file: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["srun", "-N2", "--ntasks-per-node=1", slurm.python, "launch/doctor.py", "--config", str(config_file),
         "--run", str(tmp_path / "run")],
        env=slurm.env, cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(line.startswith("ok    collective  2 ranks on n1, n2 by gloo, all-reduce of") for line in lines) == 1
    assert not [line for line in lines if line.startswith("fail")]
    for check in ("versions", "batch", "weights", "shards", "throughput", "run folder"):
        assert [line for line in lines if line.startswith(f"ok    {check}")], done.stdout
    assert "ok    slurm       preemption (REQUEUE) sends the signal to save" in lines
    assert any("partition main: preempted jobs get 120 s of grace (PreemptMode REQUEUE)" in line for line in lines)
    assert any(" GB/s per rank" in line for line in lines if "collective" in line)


def test_damaged_and_missing_shards_fail(config_file: Path, sample_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(sample_shards, tmp_path / "damaged")
    tar = next((tmp_path / "damaged" / "train").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1024] + bytes(range(256)) * 4)
    for name, part in (("damaged", "faults in"), ("absent", "no manifest.json")):
        config = build({"data": {"shards": str(tmp_path / name)}})
        (finding,) = data.shards(config, fast=True)
        assert finding.verdict == "fail" and part in finding.text and finding.remedy
    other = build({"task": "retrieval", "data": {"shards": str(sample_shards)}})
    fine, finding = data.shards(other, fast=True)
    assert (fine.verdict, finding.verdict) == ("ok", "fail")
    assert "of the retrieval task, found sentiment" in finding.text


def test_missing_weights_fail_with_the_hubs_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vadv.config_file import dump
    from vadv.doctor.weights import weights

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = build({"student": {"model": "nobody/no-such-model"}, "teacher": None})
    (finding,) = weights(config, dump(config), fetch=False)
    assert finding.verdict == "fail" and "nobody/no-such-model" in finding.text and "--fetch" in finding.remedy


def test_a_package_that_is_too_old_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda name: ["numpy>=99", "no-such-thing"])
    (finding, *_) = machine.versions()
    assert finding.verdict == "fail" and "is not >=99" in finding.text and "no-such-thing is missing" in finding.text


def test_the_site_is_held_against_the_slurm_section(slurm: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "SLURM_CONF", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, slurm.env[name])
    assert "fail" not in {verdict for verdict, *_ in site.check(Slurm())}
    told = [line for line in site.check(Slurm(partition="gpus")) if line[0] == "fail"]
    assert told == [("fail", "no partition gpus", "set slurm.partition to one of high, main")]
    (told,) = [line for line in site.check(Slurm(gpus_per_node=0, partition="high", time="30-0")) if "high" in line[1]]
    assert told[0] == "ok"
