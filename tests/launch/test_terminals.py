"""Progress on a narrow terminal, in a pipe, and in a log."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from commands import ROOT, started

from shards import progress

COLUMNS = 40
AT_ONCE = """
import runpy, sys
from pathlib import Path
from shards import progress
progress.DELAY = 0.0
sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A command whose bars appear however quick it is."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of four short clips, one of them broken."""
    import av
    import numpy as np

    root = tmp_path_factory.mktemp("clips")
    rows = ["id,video,text,label,split", "broken,broken.mp4,so so,0,train"]
    (root / "broken.mp4").write_bytes(b"not a video")
    for name in ("a", "b", "c"):
        with av.open(str(root / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for level in range(60, 180, 20):
                picture = np.full((48, 64, 3), level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        rows.append(f"{name},{name}.mp4,so so,1,train")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from student.small_students import made

    return made("bert", tmp_path_factory.mktemp("student"))


def pack(clips: Path, out: Path) -> list[str]:
    return ["pack", "csv", "--root", str(clips), "--out", str(out), "--workers", "1", "--max-rejected", "1"]


def narrow_terminal() -> tuple[int, int]:
    """Our end and the command's end of a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    return ours, theirs


def read(ours: int) -> str:
    """What the terminal was sent, until the other end is closed."""
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that nobody has the other end open
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return shown.decode()


def on_terminal(words: list[str]) -> str:
    ours, theirs = narrow_terminal()
    command = [sys.executable, "-c", AT_ONCE, str(ROOT / "launch" / f"{words[0]}.py"), *words[1:]]
    env = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | {"NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = read(ours)
    assert process.returncode == 0, shown
    return shown


def drawn(shown: str) -> list[str]:
    """Each state of each line of a terminal; without colours."""
    assert "\x1b[3" not in shown and "\x1b[1m" not in shown
    return [re.sub(r"\x1b\[[A-K]", "", part).strip("\n") for part in re.split(r"\r\n|\r", shown)]


def test_packing_on_a_narrow_terminal(clips: Path, tmp_path: Path) -> None:
    lines = drawn(on_terminal(pack(clips, tmp_path / "out")))
    assert any("packing" in line and "4/4" in line for line in lines)
    assert max(map(len, lines)) <= COLUMNS


def test_packing_in_a_pipe_says_nothing_while_it_is_quick(clips: Path, tmp_path: Path) -> None:
    found = started(*pack(clips, tmp_path / "out"))
    assert (found.code, found.err) == (0, "") and "\r" not in found.out and "\x1b" not in found.out


def test_predicting_on_a_narrow_terminal_and_in_a_pipe(student: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("so so\n\n" * 20)
    words = ["predict", "--student", str(student), "--input", str(tmp_path / "texts.txt"), "--output"]
    piped = started(*words, str(tmp_path / "piped.csv"))
    assert piped.code == 1 and "\r" not in piped.err and "\x1b" not in piped.err
    assert piped.err.splitlines()[0] == "line 2: empty text" and len(piped.err.splitlines()) == 11
    (tmp_path / "texts.txt").write_text("so so\n" * 20)
    lines = drawn(on_terminal([*words, str(tmp_path / "shown.csv")]))
    assert any(line.startswith("predicting: ") for line in lines) and lines[-2].startswith("20 texts in")
    assert max(map(len, lines)) <= COLUMNS


def test_bars_keep_within_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    ours, theirs = narrow_terminal()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.Progress("packing", 1000, "clips", done=200) as bar:
            bar.note("last rejected: no sound in this clip")
            bar.update(300)
        with progress.Progress("predicting", 1000, "bytes") as bar:
            bar.note("123,456 texts, 1,234/s")
            bar.update(500)
            bar.say("line 7: cut to 20 tokens")
            bar._bar.refresh()  # it draws twice a second by itself
        terminal.flush()
        monkeypatch.undo()
    lines = drawn(read(ours))
    assert any("500/1000" in line for line in lines) and any("50%" in line for line in lines)
    assert "line 7: cut to 20 tokens" in lines, "a line of its own"
    assert max(map(len, lines)) <= COLUMNS


def test_a_log_gets_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress.Progress("packing", 10_000, "clips", done=200) as bar:
        bar.update(300)
    assert not log.getvalue(), "quick work is silent"
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.Progress("packing", 10_000, "clips", done=200) as bar:
        bar.note("last rejected: black")
        bar.update(300)
    with progress.Progress("checksums", 5_000_000, "bytes") as bar:
        bar.update(2_000_000)
    with progress.Progress("packing", 10, "clips", show=False) as bar:
        bar.update(5)
    first, second = log.getvalue().splitlines()
    assert re.fullmatch(r"packing: 500 of 10,000 clips, [\d,.]+/s, \d+:\d\d:\d\d to go, last rejected: black", first)
    assert re.fullmatch(r"checksums: 2 of 5 MB, [\d,.]+/s, 0:00:\d\d to go", second)
    assert "\r" not in log.getvalue() and "\x1b" not in log.getvalue()
