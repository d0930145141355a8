"""Texts from arguments, txt, csv, jsonl and standard input, one record at a time.

Whatever a line holds, it gives exactly one record: the output has as many rows as the input, in the same order. What
cannot be scored (not valid in the encoding, NUL bytes, broken JSON, too long a line, nothing in it) carries a
`problem` instead of stopping ten million other lines.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

Format = Literal["txt", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = ("txt", "csv", "jsonl")
MAX_LINE = 16 * 2**20
"""Characters of a line (csv: of a cell) that are kept; the rest of a longer line is read and dropped."""


class Record(NamedTuple):
    """One row of the input."""

    line: int
    """Its line number in the file, from 1 (the last line, for a csv row of several); its number, for arguments."""
    text: str
    """What is scored; empty when there is a problem."""
    fields: dict[str, Any]
    """The row as it came in, the text among it: what the output repeats."""
    problem: str | None = None
    """Why the row cannot be scored."""


class Source:
    """An input: its records, its columns, and how far it was read."""

    def __init__(
        self,
        path: str,
        *,
        format: Format | None = None,
        column: str = "text",
        delimiter: str | None = None,
        encoding: str = "utf-8",
    ) -> None:
        """Open a file, or standard input for `-`.

        Args:
            path: FILE.txt, .csv, .tsv, .jsonl, each also with .gz; `-` is standard input.
            format: how to read it; default: by the file's name, txt for standard input.
            column: csv column or jsonl key that holds the text.
            delimiter: csv's separator; default: tab for .tsv, else comma.
            encoding: of the file.

        Raises:
            ValueError: unknown format or encoding.
            OSError: the file cannot be opened.
        """
        self.path, self.column, self.encoding = path, column, encoding
        self.streaming = path == "-"
        """Records may arrive slowly: answer those that are there rather than wait for more."""
        name = "stdin.txt" if self.streaming else path.lower().removesuffix(".gz")
        suffix = Path(name).suffix.removeprefix(".")
        self.format = format or cast(Format, {"tsv": "csv", "ndjson": "jsonl", "text": "txt"}.get(suffix, suffix))
        if self.format not in FORMATS:
            raise ValueError(
                f"{path}: expected a name ending in .txt, .csv, .tsv or .jsonl, found {suffix or 'no suffix'}; "
                f"say what it is with --input-format {'|'.join(FORMATS)}"
            )
        if delimiter is not None and len(delimiter) != 1:
            raise ValueError(f"--delimiter: expected one character, found {delimiter!r}")
        self.delimiter = delimiter or ("\t" if suffix == "tsv" else ",")
        if self.streaming:
            if sys.stdin is None:
                raise ValueError("-: expected an open standard input, found it closed")
            # A duplicate: should this read still block when the process ends, the interpreter need not wait for it.
            self._raw: IO[bytes] = open(os.dup(sys.stdin.fileno()), "rb")  # noqa: SIM115, PTH123
            self.size = 0
        else:
            self._raw = Path(path).open("rb")  # noqa: SIM115
            self.size = os.fstat(self._raw.fileno()).st_size
        stream = gzip.open(self._raw) if path.lower().endswith(".gz") else self._raw  # noqa: SIM115
        # Bytes that are not of the encoding become lone surrogates: found in the row, they do not stop the file.
        codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        try:
            self._text = io.TextIOWrapper(cast(IO[bytes], stream), codec, "surrogateescape", newline="\n")
        except LookupError as error:
            raise ValueError(f"--encoding: expected a name that Python knows, found {encoding}") from error
        self.columns = self._header() if self.format == "csv" else []
        """csv: the column names."""

    def position(self) -> int:
        """Bytes of the file read so far; may be asked from another thread than the one that reads."""
        try:
            return 0 if self.streaming else self._raw.tell()
        except ValueError:  # read to its end and closed
            return self.size

    def records(self) -> Iterator[Record]:
        """Every row of the input, in order. Can be walked once.

        Raises:
            ValueError: the file is not of its format in a way that leaves no rows to find.
        """
        with self._text:
            try:
                yield from {"txt": self._txt, "csv": self._csv, "jsonl": self._jsonl}[self.format]()
            except UnicodeError as error:  # encodings whose faults cannot be put off (utf-16)
                raise ValueError(f"{self.path}: expected {self.encoding}, found {error}") from error
            except (EOFError, gzip.BadGzipFile) as error:
                raise ValueError(f"{self.path}: expected a whole gzip file, found {error}") from error
            except csv.Error as error:
                raise ValueError(
                    f"{self.path}: line {self._rows.line_num}: expected csv, found {error}; is a quote left open?"
                ) from error

    def _lines(self) -> Iterator[tuple[int, str, bool]]:
        """(line number, text without its line end, whether it was too long)."""
        number = 0
        while line := self._text.readline(MAX_LINE):
            number += 1
            long = len(line) == MAX_LINE and not line.endswith("\n")
            if long:
                while (rest := self._text.readline(MAX_LINE)) and not rest.endswith("\n"):
                    pass
                line = line[:100]
            yield number, line.rstrip("\r\n"), long

    def _txt(self) -> Iterator[Record]:
        for number, line, long in self._lines():
            yield _record(number, line, {"text": line}, TOO_LONG if long else None)

    def _jsonl(self) -> Iterator[Record]:
        for number, line, long in self._lines():
            problem, row = TOO_LONG if long else None, None
            if not problem:
                try:
                    row = json.loads(line, parse_constant=_null) if line.strip() else {}
                except (ValueError, RecursionError) as error:
                    problem = f"expected a JSON object, found {error}"
            if isinstance(row, str):
                row = {self.column: row}
            if not problem and not isinstance(row, dict):
                problem = f"expected a JSON object or string, found {type(row).__name__}"
            elif not problem and row and self.column not in row:
                problem = (
                    f"expected the key {self.column}, found {', '.join(map(str, row))[:200]}; choose with --column"
                )
            elif not problem and row and not isinstance(row[self.column], str | None):
                problem = f"{self.column}: expected a text, found {type(row[self.column]).__name__}"
            fields = row if isinstance(row, dict) and row else {self.column: None}
            yield _record(number, "" if problem else (fields[self.column] or ""), fields, problem)

    def _csv_lines(self) -> Iterator[str]:
        number = 0
        while line := self._text.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith("\n"):
                raise ValueError(f"{self.path}: line {number}: {TOO_LONG}")
            yield line

    def _header(self) -> list[str]:
        csv.field_size_limit(MAX_LINE)
        try:
            self._rows = csv.reader(self._csv_lines(), delimiter=self.delimiter)
            header = next(self._rows, None)
        except (csv.Error, TypeError, UnicodeError) as error:
            raise ValueError(f"{self.path}: expected csv with a header, found {error}") from error
        if not header:
            raise ValueError(f"{self.path}: expected csv with a header, found an empty first line")
        header = [_clean(name) for name in header]
        if len(set(header)) < len(header):
            raise ValueError(f"{self.path}: expected distinct column names, found {', '.join(header)[:200]}")
        if self.column not in header:
            raise ValueError(
                f"{self.path}: expected the column {self.column}, found {', '.join(header)[:200]}; choose with --column"
            )
        return header

    def _csv(self) -> Iterator[Record]:
        at = self.columns.index(self.column)
        for row in self._rows:
            problem = None
            if row and len(row) != len(self.columns):
                problem = f"expected {len(self.columns)} cells, found {len(row)}"
                row = (row + [""] * len(self.columns))[: len(self.columns)]
            # A blank line in a csv is a row without cells.
            fields = dict(zip(self.columns, row)) if row else dict.fromkeys(self.columns, "")
            yield _record(self._rows.line_num, row[at] if row else "", fields, problem)


TOO_LONG = f"expected at most {MAX_LINE:,} characters in a line, found more"


def from_arguments(texts: Iterable[str]) -> Iterator[Record]:
    """A record per text of the command line."""
    for number, text in enumerate(texts, 1):
        yield _record(number, text, {"text": text}, None)


def _record(line: int, text: str, fields: dict[str, Any], problem: str | None) -> Record:
    if not problem:
        if not text or text.isspace():
            problem = "empty text"
        elif "\0" in text:
            problem = "expected a text, found a NUL byte; for a UTF-16 file say --encoding utf-16"
        elif not text.isascii() and not _valid(text):
            problem = "expected text, found bytes that its encoding does not have; name the file's with --encoding"
    if problem:
        return Record(line, "", {key: _clean(value) for key, value in fields.items()}, f"line {line}: {problem}")
    if not all(value is text or not isinstance(value, str) or _valid(value) for value in fields.values()):
        fields = {key: _clean(value) for key, value in fields.items()}
    return Record(line, text, fields)


def _valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(value: Any) -> Any:
    """The value with whatever is not Unicode in it shown as the replacement character."""
    if not isinstance(value, str) or _valid(value):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _null(name: str) -> None:
    """NaN and infinity, which Python writes and JSON does not have: null in the output, like in pandas."""
