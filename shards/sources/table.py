"""Tables by header: rows as dictionaries of strings, whatever the order of the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_CELL_CHARACTERS = 1 << 20


def read_table(path: Path, required: Iterable[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header; every value a string, missing cells "".

    Numbers stay strings, so that an id such as 0042 or -x_1 survives.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8 text, has no header, or lacks a required column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a table at {path}, found none; check --root")
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, restval="")
        try:
            found = rows.fieldnames or []
            missing = [name for name in required if name not in found]
            if missing:
                raise ValueError(
                    f"{path}: expected the columns {', '.join(required)}, found {', '.join(found) or 'no header'}; "
                    f"add {', '.join(missing)} to the first line"
                )
            for row in rows:
                yield {key: value for key, value in row.items() if key is not None}
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected UTF-8 text, found other bytes ({error}); save it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(
                f"{path}: expected comma-separated values, found {error} in line {rows.line_num}"
            ) from error
