"""launch/report.py as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import made_runs

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "launch" / "report.py")]


def call(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=300)


def test_one_table_is_written_and_printed(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "runs" / "step")
    made_runs.write_run(tmp_path / "runs" / "none", settings={"objective.variant": "none"})
    made_runs.write_run(tmp_path / "runs" / "torn", finished=False)
    done = call(tmp_path / "runs", "--out", tmp_path / "out", "--table", 10)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("**Table 10.** Distillation losses, sample\n")
    assert done.stderr.splitlines() == [
        "runs/torn: not counted: no result.json: not finished, or it failed (at step 90 of epoch 3)"
    ]
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == [f"tables/table-10-sample.{ending}" for ending in ("csv", "md", "tex")]


def test_mistakes_end_in_one_line_and_exit_code_2(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "run")
    for words, message in [
        ([tmp_path / "none", "--out", tmp_path / "o"], "found nothing there"),
        ([tmp_path / "run", "--out", tmp_path / "o", "--table", 3], "--table: expected one of 2, 4, 5"),
        ([tmp_path / "run", "--out", tmp_path / "o", "--shards", tmp_path / "none"], "manifest"),
    ]:
        done = call(*words)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 and message in done.stderr, done.stderr


def test_the_whole_report(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "run")
    done = call(tmp_path / "run", "--out", tmp_path / "out", "--clips", 5)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "index.html").stat().st_size > 50_000
    assert (tmp_path / "out" / "figures" / "label-distribution.svg").is_file()
    assert (tmp_path / "out" / "tables" / "table-02-sample.tex").is_file()
    assert done.stdout.splitlines()[-1].endswith("out/index.html")
