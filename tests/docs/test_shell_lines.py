"""Shell lines of README, docs/ and --help: each is understood by the command that it starts.

A line of launch/ goes through the command's own parser, so that a renamed option, choice or file of configs/ fails here.
Nothing is computed, so lines that need GPUs, a cluster or data are checked too. Those that need none of these are run by
tests/docs/test_shell_lines_run.py.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from importlib.metadata import metadata
from typing import Any

import pytest
from shell_lines import PAGES, ROOT, SHELL, pieces, read, uncommented

COMMANDS = sorted((ROOT / "launch").glob("[a-z]*.py"))
INVENTED = {"pairs", "rkd", "face-alone"}
"""Parts that docs/extend.md has its reader write; tests/docs/test_extend.py puts them in place and runs them."""


def found() -> list[tuple[str, str]]:
    lines = [(line.page, line.command) for path in PAGES for line in read(path)]
    for path in COMMANDS:
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines += [(path.name, uncommented(line)) for is_code, line in pieces(about) if is_code and SHELL.match(line)]
    return sorted({(page, line) for page, line in lines if not INVENTED & set(line.split())})


LINES = found()


class Understood(Exception):
    """Raised once a command has parsed its words, in place of what it would do."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command stop after parsing."""
    monkeypatch.syspath_prepend(ROOT / "launch")
    import _command

    from vadv import config_file

    def stop(function: Any) -> Any:
        def parse(*words: Any, **options: Any) -> None:
            raise Understood(function(*words, **options))

        return parse

    monkeypatch.setattr(_command.Parser, "parse_args", stop(_command.Parser.parse_args))
    monkeypatch.setattr(config_file, "parse", stop(config_file.parse))
    monkeypatch.chdir(ROOT)


def check(line: str) -> None:
    """Refuse a line whose command, options or files do not exist."""
    words = [re.sub(r"\$\{?\w+\}?", "1", word) for word in shlex.split(line)]
    for word in words:
        if re.match(r"(configs|tests|docs|launch)/[\w./-]+$", word):
            assert (ROOT / word).exists(), word
    at = next((place for place, word in enumerate(words) if re.fullmatch(r"launch/\w+\.py", word)), None)
    if at is not None:
        launched(words[at:])
    elif words[0] == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), words
    elif words[:2] == ["pip", "install"]:
        extras = metadata("videoadviser").get_all("Provides-Extra") or []
        for extra in re.findall(r"\[(.*?)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(extras), extra
    for inner in (part for word in words if " " in word for part in word.splitlines()):
        if "launch/" in inner:
            check(inner.strip())


def launched(words: list[str]) -> None:
    """Parse `launch/NAME.py …` as the command does."""
    until = next((place for place, word in enumerate(words) if word in ("|", "&&", ">")), len(words))
    argv, sys.argv = sys.argv, [os.fspath(ROOT / words[0]), *words[1:until]]
    try:
        with pytest.raises((Understood, SystemExit)) as end:
            runpy.run_path(sys.argv[0], run_name="__main__")
        assert end.type is Understood or (end.value.code == 0 and "--help" in words), words
    finally:
        sys.argv = argv


def test_lines_are_found() -> None:
    """A pattern that stops matching must not look like success."""
    assert len(LINES) > 100
    named = {name for _, line in LINES for name in re.findall(r"launch/(\w+)\.py", line)}
    assert named == {path.stem for path in COMMANDS}
    starts = {SHELL.match(line)[2] for _, line in LINES}  # type: ignore[index]
    assert {"python", "deepspeed", "torchrun", "srun", "sbatch", "make", "pip"} <= starts


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_a_line_is_understood(parsed: None, page: str, line: str) -> None:
    check(line)


@pytest.mark.parametrize(
    "line",
    [
        "python launch/predict.py --students runs/sample/student text",
        "python launch/train.py --config configs/mosy.yaml",
        "deepspeed launch/train.py --config configs/mosi.yaml --train.learning_rate 1",
        "sbatch --wrap 'python launch/sweep.py --swep configs/sweeps/table2.yaml'",
        "make trian",
        "pip install 'videoadviser[server]'",
    ],
)
def test_a_wrong_line_is_found(parsed: None, line: str) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        check(line)


@pytest.mark.parametrize("line", sorted({line for _, line in LINES if "--plan" in line}))
def test_a_plan_is_made(line: str) -> None:
    """Parsing alone does not see a batch that cannot be spread over the GPUs."""
    words = shlex.split(line)
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
