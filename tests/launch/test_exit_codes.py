"""Exit codes are those that docs/commands.md lists, wherever they are written."""

from __future__ import annotations

import re

import pytest
from commands import ROOT

from slurm import attempt, job
from vadv.training import run as training

CODES = ("FINE", "NOT_FINE", "WRONG_USE", "STOPPED", "PREEMPTED", "INTERRUPTED")


def test_the_page_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "launch")
    import _command

    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    assert listed == [getattr(_command, name) for name in CODES]
    assert (training.FINISHED, training.STOPPED, training.PREEMPTED) == (
        _command.FINE,
        _command.STOPPED,
        _command.PREEMPTED,
    )
    assert (attempt.WRONG_USE, job.SAVED) == (_command.WRONG_USE, _command.PREEMPTED)
