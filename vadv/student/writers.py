"""Rows out: JSON lines or csv, in input order; to standard output or to a file that an interrupted run goes on with."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

from vadv.student.readers import Record

OutputFormat = Literal["jsonl", "csv"]


class Rows:
    """Formats records and their predictions."""

    def __init__(self, format: OutputFormat, columns: Sequence[str], field: str) -> None:
        """Decide the columns.

        Args:
            format: jsonl or csv.
            columns: the input's columns; empty when each row has its own (jsonl) or none (txt).
            field: name of the prediction's column; remarks go to FIELD_note.

        Raises:
            ValueError: the input has a column of that name.
        """
        self.format, self.field, self.note = format, field, f"{field}_note"
        self._columns = list(columns)
        self._refuse(self._columns, "the input")

    def header(self) -> str:
        """The first line of a csv; nothing for jsonl."""
        return self._csv([*self._columns, self.field, self.note]) if self.format == "csv" else ""

    def row(self, record: Record, value: float, cut: str | None) -> str:
        """A finished line.

        Args:
            record: the input's row.
            value: the prediction.
            cut: a remark when the text was cut.
        """
        number = None if record.problem or not math.isfinite(value) else round(float(value), 6)
        note = record.problem or (cut if number is not None else "the model gave a number that is not finite")
        if self.format == "csv":
            cells = [_cell(record.fields.get(name)) for name in self._columns]
            return self._csv([*cells, "" if number is None else number, note or ""])
        self._refuse(record.fields, f"line {record.line}")
        row = {**record.fields, self.field: number}
        if note:
            row[self.note] = note
        return json.dumps(row, ensure_ascii=False) + "\n"

    def _refuse(self, names: Any, where: str) -> None:
        for name in (self.field, self.note):
            if name in names:
                raise ValueError(f"{where}: expected no column {name}, found one; name the prediction with --field")

    def _csv(self, cells: list[Any]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        return line.getvalue()


def _cell(value: Any) -> Any:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


class Journal:
    """An output file and, beside it until it is complete, OUT.resume.json: how far it got and what it was made from.

    After each window the rows are on disk before the journal says so; whatever follows the last noted byte is cut off
    when the run goes on. Windows start at the same rows then, so the file comes out as if never interrupted.
    """

    def __init__(self, path: str, identity: dict[str, Any], *, resume: bool, header: str) -> None:
        """Start the file, or go on with it.

        Args:
            path: the output file.
            identity: what must be the same for the rest to fit: input, student, options.
            resume: go on where an interrupted run stopped; a file that is complete is left as it is.
            header: the first line of a new file.

        Raises:
            ValueError: the file is an interrupted run's and `resume` is false, or it was made from something else.
        """
        self._path, self._notes = Path(path), Path(path + ".resume.json")
        if self._path.exists() and not self._path.is_file():
            raise ValueError(f"--output {path}: expected a file; leave it out to write to standard output")
        self._identity = identity
        self.rows, self.complete = 0, False
        """Rows already there, and whether nothing is left to do."""
        if self._notes.exists():
            self._take_up(resume)
        elif resume and self._path.exists():
            self.complete = True
        else:
            self._file: IO[bytes] = self._path.open("wb")
            self.write(header, 0)

    def _take_up(self, resume: bool) -> None:
        if not resume:
            raise ValueError(
                f"{self._path}: an interrupted run's output; go on with --resume, or delete {self._notes} to start anew"
            )
        try:
            found = json.loads(self._notes.read_text(encoding="utf-8"))
            rows, size, identity = int(found["rows"]), int(found["bytes"]), dict(found["identity"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._notes}: expected a journal, found {error}; delete it to start anew") from error
        for key, value in self._identity.items():
            if identity.get(key) != value:
                raise ValueError(
                    f"{self._path}: expected to go on with {key} {identity.get(key)}, found {value}; "
                    f"use the same, or delete {self._notes} to start anew"
                )
        if not self._path.exists() or self._path.stat().st_size < size:
            raise ValueError(
                f"{self._path}: expected at least {size} bytes, found less; delete {self._notes} to start anew"
            )
        self._file = self._path.open("r+b")
        self._file.truncate(size)
        self._file.seek(size)
        self.rows = rows

    def write(self, text: str, rows: int) -> None:
        """Append finished lines, `rows` of them."""
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows += rows
        notes = {"rows": self.rows, "bytes": self._file.tell(), "identity": self._identity}
        temporary = self._notes.with_name(self._notes.name + ".tmp")
        temporary.write_text(json.dumps(notes, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self._notes)

    def finish(self) -> None:
        """The file is complete."""
        self._file.close()
        self._notes.unlink()
