"""`launch/predict.py`: records in, one row per record out."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.progress import Progress
from vadv.student.background import eager_windows, windows
from vadv.student.engines import choose_engine
from vadv.student.folder import Student, open_student
from vadv.student.predictor import WINDOW, Predictor
from vadv.student.readers import Format, Record, Source, from_arguments
from vadv.student.writers import Journal, OutputFormat, Rows

CHARACTERS = 8 * 2**20
"""Characters of text in a window: with lines of 1 MB it closes long before it has its number of texts."""
REMARKS = 10
"""Lines named on standard error, of each kind; the rows themselves say it always."""


@dataclass(kw_only=True)
class Options:
    """What a person can choose."""

    student: str
    texts: list[str]
    input: str | None = None
    input_format: Format | None = None
    column: str = "text"
    delimiter: str | None = None
    encoding: str = "utf-8"
    output: str | None = None
    format: OutputFormat | None = None
    field: str = "sentiment"
    resume: bool = False
    engine: str = "auto"
    threads: int | None = None
    max_tokens: int | None = None
    window: int = WINDOW

    def __post_init__(self) -> None:
        if self.texts == ["-"] and not self.input:
            self.texts, self.input = [], "-"
        if bool(self.texts) == bool(self.input):
            found = "several of them" if self.texts else "none"
            raise ValueError(f"expected texts, or --input FILE, or - for standard input: one of them, found {found}")
        if self.resume and (not self.output or not self.input or self.input == "-"):
            raise ValueError("--resume: expected --input FILE and --output FILE, found another input or output")
        if self.output and self.input and _same(self.output, self.input):
            raise ValueError(f"--output: expected another file than the input, found {self.output}")
        for option, value in (("--window", self.window), ("--threads", self.threads)):
            if value is not None and value < 1:
                raise ValueError(f"{option}: expected at least 1, found {value}")
        if self.format is None:
            self.format = "csv" if (self.output or "").lower().endswith(".csv") else "jsonl"


@dataclass
class Summary:
    """What was done."""

    rows: int = 0
    cut: int = 0
    unscored: int = 0


def predict(options: Options) -> Summary:
    """Score every record of the input.

    Raises:
        ValueError, OSError: wrong options or input; nothing was written, or `resume` goes on.
    """
    assert options.format is not None
    source = None
    if options.input:
        source = Source(
            options.input,
            format=options.input_format,
            column=options.column,
            delimiter=options.delimiter,
            encoding=options.encoding,
        )
    student = open_student(options.student, options.max_tokens)
    columns = source.columns if source and source.format == "csv" else []
    if not columns and options.format == "csv":
        # Rows of a JSON file have their own keys each: a csv holds the text alone.
        columns = [options.column if source and source.format == "jsonl" else "text"]
    rows = Rows(options.format, columns, options.field)
    journal = None
    if options.output:
        journal = Journal(options.output, _identity(options, student), resume=options.resume, header=rows.header())
        if journal.complete:
            print(f"{options.output} is complete: nothing to do", file=sys.stderr)
            return Summary()
    else:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        sys.stdout.write(rows.header())
    write: Callable[[str, int], Any] = journal.write if journal else _to_stdout
    summary = Summary(rows=journal.rows if journal else 0)
    predictor = Predictor(student, choose_engine(student, options.engine), options.threads)
    records = source.records() if source else from_arguments(options.texts)
    records = itertools.islice(records, summary.rows, None)
    sized = source if source and source.size else None
    with Progress("predicting", sized.size, "bytes") if sized else Progress("predicting", 0, "texts") as progress:
        remarks = _Remarks(student.max_tokens, progress.say)
        before, started, read = summary.rows, time.monotonic(), 0
        for window, values, cuts in predictor.stream(_windows(records, source, options.window), _texts):
            lines = []
            for record, value, cut in zip(window, values.tolist(), cuts.tolist()):
                line = rows.row(record, value, remarks.cut if cut else None)
                lines.append(line)
                if record.problem:
                    summary.unscored += 1
                    remarks.say(record.problem, "unscored")
                elif cut:
                    summary.cut += 1
                    remarks.say(f"line {record.line}: {remarks.cut}", "cut")
            write("".join(lines), len(lines))
            summary.rows += len(lines)
            if sized:
                rate = (summary.rows - before) / max(time.monotonic() - started, 1e-9)
                progress.note(f"{summary.rows:,} texts, {rate:,.0f}/s")
                at = sized.position()
                progress.update(at - read)
                read = at
            else:
                progress.update(len(lines))
    if journal:
        journal.finish()
    return summary


def _windows(records: Iterator[Record], source: Source | None, size: int) -> Iterator[list[Record]]:
    group = eager_windows if source and source.streaming else windows
    return group(records, size, lambda record: len(record.text) + 64, CHARACTERS)


def _texts(window: list[Record]) -> list[str]:
    return [record.text for record in window]


def _to_stdout(text: str, rows: int) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _same(one: str, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def _identity(options: Options, student: Student) -> dict[str, Any]:
    """What the rest of an interrupted output depends on."""
    path = Path(options.input or "")
    weights = sorted((f.name, f.stat().st_size, f.stat().st_mtime) for f in student.path.glob("model*"))
    return {
        "input": f"{path.name} of {path.stat().st_size} bytes" if options.input not in (None, "-") else "",
        "student": str(student.path.resolve()),
        "weights": str(weights),
        "max_tokens": student.max_tokens,
        "column": options.column,
        "delimiter": options.delimiter,
        "encoding": options.encoding,
        "format": options.format,
        "field": options.field,
        "engine": options.engine,
        "window": options.window,
    }


class _Remarks:
    """Says what happened to a line, the first few times."""

    def __init__(self, limit: int, say: Callable[[str], None]) -> None:
        self.cut = f"cut to {limit} tokens"
        self._say, self._said = say, dict[str, int]()

    def say(self, remark: str, kind: str) -> None:
        said = self._said[kind] = self._said.get(kind, 0) + 1
        if said <= REMARKS:
            self._say(remark + ("; further ones are only counted" if said == REMARKS else ""))


def say(summary: Summary, started: float) -> str:
    """The closing line."""
    seconds = time.monotonic() - started
    parts = [f"{summary.rows:,} texts in {seconds:.1f} s"]
    if summary.cut:
        parts.append(f"{summary.cut:,} cut to the student's limit")
    if summary.unscored:
        parts.append(f"{summary.unscored:,} without a number (sentiment null, the note says why)")
    return "; ".join(parts)
