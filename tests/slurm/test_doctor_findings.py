"""Each check of launch/doctor.py: what it says when things are well, and when they are not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hub import serving
from sweeping import ROOT

from slurm import doctor as site
from slurm.settings import Slurm
from vadv.config import Config
from vadv.config_file import build, dump
from vadv.doctor import Finding, cache, data, machine, ranks
from vadv.doctor.weights import weights

TINY = {"clip": str(ROOT / "configs" / "clip" / "tiny.json"), "weights": "random", "face": False}
GIB = 2**30


def config_of(shards: Path | str, **changes: Any) -> Config:
    """Tiny teacher and student on some shards."""
    settings: dict[str, Any] = {
        "data": {"shards": str(shards), "workers": 0, "frames": 2},
        "teacher": TINY,
        "student": {"model": "tiny-roberta", "weights": "random"},
    }
    for section, values in changes.items():
        settings[section] = {**settings.get(section, {}), **values} if isinstance(values, dict) else values
    return build(settings)


def only(findings: Any) -> Finding:
    (finding,) = findings
    assert isinstance(finding, Finding)
    assert "\n" not in finding.line() and (finding.verdict == "ok" or finding.remedy)
    return finding


def test_the_command_ends_with_1_after_a_line_for_each_failure(tmp_path: Path) -> None:
    command = [sys.executable, "launch/doctor.py", "--config", "configs/sample.yaml", "--ranks", "2"]
    command += ["--data.shards", str(tmp_path / "nowhere"), "--train.batch_size", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    failures = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("fail")}
    assert set(failures) == {"batch", "shards"}
    assert "expected a multiple" in failures["batch"] and "pack the dataset into" in failures["shards"]
    assert all(re.match(r"(ok  |warn|fail)  \w", line) for line in done.stdout.splitlines()), done.stdout


def test_ranks_of_this_machine_tell_their_bandwidth() -> None:
    finding = only(ranks.measure_here(2))
    assert finding.verdict == "ok"
    assert re.search(r"2 ranks on .* by gloo, all-reduce of 16 MiB at \d+\.\d\d GB/s per rank", finding.text)


def test_a_rank_that_ends_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    finding = only(ranks.measure_here(2))
    assert finding.verdict == "fail" and "rank 0 ended with 1" in finding.text


def test_too_few_cores_are_worth_a_warning() -> None:
    crowded = config_of("x", data={"workers": 1000})
    found = {finding.check: finding for finding in machine.devices(crowded, 1, 1)}
    assert found["cores"].verdict == "warn" and "ask for 1001 cores" in found["cores"].remedy


@pytest.mark.parametrize(("free", "verdict"), [(1 * GIB, "fail"), (400 * GIB, "ok")])
def test_memory_is_held_against_the_plan(free: int, verdict: str) -> None:
    from vadv.config_file import load

    loaded = load(ROOT / "configs" / "mosi.yaml")
    finding = only(machine._memory(loaded, 1, 1, free=free, host=free, margin=machine.GPU_MARGIN))
    assert finding.verdict == verdict and f"of {free / GIB:.1f} GiB" in finding.text
    assert float(re.search(r"needs (\d+\.\d) GiB", finding.text)[1]) > 2  # type: ignore[index]


def test_checkpoints_need_room(tmp_path: Path) -> None:
    assert only(machine.room(config_of("x"), tmp_path / "run")).verdict == "ok"
    many = config_of("x", train={"keep_checkpoints": 10**9})
    finding = only(machine.room(many, tmp_path / "run"))
    assert finding.verdict == "fail" and "lower train.keep_checkpoints" in finding.remedy


def test_weights_that_were_fetched_load_with_the_hubs_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vadv.models.student import build_student

    model = tmp_path / "hub" / "someone" / "small"
    student, tokenizer = build_student(build({"student": {"model": "tiny-roberta", "weights": "random"}}).student, 1)
    student.to_stock().save_pretrained(model)
    tokenizer.save_pretrained(model)
    config = build({"student": {"model": "someone/small"}, "teacher": None})
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving(tmp_path / "hub") as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        before = only(weights(config, dump(config), fetch=False))
        assert before.verdict == "fail" and "--fetch" in before.remedy
        assert asked == []  # switched off means that nobody is asked
        fetched = only(weights(config, dump(config), fetch=True))
        assert fetched.verdict == "ok" and "loaded with the hubs switched off" in fetched.text
        assert any(path.endswith("model.safetensors") for path in asked)
        unknown = build({"student": {"model": "someone/unknown"}, "teacher": None})
        told = list(weights(unknown, dump(unknown), fetch=True))
        assert {finding.verdict for finding in told} == {"fail"} and "HF_ENDPOINT" in told[0].remedy


def test_the_disk_is_held_against_the_decoders(sample_shards: Path) -> None:
    few = only(data.throughput(config_of(sample_shards), ranks_here=1))
    assert few.verdict == "ok"
    assert re.search(r"disk \d+ MiB/s = \d+ clips/s; decoders of 1 ranks \d+ clips/s", few.text)
    many = only(data.throughput(config_of(sample_shards), ranks_here=10**9))
    assert many.verdict == "warn" and "copy the shards to a local disk" in many.remedy


def test_the_network_is_held_against_the_decoders(sample_shards: Path, tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(sample_shards), "/doctor", recursive=True)
    config = config_of("memory://doctor", data={"cache_dir": str(tmp_path)})
    there = only(data.shards(config, fast=True))
    assert there.verdict == "ok" and "the first is here and its checksum fine" in there.text
    finding = only(data.throughput(config, ranks_here=1))
    assert finding.verdict == "ok" and finding.text.startswith("network ")
    many = only(data.throughput(config, ranks_here=10**9))
    assert many.verdict == "warn" and "waits for the network" in many.remedy
    assert only(cache.cache(config)).verdict == "ok"
    small = config_of("memory://doctor", data={"cache_dir": str(tmp_path), "cache_bytes": 1000})
    tight = only(cache.cache(small))
    assert tight.verdict == "warn" and "shards are fetched again in each epoch" in tight.remedy
    gone = config_of("memory://nothing", data={"cache_dir": str(tmp_path)})
    missing = only(data.shards(gone, fast=True))
    assert missing.verdict == "fail" and "no manifest.json" in missing.text


@pytest.mark.parametrize(
    ("changes", "verdict", "part"),
    [
        ({}, "ok", "features of "),
        ({"teacher": {"cache_bytes": 1000}}, "warn", "clips beyond it are encoded in each epoch"),
        (
            {"teacher": {"cache_bytes": 2**62}, "data": {"views": 10**7}, "train": {"epochs": 10**7}},
            "fail",
            "lower teacher.cache_bytes",
        ),
        ({"data": {"cache_dir": "/dev/null/x"}}, "fail", "set data.cache_dir to a folder on a local disk"),
    ],
    ids=["fits", "bounded", "too large", "no folder"],
)
def test_the_cache_is_held_against_what_the_features_need(
    sample_shards: Path, tmp_path: Path, changes: Mapping[str, Any], verdict: str, part: str
) -> None:
    place = {"cache_dir": str(tmp_path), "views": 2, **changes.get("data", {})}
    teacher = {"cache_features": True, **changes.get("teacher", {})}
    config = config_of(sample_shards, data=place, teacher=teacher, train=changes.get("train", {"epochs": 5}))
    finding = only(cache.cache(config))
    assert finding.verdict == verdict and part in finding.line()
    if verdict == "ok":
        from shards.manifest import read_manifest

        counts = {name: split.samples for name, split in read_manifest(sample_shards).splits.items()}
        assert f"features of {2 * counts['train'] + counts['valid'] + counts['test']} clips and views" in finding.text
        assert re.search(r"writes \d+, reads \d+ MiB/s = \d+ clips/s", finding.text)


def test_nothing_is_said_of_a_cache_that_nothing_uses(sample_shards: Path) -> None:
    assert list(cache.cache(config_of(sample_shards))) == []


CONFIG = {
    "SLURM_VERSION": "23.11.4",
    "MaxArraySize": "1001",
    "JobRequeue": "1",
    "PreemptType": "preempt/qos",
    "PreemptMode": "REQUEUE",
    "SlurmctldParameters": "preempt_send_user_signal",
    "KillWait": "30 sec",
    "AccountingStorageType": "accounting_storage/slurmdbd",
}
PARTITION = "PartitionName=gpu GraceTime=120 PreemptMode=REQUEUE State=UP"


@pytest.fixture
def a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[site.Told]]:
    """Ask a site whose Slurm answers in a certain way. What a real one answers, test_doctor.py sees."""

    def _a_site(
        settings: Slurm, partition: str = PARTITION, gres: str = "gpu:4", limit: str = "1-00:00:00", **changes: str
    ) -> list[site.Told]:
        lines = "\n".join(f"{key} = {value}" for key, value in {**CONFIG, **changes}.items())
        answers = {
            "scontrol": f'case "$2" in config) echo "{lines}";; *) echo "{partition}";; esac',
            "sinfo": f'echo "gpu*|up|{limit}|{gres}"',
            "sacctmgr": "exit 0",
            "squeue": "exit 0",
            "sbatch": "exit 0",
        }
        for name, text in answers.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return list(site.check(settings))

    return _a_site


@pytest.mark.parametrize(
    ("changes", "verdict", "part"),
    [
        ({}, "ok", "sends the signal to save"),
        ({}, "ok", "partition gpu: preempted jobs get 120 s of grace (PreemptMode REQUEUE)"),
        ({"SlurmctldParameters": "(null)"}, "warn", "sends SIGTERM only"),
        ({"PreemptType": "preempt/none"}, "ok", "no preemption; time limits are met by requeueing"),
        ({"JobRequeue": "0"}, "warn", "JobRequeue=0"),
        ({"KillWait": "5 sec"}, "warn", "KillWait=5 s"),
        ({"AccountingStorageType": "accounting_storage/none"}, "warn", "no accounting"),
        ({"partition": PARTITION.replace("120", "0")}, "warn", "preempted jobs get 0 s of grace"),
        ({"partition": PARTITION.replace("REQUEUE", "CANCEL")}, "warn", "PreemptMode CANCEL"),
        ({"gres": "(null)"}, "fail", "partition gpu: up, time limit 1-00:00:00, gres (null)"),
        ({"limit": "1:00:00"}, "fail", "partition gpu: up, time limit 1:00:00"),
    ],
)
def test_a_sites_features_are_told(
    a_site: Callable[..., list[site.Told]], changes: dict[str, str], verdict: str, part: str
) -> None:
    found = a_site(Slurm(time="8:00:00"), **changes)
    (told,) = [line for line in found if part in line[1]]
    assert told[0] == verdict and (verdict == "ok" or told[2])
    assert sum(line[0] != "ok" for line in found) == (verdict != "ok")


def test_a_controller_that_does_not_answer_fails(
    a_site: Callable[..., list[site.Told]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_site(Slurm())
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    (told,) = site.check(Slurm())
    assert told[0] == "fail" and "Unable to contact slurm controller" in told[1] and "sinfo" in told[2]
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (told,) = site.check(Slurm())
    assert told == ("warn", "no Slurm commands on PATH", "sweeps run here with --executor local")
