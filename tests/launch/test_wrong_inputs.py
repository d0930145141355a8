"""A user's mistake ends in one line on standard error and exit code 2, never in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run launch/WORDS as a user does."""
    return subprocess.run(
        [sys.executable, f"launch/{words[0]}", *words[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DS_ACCELERATOR": "cpu", **environment},
    )


MISTAKES = {
    "unknown key": (["train.py", "--config", "configs/sample.yaml", "--train.lrr", "1"], "train.lr"),
    "wrong type": (["train.py", "--config", "configs/sample.yaml", "--train.epochs", "many"], "train.epochs"),
    "out of range": (["train.py", "--config", "configs/sample.yaml", "--train.epochs", "0"], "at least 1, found 0"),
    "no such config": (["train.py", "--config", "configs/sampel.yaml"], "did you mean configs/sample.yaml?"),
    "no config word": (["train.py", "--config"], "--config: expected a YAML file"),
    "wrong choice": (["train.py", "--config", "configs/sample.yaml", "--objective.variant", "stp"], "variant"),
    "teacher typo": (["train.py", "--config", "configs/sample.yaml", "--teacher.prompting", "true"], "prompting"),
    "batch arithmetic": (
        ["train.py", "--config", "configs/sample.yaml", "--train.batch_size", "10", "--train.micro_batch_size", "4"],
        "train.batch_size: expected a multiple",
    ),
    "no shards": (["train.py", "--config", "configs/sample.yaml", "--data.shards", "/nowhere"], "launch/pack.py"),
    "no DeepSpeed JSON": (
        ["train.py", "--config", "configs/sample.yaml", "--deepspeed", "zero9.json"],
        "no file zero9.json",
    ),
    "evaluate nothing": (["evaluate.py", "--run", "/nowhere"], "expected a run folder"),
    "baselines of nothing": (["baselines.py", "/nowhere"], "no result.json"),
    "predict without a student": (["predict.py", "--student", "/nowhere", "a text"], "/nowhere"),
    "pack nothing": (["pack.py", "mmsa", "--root", "/nowhere", "--out", "/tmp/never"], "label.csv"),
    "verify nothing": (["verify.py", "/nowhere"], "manifest.json"),
    "report of nothing": (["report.py", "/nowhere", "--out", "/tmp/never"], "/nowhere"),
    "export nothing": (["export.py", "--run", "/nowhere", "--out", "/tmp/never"], "/nowhere"),
    "no such sweep": (["sweep.py", "--sweep", "configs/sweeps/nothing.yaml", "--executor", "debug"], "nothing.yaml"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_says_what_is_wrong(mistake: str) -> None:
    words, expected = MISTAKES[mistake]
    done = command(*words)
    assert done.returncode == 2, (done.returncode, done.stderr)
    last = done.stderr.strip().splitlines()[-1]
    assert expected in last and "Traceback" not in done.stderr, done.stderr


def test_every_command_explains_itself_without_loading_anything_heavy() -> None:
    for path in sorted(Path("launch").glob("[a-z]*.py")):
        probe = (
            "import runpy, sys\n"
            f"sys.argv = ['{path}', '--help']; sys.path.insert(0, 'launch')\n"
            "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "heavy = {'torch', 'deepspeed', 'transformers', 'cv2', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "usage:" in done.stdout, (path, done.stderr)
