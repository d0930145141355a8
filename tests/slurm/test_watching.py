"""What a person sees of a sweep, read from files alone; and how ranks find each other."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sweeping import ROOT, Client, ToySweep

from slurm.folder import Folder, write_json, write_text
from slurm.progress import Progress, checkpoint_step, finished, progress, total_steps
from slurm.queue import Queued
from slurm.record import Record
from slurm.rendezvous import own_address, rank_environment
from slurm.status import table
from slurm.summary import Row
from vadv.ports import free_port

MAE = {"output": "text", "metric": "mae", "name": "MAE", "better": "low"}
MAP = {"output": "students", "metric": "map_mean", "name": "mAP", "better": "high"}


def test_progress_is_read_as_it_grows(tmp_path: Path) -> None:
    run, metrics = tmp_path, tmp_path / "metrics.jsonl"
    assert progress(run) == Progress()
    lines = [
        {"step": 1, "epoch": 0, "split": "train", "samples_per_second": 8.0},
        {"step": 1, "epoch": 0, "split": "valid", "measure": MAE, "text": {"mae": 0.9}},
        {"step": 2, "epoch": 1, "split": "train", "samples_per_second": 9.0},
    ]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "ep')
    assert progress(run) == Progress(step=2, epoch=1, best=0.9, measure="MAE", rate=9.0)
    with metrics.open("a") as file:
        file.write(f'och": 1, "split": "valid", "measure": {json.dumps(MAE)}, "text": {{"mae": 0.7}}}}\n')
        file.write('{"step": 3, "epoch": 1, "split": "valid", "text": {"mae": 0.1}}\n{}\n3\n')
    assert progress(run) == Progress(step=3, epoch=1, best=0.7, measure="MAE", rate=9.0)
    metrics.write_text(json.dumps(lines[0]) + "\n")  # cut back
    assert progress(run) == Progress(step=1, epoch=0, best=None, rate=8.0)


def test_a_run_is_watched_by_the_measure_that_it_names(tmp_path: Path) -> None:
    lines = [
        {
            "step": step,
            "epoch": 0,
            "split": "valid",
            "measure": MAP,
            "students": {"map_mean": value},
            "video": {"accuracy": 1.0},
        }
        for step, value in ((1, 0.4), (2, 0.6), (3, 0.5), (4, float("nan")))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    seen = progress(tmp_path)
    assert (seen.best, seen.measure) == (0.6, "mAP")
    done = finished({"measure": MAP, "best": {"epoch": 1, "step": 2, "map_mean": 0.75}, "steps": 9, "epochs": 3})
    assert done == Progress(step=9, epoch=2, best=0.75, measure="mAP")
    assert finished({"best": None}) == Progress()
    one, new = row(state="running"), row(state="queued")
    one.measure, new.measure = "mAP", None
    assert "best valid mAP" in table([one, new], {}).splitlines()[0]
    assert "best valid MAE/mAP" in table([one, row(state="running")], {}).splitlines()[0]
    assert "best valid  ETA" in table([new], {}).splitlines()[0]


def test_the_length_of_a_run_comes_from_its_shards(tmp_path: Path) -> None:
    for name, clips in (("a", 10), ("b", 7)):
        write_json(tmp_path / name / "manifest.json", {"splits": {"train": {"samples": clips}}})
    train = {"epochs": 3, "batch_size": 4, "max_steps": None}
    shards = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert total_steps({"data": {"shards": shards}, "train": train}) == 3 * 5
    assert total_steps({"data": {"shards": shards}, "train": {**train, "max_steps": 6}}) == 6
    assert total_steps({"data": {"shards": "s3://bucket/x"}, "train": train}) is None


def test_the_eta_is_what_is_left_at_the_present_rate(tmp_path: Path) -> None:
    from slurm.record import changing
    from slurm.summary import rows

    folder = Folder(tmp_path / "sweep")
    write_json(tmp_path / "shards" / "manifest.json", {"splits": {"train": {"samples": 100}}})
    config = {"task": "sentiment", "data": {"shards": str(tmp_path / "shards")}}
    config["train"] = {"epochs": 4, "batch_size": 10, "max_steps": None}
    write_json(folder.plan, {"points": [{"name": "a_seed-1", "group": "a", "seed": 1, "config": config}]})
    line = {"step": 15, "epoch": 1, "split": "train", "samples_per_second": 5.0}
    write_text(folder.run("a_seed-1") / "metrics.jsonl", json.dumps(line) + "\n")
    assert rows(folder)[0].eta is None  # it does not run
    with changing(folder, "a_seed-1") as record:
        record.state = "running"
    (found,) = rows(folder)
    assert (found.step, found.total, found.eta) == (15, 40, 25 * 10 / 5.0)


def test_the_pointer_tells_the_newest_complete_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_step(tmp_path) == 0
    write_text(tmp_path / "checkpoints" / "latest", "step-120\n")
    assert checkpoint_step(tmp_path) == 120


def row(**record: object) -> Row:
    plan = {"name": "a_seed-1"}
    return Row(
        plan=plan, record=Record(point="a_seed-1", **record), step=120, total=500, epoch=2, best=0.71234, measure="MAE", eta=3725.0,
        result=None
    )  # fmt: skip


def test_the_table_shows_every_column() -> None:
    text = table([row(state="running", job="12_3", node="n7", attempts=3, error="OSError: disk full")], {})
    header, line, *_ = text.splitlines()
    assert header.split("  ")[0] == "point" and "best valid MAE" in header and "last error" in header
    for part in (
        "a_seed-1",
        "running",
        "12_3",
        "n7",
        "120/500",
        " 3 ",
        "0.7123",
        "1:02:05",
        " 2 ",
        "OSError: disk full",
    ):
        assert part in line
    waiting = {"12_3": Queued(state="PENDING", reason="Priority", node="")}
    assert "queued (Priority)" in table([row(state="queued", job="12_3")], waiting)
    assert max(map(len, table([row(state="running", error="x" * 300)], {}, width=80).splitlines())) == 80


def test_on_a_terminal_the_status_is_drawn_in_place_until_all_is_over(toys: Callable[..., ToySweep]) -> None:
    here, sweep = Client({}), toys(seeds=[1, 2])
    here.sweep(*sweep.words, "--executor", "local")
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "launch" / "sweep.py"), "--status", str(sweep.out)]
    done = subprocess.run(command, env=here.env, stdout=theirs, timeout=120)
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert text.startswith("\033[H\033[2J") and "2 points: 2 finished" in text


def srun(rank: int, size: int, nodes: int = 1, **more: str) -> dict[str, str]:
    """The variables of a task, as srun sets them."""
    names = {"PROCID": rank, "NTASKS": size, "LOCALID": rank % (size // nodes), "JOB_NUM_NODES": nodes, "JOB_ID": 7}
    return {f"SLURM_{name}": str(value) for name, value in names.items()} | {"SLURM_STEP_ID": "0", **more}


def test_all_ranks_get_the_address_that_rank_0_chose(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rank: rank_environment(srun(rank, 4, nodes=2), tmp_path), range(3, -1, -1)))
    assert {(env["MASTER_ADDR"], env["MASTER_PORT"]) for env in found} == {
        (found[0]["MASTER_ADDR"], found[0]["MASTER_PORT"])
    }
    assert sorted((env["RANK"], env["LOCAL_RANK"]) for env in found) == [("0", "0"), ("1", "1"), ("2", "0"), ("3", "1")]
    assert {(env["WORLD_SIZE"], env["LOCAL_WORLD_SIZE"]) for env in found} == {("4", "2")}


def test_another_attempt_of_a_job_meets_anew(tmp_path: Path) -> None:
    first = rank_environment(srun(0, 2), tmp_path)
    second = rank_environment(srun(0, 2, SLURM_RESTART_COUNT="1"), tmp_path)
    assert rank_environment(srun(1, 2), tmp_path)["MASTER_PORT"] == first["MASTER_PORT"]
    assert rank_environment(srun(1, 2, SLURM_RESTART_COUNT="1"), tmp_path)["MASTER_PORT"] == second["MASTER_PORT"]


def test_a_task_that_sees_one_gpu_takes_the_first(tmp_path: Path) -> None:
    rank_environment(srun(0, 2), tmp_path)
    assert rank_environment(srun(1, 2, CUDA_VISIBLE_DEVICES="3"), tmp_path)["LOCAL_RANK"] == "0"
    assert rank_environment(srun(1, 2, CUDA_VISIBLE_DEVICES="2,3"), tmp_path)["LOCAL_RANK"] == "1"


def test_the_interface_decides_the_address() -> None:
    assert own_address({}, 2, "lo") == "127.0.0.1"
    assert own_address({"SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"}, 2, None) == "127.0.0.1"
    with pytest.raises(ValueError, match=r"slurm.interface: expected one of .*lo.*, found ib9"):
        own_address({}, 2, "ib9")
    with pytest.raises(ValueError, match="SLURM_PROCID: expected a task started by srun"):
        rank_environment({}, Path())


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10000 <= free_port() < first for _ in range(20))


def test_a_folder_without_a_plan_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the folder of a sweep, found no plan\.json"):
        Folder(tmp_path).points()
