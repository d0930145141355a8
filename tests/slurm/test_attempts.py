"""The rules by which a point is started, tried again, or given up, without any Slurm."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from slurm.alive import RunningLock
from slurm.attempt import IDLE_LIMIT, Ending, claim, settle
from slurm.folder import Folder, write_json, write_text
from slurm.launch import _lost, reconcile
from slurm.record import changing, read_record

NAME = "a_seed-1"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "sweep")


def started(folder: Folder, job: str = "7_0", alive: bool = False) -> bool:
    return claim(folder, NAME, job, "n1", "code", lambda other: alive)


def checkpoint(folder: Folder, step: int) -> None:
    write_text(folder.run(NAME) / "checkpoints" / "latest", f"step-{step}")


def finish(folder: Folder) -> None:
    write_json(folder.run(NAME) / "result.json", {"state": "finished"})


def test_a_point_belongs_to_one_job_at_a_time(folder: Folder) -> None:
    assert started(folder, "7_0")
    assert not started(folder, "8_0", alive=True)
    assert started(folder, "8_0", alive=False)
    assert settle(folder, NAME, "7_0", Ending(code=1), retries=2) == "leave"


def test_a_finished_point_is_never_started_again(folder: Folder) -> None:
    assert started(folder)
    finish(folder)
    assert settle(folder, NAME, "7_0", Ending(code=0), retries=2) == "over"
    assert read_record(folder, NAME).state == "finished"
    assert not started(folder)
    assert not started(folder, "8_0")


def test_a_save_on_a_signal_is_no_error(folder: Folder) -> None:
    for step in (10, 20, 30):
        assert started(folder)
        checkpoint(folder, step)
        assert settle(folder, NAME, "7_0", Ending(code=0, told="preempted"), retries=0) == "again"
    record = read_record(folder, NAME)
    assert (record.errors, record.idle, record.attempts, record.step) == (0, 0, 3, 30)


def test_a_signal_before_a_rank_can_handle_it_is_no_error(folder: Folder) -> None:
    assert started(folder)
    assert settle(folder, NAME, "7_0", Ending(code=128 + signal.SIGUSR2, told="time limit"), retries=0) == "again"
    assert started(folder)
    folder.note(NAME, "stopped-1").touch()
    assert settle(folder, NAME, "7_0", Ending(code=137, told="time limit"), retries=0) == "again"
    assert read_record(folder, NAME).errors == 0


def test_errors_are_bounded_and_kept(folder: Folder) -> None:
    verdicts = []
    for _ in range(3):
        assert started(folder)
        write_text(folder.note(NAME, "error-0"), "Traceback ...\nRuntimeError: broken\n")
        verdicts.append(settle(folder, NAME, "7_0", Ending(code=1), retries=2))
    assert verdicts == ["again", "again", "over"]
    record = read_record(folder, NAME)
    assert (record.state, record.error) == ("failed", "RuntimeError: broken")
    assert "Traceback" in record.history[0]["error"]
    assert not started(folder)


def test_an_attempt_that_got_further_starts_a_new_count(folder: Folder) -> None:
    for step in (10, 20, 30, 40):
        assert started(folder)
        checkpoint(folder, step)
        assert settle(folder, NAME, "7_0", Ending(code=137), retries=1) == "again"
    assert read_record(folder, NAME).errors == 1
    assert started(folder)
    assert settle(folder, NAME, "7_0", Ending(code=137), retries=1) == "over"
    assert read_record(folder, NAME).error == "killed by SIGKILL"


def test_stops_without_progress_do_not_go_on_for_ever(folder: Folder) -> None:
    for _ in range(IDLE_LIMIT):
        assert started(folder)
        assert settle(folder, NAME, "7_0", Ending(code=0, told="preempted"), retries=0) == "again"
    assert started(folder)
    assert settle(folder, NAME, "7_0", Ending(code=0, told="preempted"), retries=0) == "over"
    assert "without a newer checkpoint" in read_record(folder, NAME).error


def test_an_attempt_whose_end_nobody_saw_is_noted_by_the_next(folder: Folder) -> None:
    assert started(folder)
    checkpoint(folder, 4)
    assert started(folder)
    (entry,) = read_record(folder, NAME).history
    assert entry["cause"].startswith("lost") and entry["step"] == 4


def test_a_cancelled_point_stays_cancelled(folder: Folder) -> None:
    assert started(folder)
    with changing(folder, NAME) as record:
        record.state = "cancelled"
    assert settle(folder, NAME, "7_0", Ending(code=0), retries=2) == "over"
    assert read_record(folder, NAME).state == "cancelled"
    assert not started(folder)


def test_a_job_that_is_taken_away_is_not_put_back(folder: Folder) -> None:
    assert started(folder)
    assert settle(folder, NAME, "7_0", Ending(code=143, removed=True), retries=2) == "leave"
    assert read_record(folder, NAME).state == "queued"


def test_the_log_tells_why_a_run_stopped_by_itself(folder: Folder) -> None:
    assert started(folder)
    log = folder.log("7_0", NAME, 1)
    write_text(folder.log("7_0", NAME, 0), "epoch 1\nsrun: error: task 1: Exited with exit code 3\n")
    write_text(log, "epoch 1\nstopped: step 8 has non-finite numbers in text_mse\nleaving\n")
    settle(folder, NAME, "7_0", Ending(code=3), retries=0)
    error = read_record(folder, NAME).error
    assert error == "stopped by itself: step 8 has non-finite numbers in text_mse"


def test_a_vanished_local_process_leaves_its_point_waiting(folder: Folder) -> None:
    assert started(folder, "local-1")
    _lost(folder, NAME, "local-1", retries=0)
    record = read_record(folder, NAME)
    assert (record.state, record.errors) == ("waiting", 0)


def test_a_point_is_not_free_before_its_last_process_is_gone(folder: Folder) -> None:
    lock = RunningLock(folder, NAME)
    assert lock.acquire() and started(folder, "local-1")
    with changing(folder, NAME) as record:
        record.state = "waiting"  # cancelled, and resumed at once
    assert reconcile(folder, [NAME], retries=0) == []
    lock.close()
    assert reconcile(folder, [NAME], retries=0) == [NAME]


def test_records_are_replaced_in_one_step(folder: Folder) -> None:
    with changing(folder, NAME) as record:
        record.attempts = 1
    with pytest.raises(RuntimeError), changing(folder, NAME) as record:
        record.attempts = 2
        raise RuntimeError
    assert json.loads(folder.state(NAME).read_text())["attempts"] == 1
