"""A reader with two cores and no network runs every unmarked shell line of the pages, in reading order, in a fresh copy.

Each line has to end as its page promises. What a page leaves to its reader stands in the tables below: names in capitals,
what an earlier line that needs a GPU or a cluster would have left, and, for measurements of minutes and more, smaller sizes.
An installing line (`pip install …`) runs without an index: it is content where all is there, as `make env` leaves it.
"""

from __future__ import annotations

import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from lines_to_run import to_run
from reader import Running, environment, fresh_copy, furnish, running
from shell_lines import Line

NAMES = {"RUN": "runs/sample", "CLIP_ID": "event-00430"}
"""What a reader puts in place of names in capitals."""

BEFORE = {
    "python launch/predict.py --student runs/mine/student --input texts.csv": "cp -r runs/sample runs/mine",
    "python launch/sweep.py --status runs/table10": "python launch/sweep.py --sweep small/table10.yaml --executor local",
    "python launch/report.py runs/table10 runs/table6 --out report": "python launch/sweep.py --sweep small/table6.yaml --executor local",
}
"""What stands for lines that need a GPU or a cluster: the sample's run, and sweeps of a few steps on the sample."""

TINY = "--clip configs/clip/tiny.json --student tiny-roberta"
SMALLER = {
    "python launch/bench.py pipeline --repeats 3": "--clips 8 --epochs 2",
    "python launch/bench.py step --clips 4 --steps 10": f"{TINY} --clips 2 --steps 4",
    "python launch/bench.py step --clips 4 --steps 10 --deepspeed configs/deepspeed/zero0.json": f"{TINY} --clips 2 --steps 4",
    "python launch/bench.py features": f"{TINY} --records 8",
    "python launch/bench.py features --deepspeed configs/deepspeed/zero0.json --clips 4": f"{TINY} --records 8",
    "python launch/bench.py checkpoint --clip ViT-L-14 --student roberta-large --clips 4": TINY,
    "python launch/bench.py memory": TINY,
    "python launch/bench.py scaling --clips 16": "--steps 5 --repeats 1",
    "python launch/bench.py peers": "--steps 10 --repeats 1",
    "python launch/bench.py start": "--repeats 1",
    "python launch/bench.py start --cold": "--repeats 1",
    "python launch/bench.py serve --student runs/sample/student": "--requests 200",
    "python docs/experiments/face_tells.py --seeds 5 --out face_tells.json": "--seeds 1 --cases none --lrs 1e-4",
}
"""Options behind measurements that take minutes at the sizes of the page; the last of equal options counts."""

STAYS = {
    "python launch/serve.py --student RUN/student": ("127.0.0.1:8000", signal.SIGTERM, 0),
    "tail -f chat.log | python launch/predict.py --student RUN/student -": ('"sentiment"', signal.SIGINT, None),
}
"""Lines that do not end by themselves: what they say once they are at work, the signal that ends them when their page is
over, and the exit code then, where the page promises one. The line after `serve` asks it."""

ANSWERS = {line.command: '"predictions"' for line in to_run() if line.command.startswith("curl")}
"""What has to stand in the output, where an exit code of 0 does not tell."""

SECONDS = {"make train": 3600, "make train-vegas": 1800}
"""Until a line is taken to hang, on a machine with other work; 900 for others."""


def words(line: Line) -> str:
    """What the reader types."""
    typed = line.command
    for name, meant in NAMES.items():
        typed = re.sub(rf"\b{name}\b", meant, typed)
    return f"{typed} {SMALLER.get(line.command, '')}".strip()


class Reader:
    """Follows lines and notes those that did not end as promised."""

    def __init__(self, folder: Path, copy: Path) -> None:
        self.folder, self.copy = folder, copy
        self.env = environment(folder, copy)
        self.failures: list[str] = []
        self.page = ""
        self.kept = ExitStack()
        """What stays until the page is over."""

    def follow(self, line: Line) -> None:
        """Run a line, and before it what it stands on."""
        if line.page != self.page:
            self.kept.close()
            self.page = line.page
        if line.command in BEFORE:
            self.run(line, BEFORE[line.command])
        if line.command in STAYS:
            self.keep(line)
        else:
            self.run(line, words(line))

    def run(self, line: Line, typed: str) -> None:
        """To its end."""
        start = time.monotonic()
        with running(typed, self.copy, self.env, self.folder / "line.log") as started:
            code = started.ended(SECONDS.get(line.command, 900))
        print(f"{time.monotonic() - start:7.1f} s  {line.page}: {typed}", flush=True)
        if code != 0:
            self.note(line, typed, "did not end" if code is None else f"ended with {code}", started)
        elif ANSWERS.get(line.command, "") not in started.output():
            self.note(line, typed, f"never said {ANSWERS[line.command]}", started)

    def keep(self, line: Line) -> None:
        """Start a line, see it at work, and leave it running until the page is over."""
        said, *_ = STAYS[line.command]
        log = self.folder / f"stays-{list(STAYS).index(line.command)}.log"
        started = self.kept.enter_context(running(words(line), self.copy, self.env, log))
        self.kept.callback(self.stop, line, started)
        if not started.says(said, 120):
            self.note(line, words(line), f"never said {said}", started)

    def stop(self, line: Line, started: Running) -> None:
        """As its user does."""
        _, number, promised = STAYS[line.command]
        started.signal(number)
        code = started.ended(60)
        if code is None or promised not in (None, code):
            self.note(line, words(line), f"ended with {code} at {number.name}", started)

    def note(self, line: Line, typed: str, what: str, started: Running) -> None:
        last = "\n".join(f"    {row[:300]}" for row in started.output().splitlines()[-8:])
        self.failures.append(f"{line.page}: {typed}\n  {what}:\n{last}")


def test_tables_speak_of_lines_that_are_run() -> None:
    """A line that was changed must not leave its entry behind."""
    run = [line.command for line in to_run()]
    assert {*BEFORE, *SMALLER, *STAYS, *SECONDS} <= set(run)
    assert all(any(name in re.split(r"\W", command) for command in run) for name in NAMES)


@pytest.mark.slow
def test_every_unmarked_line_ends_as_promised(tmp_path: Path) -> None:
    copy = fresh_copy(tmp_path)
    furnish(copy)
    reader = Reader(tmp_path, copy)
    with reader.kept:
        for line in to_run():
            reader.follow(line)
    assert not reader.failures, "\n\n".join([f"{len(reader.failures)} lines failed", *reader.failures])
