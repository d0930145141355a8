"""--help of every command: one voice, one layout, and quick."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from commands import NAMES, ROOT, called

PARTS = {
    "pack": ("csv", "mmsa", "mosei", "mosi", "sample", "sample-events", "vegas"),
    "retrieve": ("index", "query", "export"),
    "bench": ("order", "predict", "serve", "step", "checkpoint", "features", "memory"),
}
PAGES = [(name,) for name in NAMES] + [(name, part) for name, parts in PARTS.items() for part in parts]
HEAVY = {"torch", "deepspeed", "transformers", "cv2", "matplotlib", "sklearn"}


def options(page: str) -> dict[str, str]:
    """What a page says of each option, in one line."""
    found: dict[str, str] = {}
    name = ""
    for line in page.partition("\noptions:\n")[2].splitlines():
        if begun := re.match(r"  (-.*?)(?:  +(\S.*))?$", line):
            name = begun[1]
            found[name] = begun[2] or ""
        elif line.startswith("   ") and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
        else:
            name = ""
    return found


@pytest.fixture(scope="module", params=PAGES, ids=" ".join)
def words(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_page_has_the_layout_of_all_pages(
    words: tuple[str, ...], columns: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = called(capfd, *words, "--help")
    assert found.code == 0 and not found.err
    usage, about, *rest = found.out.split("\n\n")
    assert usage.startswith(f"usage: {words[0]}.py")
    assert about[0].isupper() and about.endswith("."), about
    examples = [part for part in rest if part.startswith("    ")]
    if len(words) == 1:
        assert examples and f"launch/{words[0]}.py" in examples[0], "an example follows the first sentence"
    for line in found.out.splitlines():
        assert len(line) <= 120 and "\x1b" not in line and line == line.rstrip(), line
        if not line.startswith(("    ", "  -", "usage")) and " " in line.strip():
            assert len(line) <= columns, line
    told = options(found.out)
    assert "-h, --help" in told
    for option, text in told.items():
        assert re.match(r"[A-Z`]|[a-z0-9_]+[.:_\d]|null |\S+[A-Z]", text) and text.endswith("."), (option, text)
        if re.search(r" (N|NUMBER|\{.*\})$", option) and option not in WITHOUT_DEFAULT:
            assert "default" in text or option.split()[0] in required(usage), (option, text)


WITHOUT_DEFAULT = {"--table N", "--case {ZeRO-0,ZeRO-1,ZeRO-2, 2 ranks,ZeRO-3, 2 ranks,ZeRO-1, student alone}"}
"""Options that change something only when they are given."""


def required(usage: str) -> set[str]:
    """Options that the usage line has outside of brackets."""
    return set(re.findall(r"--[\w-]+", re.sub(r"\[[^\[\]]*(\[[^\]]*\])?[^\[\]]*\]", "", usage)))


@pytest.mark.parametrize("name", NAMES)
def test_help_loads_nothing_heavy(name: str) -> None:
    probe = (
        "import runpy, sys\n"
        f"sys.argv = ['launch/{name}.py', '--help']; sys.path.insert(0, 'launch')\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"heavy = {HEAVY} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
