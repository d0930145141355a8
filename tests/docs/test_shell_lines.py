"""Shell lines of README, docs/ and --help: each is understood by the command that it starts.

A line of launch/ goes through the command's own parser, so that a renamed option, choice or file of configs/ fails here.
Nothing is computed: the lines need GPUs, a cluster, data or time. What is light runs elsewhere: the README's first commands
in tests/student and tests/report, the packing examples in tests/shards/test_pack_docs.py, sweeps in tests/slurm.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted((ROOT / "launch").glob("[a-z]*.py"))
INVENTED = {"pairs", "rkd", "face-alone"}
"""Parts that docs/extend.md has its reader write; tests/docs/test_extend.py puts them in place and runs them."""
SHELL = re.compile(r"(\w+=\S+ )*(python|deepspeed|torchrun|srun|sbatch|make|pytest|pip|tail|curl)\b")


def blocks(page: str) -> Iterator[str]:
    """Lines of indented and fenced code, those that end in a backslash or an open quote joined with the next."""
    fenced, whole = False, ""
    for line in page.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            whole += line.strip()
            if whole.endswith("\\"):
                whole = whole[:-1]
            elif SHELL.match(whole) and uncommented(whole).count("'") % 2:
                whole += "\n"
            else:
                yield whole
                whole = ""


def uncommented(line: str) -> str:
    """Without the remark behind it: after a # or, in docstrings, after several blanks."""
    return "\n".join(re.split(r"\s{2,}|\s#\s", part.strip())[0] for part in line.split("\n"))


def spans(page: str) -> Iterator[str]:
    """Whole commands in running text, not patterns such as `--logs SWEEP [--point NAME]`."""
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)):
        if not re.search(r"[\[…|]", span):
            yield span


def shell_lines() -> list[tuple[str, str]]:
    found = []
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        found += [(path.name, uncommented(line)) for line in [*blocks(page), *spans(page)] if SHELL.match(line)]
    for path in COMMANDS:
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found += [(path.name, uncommented(line)) for line in blocks(about) if SHELL.match(line)]
    return sorted({(page, line) for page, line in found if not INVENTED & set(line.split())})


LINES = shell_lines()


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
