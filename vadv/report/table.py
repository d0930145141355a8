"""A table of a report: published and measured rows, their cells, what must be said about them, and what is best.

The mean and the sample standard deviation are over seeds. A row whose seeds are not all there keeps its number and gets
a note; it is never marked as the best. A metric that one seed lacks has no mean.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vadv.report.groups import Group, differing

TEACHER = ("video", "prompt", "scores")
"""Outputs of the teacher: they stand in a table for comparison, and are left out of it where a run lacks them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column holds.

    Attributes:
        key: name in result.json and in published.json.
        label: its heading.
        digits: decimals that are printed.
        better: whether low or high values are better; "" if neither.
        percent: printed times 100, as the paper prints accuracies.
    """

    key: str
    label: str
    digits: int = 3
    better: Literal["low", "high", ""] = ""
    percent: bool = False

    @property
    def arrow(self) -> str:
        """Which direction is better."""
        return {"low": "↓", "high": "↑", "": ""}[self.better]

    def text(self, value: float) -> str:
        """A value as it is printed, no sign on a zero."""
        shown = f"{value * 100 if self.percent else value:.{self.digits}f}"
        return shown.removeprefix("-") if not shown.strip("-0.") else shown


@dataclass(kw_only=True)
class Part:
    """One value of a cell. A published cell may have two: on the original and on the modified test set (`star`)."""

    text: str
    value: float | None = None
    std: float | None = None
    star: bool = False
    best: bool = False


@dataclass(kw_only=True)
class Row:
    """A row: its cells by column key.

    Attributes:
        key: the method in published.json.
        label: what is printed.
        published: whether its values are printed in the paper rather than measured.
        yardstick: no competitor (humans, chance), never the best.
        n: seeds behind the mean.
        complete: whether every seed is there.
        notes: what a reader must know, a line each.
    """

    key: str
    label: str
    published: bool = False
    yardstick: bool = False
    cells: dict[str, list[Part]] = field(default_factory=dict)
    n: int | None = None
    complete: bool = True
    notes: list[str] = field(default_factory=list)
    marks: str = ""


@dataclass(kw_only=True)
class Table:
    """A numbered table of the paper, filled with what the runs gave.

    Attributes:
        number: the paper's number.
        name: file name without ending.
        title: what it shows.
        columns: in order.
        rows: published rows beside measured ones.
        notes: lines below the table; rows refer to them by letter.
        used: the groups behind its rows.
    """

    number: int
    name: str
    title: str
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: list[Group] = field(default_factory=list)

    @property
    def measured(self) -> bool:
        """Whether any row comes from a run."""
        return any(not row.published for row in self.rows)


@dataclass(kw_only=True)
class Line:
    """What a table's definition says about one row, before its groups are looked up.

    Attributes:
        key: the method in published.json; "" for none.
        label: what is printed for our runs.
        groups: the groups that belong here; each becomes a row of its own.
        head: which output is scored.
        dataset: the part of a combined test set that is scored; None for the whole.
    """

    key: str
    label: str
    groups: list[Group] = field(default_factory=list)
    head: str = "text"
    dataset: str | None = None


def fill(table: Table, lines: Sequence[Line], published: dict[str, dict[str, str]], split: str = "test") -> Table:
    """Put published and measured rows into a table, in the order of the lines, and mark what is best."""
    table.used = list(dict.fromkeys(group for line in lines for group in line.groups))
    wanted = wanted_seeds(table.used)
    students = {group.traits.student for group in table.used}
    for line in lines:
        if line.key in published:
            table.rows.append(published_row(line.key, published[line.key], table.columns))
        for group in line.groups:
            row = measured_row(line, group, table.columns, wanted, split)
            if len(students) > 1 and group.traits.student not in row.label:
                row.label += f", {group.traits.student}"
            row.label += difference(group, [g for g in line.groups if g.traits.student == group.traits.student])
            row.yardstick = line.head in TEACHER or bool(published.get(line.key, {}).get("yardstick"))
            if row.cells or line.head not in TEACHER:
                table.rows.append(row)
    finish(table)
    return table


def wanted_seeds(groups: Sequence[Group]) -> set[int]:
    """Seeds that a complete row has: those that at least half of the groups were run with."""
    random = [group for group in groups if not group.seedless]
    every = [seed for group in random for seed in group.seeds]
    return {seed for seed in every if 2 * every.count(seed) >= len(random)}


def finish(table: Table) -> None:
    """Mark the best values and letter the notes."""
    for column in table.columns:
        mark_best(table.rows, column)
    lettered: dict[str, str] = {}
    for row in table.rows:
        for note in row.notes:
            lettered.setdefault(note, _letter(len(lettered)))
        row.marks = ",".join(lettered[note] for note in row.notes)
    table.notes += [f"{letter}: {note}" for note, letter in lettered.items()]


def published_row(key: str, values: dict[str, str], columns: Sequence[Column]) -> Row:
    """A row as the paper prints it."""
    row = Row(key=key, label=str(values["label"]), published=True, yardstick=bool(values.get("yardstick")))
    for column in columns:
        if column.key in values:
            row.cells[column.key] = [_published(part, column) for part in str(values[column.key]).split("/")]
    return row


def measured_row(line: Line, group: Group, columns: Sequence[Column], wanted: set[int], split: str = "test") -> Row:
    """The row of one group: mean ± std over its finished seeds."""
    row = Row(key=line.key, label=line.label, n=len(group.runs))
    wanted = set() if group.seedless else wanted
    row.notes += missing(group, wanted) + group.remarks
    row.complete = not (wanted - set(group.runs))
    # The authors' modified MOSEI is told by its size: its numbers are starred, as theirs are.
    star = (line.dataset or "+".join(group.traits.datasets)) == "mosei" and _size(group, line, split) == 2710
    for column in columns:
        if column.key == "parameters":
            row.cells[column.key] = [Part(text=parameters_text(group))]
            continue
        scores = group.scores(line.head, column.key, split, line.dataset)
        lacking = [seed for seed, score in scores.items() if score is None]
        values = [score for score in scores.values() if score is not None]
        if lacking and values:
            row.notes.append(f"{column.label} is undefined for {_seeds(lacking)} and has no mean")
        elif values:
            row.cells[column.key] = [_measured(values, column, star)]
    return row


def mark_best(rows: Iterable[Row], column: Column) -> None:
    """Mark the best of a column, apart for starred values; equal as printed is equally good.

    A row that lacks seeds is never marked, and where it leads nothing is: it may or may not stay ahead.
    """
    if not column.better:
        return
    sign = 1 if column.better == "low" else -1
    for star in (False, True):
        parts = [
            (sign * float(column.text(part.value)), row.complete, part)
            for row in rows
            if not row.yardstick
            for part in row.cells.get(column.key, [])
            if part.value is not None and part.star == star
        ]
        if len(parts) > 1:
            best = min(value for value, _, _ in parts)
            leaders = [(complete, part) for value, complete, part in parts if value == best]
            for complete, part in leaders:
                part.best = complete


def parameters_text(group: Group) -> str:
    """Parameters of the student, which is all that inference needs."""
    counts = {run.parameters("student") for run in group.runs.values()} - {None}
    return " / ".join(millions(count) for count in sorted(c for c in counts if c is not None)) or "–"


def millions(count: float) -> str:
    """`355M`, `22.7M`, `0.04M`."""
    value = count / 1e6
    return f"{value:.0f}M" if value >= 100 else f"{value:.1f}M" if value >= 1 else f"{value:.2g}M"


def _measured(values: Sequence[float], column: Column, star: bool) -> Part:
    mean = float(np.mean(values))
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    text = column.text(mean) + (f" ± {column.text(std)}" if std is not None else "")
    return Part(text=text, value=mean, std=std, star=star)


def _published(text: str, column: Column) -> Part:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(\*?)", text)
    if not found:
        return Part(text=text if text != "-" else "–")
    return Part(text=found[1], value=float(found[1]) / (100 if column.percent else 1), star=bool(found[2]))


def missing(group: Group, wanted: set[int]) -> list[str]:
    """A line for each seed that failed, and one for those that were not run."""
    notes = [f"seed {seed} is missing: {problem}" for seed, problem in sorted(group.problems.items())]
    never = sorted(wanted - group.seeds)
    if never:
        notes.append(f"{_seeds(never)}: not run, as most other rows of this table were")
    return notes


def _size(group: Group, line: Line, split: str) -> float | None:
    return next(iter(group.scores(line.head, "n", split, line.dataset).values()), None)


def difference(group: Group, siblings: Sequence[Group]) -> str:
    """What tells a group from others in the same line of a table: ` (train.lr=1e-05)`."""
    keys = differing(siblings)
    if not keys:
        return ""
    shown = [f"{key}={group.settings.get(key, '–')}" for key in keys[:3]]
    return f" ({', '.join(shown)}{f', … {len(keys) - 3} more' if len(keys) > 3 else ''})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _letter(index: int) -> str:
    letters = string.ascii_lowercase
    return letters[index] if index < 26 else f"{letters[index // 26 - 1]}{letters[index % 26]}"
