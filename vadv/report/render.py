"""A table as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from vadv.report.table import Column, Part, Row, Table

COLUMN = 62
"""Characters of a table that fit into a paper's column in small type, or nearly so."""
DASH = "–"
"""An empty cell."""


def markdown(table: Table, source: str = "") -> str:
    """A pipe table with its title above and its notes below; the best is bold, published rows are italic."""
    lines = [f"**Table {table.number}.** {table.title}", ""]
    heads = ["Model", *(f"{column.label} {column.arrow}".strip() for column in table.columns), "n"]
    lines += [_pipes(heads), _pipes([":--", *["--:"] * (len(heads) - 1)])]
    for row in table.rows:
        label = f"*{_plain(row.label)}* (published)" if row.published else _plain(row.label)
        marks = f" <sup>{row.marks}</sup>" if row.marks else ""
        cells = [_cell(row, column, _markdown_part, " / ") for column in table.columns]
        lines.append(_pipes([label + marks, *cells, _count(row)]))
    lines += ["", *(f"- {_plain(note)}" for note in _notes(table, source))]
    return "\n".join(lines).rstrip() + "\n"


def latex(table: Table, source: str = "") -> str:
    """A `table`, or where it is wider than a column a `table*`; needs the packages booktabs and graphicx."""
    heads = ["Model", *(_tex(column.label) + _TEX_ARROWS[column.better] for column in table.columns), "$n$"]
    body = []
    for row in table.rows:
        label = _tex(row.label.removeprefix("- "))
        label = (r"\quad " if row.label.startswith("- ") else "") + label + (r"$^\ddagger$" if row.published else "")
        marks = rf"$^{{{row.marks}}}$" if row.marks else ""
        cells = [_cell(row, column, _latex_part, "/").replace(DASH, "--") for column in table.columns]
        body.append(" & ".join([label + marks, *cells, _count(row, "")]) + r" \\")
        if row.published and row is _last_published(table) and row is not table.rows[-1]:
            body.append(r"\addlinespace")
    kind = "table*" if _characters(table) > COLUMN else "table"
    lines = [
        rf"\begin{{{kind}}}[t]",
        r"\centering\small",
        rf"\caption{{{_tex(table.title)}.}}",
        rf"\label{{tab:{table.name}}}",
        # Shrinks what is wider than the text, and nothing else.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(heads) - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    notes = [_tex(note) for note in table.notes]
    if any(row.published for row in table.rows):
        notes.insert(0, r"$^\ddagger$ published" + (f": {_tex(source)}" if source else ""))
    if notes:
        lines += [r"\par\smallskip\footnotesize\raggedright", (r"\\" + "\n").join(notes)]
    return "\n".join([*lines, rf"\end{{{kind}}}"]) + "\n"


def comma_separated(table: Table) -> str:
    """One line a row, plain numbers: for each column the mean, its standard deviation over seeds, then n and notes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = [name for column in table.columns for name in _csv_heads(column)]
    writer.writerow(["table", "row", "source", *heads, "n", "complete", "notes"])
    for row in table.rows:
        cells = [value for column in table.columns for value in _csv_cells(row, column)]
        source = "published" if row.published else "measured"
        complete = "" if row.published else str(row.complete).lower()
        notes = "; ".join(row.notes)
        writer.writerow([table.number, row.label, source, *cells, "" if row.n is None else row.n, complete, notes])
    return out.getvalue()


def _cell(row: Row, column: Column, part: Callable[[Part], str], between: str) -> str:
    return between.join(part(one) for one in row.cells.get(column.key, [])) or DASH


def _markdown_part(part: Part) -> str:
    text = part.text + (r"\*" if part.star else "")
    return f"**{text}**" if part.best else text


def _latex_part(part: Part) -> str:
    mean, _, std = part.text.partition(" ± ")
    mean = re.sub(r"(?<![\w.])-(?=\d)", "−", mean)
    text = (rf"\textbf{{{_tex(mean)}}}" if part.best else _tex(mean)) + ("$^*$" if part.star else "")
    return text + (rf" {{\scriptsize$\pm${std}}}" if std else "")


def _count(row: Row, dash: str = DASH) -> str:
    return dash if row.n is None else str(row.n)


def _characters(table: Table) -> int:
    """About how wide a table is, in characters."""
    columns = [[row.label for row in table.rows], ["12"]]
    for column in table.columns:
        columns.append(
            [column.label, *(" / ".join(p.text for p in row.cells.get(column.key, [])) for row in table.rows)]
        )
    return sum(max(map(len, texts), default=0) + 2 for texts in columns)


def _notes(table: Table, source: str) -> list[str]:
    notes = list(table.notes)
    if source and any(row.published for row in table.rows):
        notes.append(f"published: {source}")
    return notes


def _last_published(table: Table) -> Row | None:
    """The last published row, if no measured row stands before it: there a small gap helps the eye."""
    first = next((i for i, row in enumerate(table.rows) if not row.published), len(table.rows))
    return table.rows[first - 1] if first > 0 and not any(row.published for row in table.rows[first:]) else None


def _csv_heads(column: Column) -> Sequence[str]:
    return (column.key,) if not column.better else (column.key, f"{column.key}_std", f"{column.key}_modified")


def _csv_cells(row: Row, column: Column) -> Sequence[str]:
    parts = row.cells.get(column.key, [])
    if not column.better:
        return (" / ".join(part.text for part in parts if part.text != DASH),)
    plain = next((part for part in parts if not part.star and part.value is not None), None)
    starred = next((part for part in parts if part.star and part.value is not None), None)
    first = plain or starred
    return (
        f"{plain.value:.9g}" if plain else "",
        f"{first.std:.9g}" if first and first.std is not None else "",
        f"{starred.value:.9g}" if starred else "",
    )


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Text inside Markdown: nothing in it may become markup or leave its cell."""
    for char in "\\`*_[]<>|#":
        text = text.replace(char, "\\" + char)
    return " ".join(text.split())


_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "ε": r"$\varepsilon$",
    "–": "--",
    "−": "$-$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "\u2009": r"\,",
    "\0": r"$\varepsilon_{\min}$",
}
_TEX_ARROWS = {"low": r" $\downarrow$", "high": r" $\uparrow$", "": ""}


def _tex(text: str) -> str:
    text = text.replace("ε_min", "\0")
    return "".join(_TEX.get(char, char) for char in " ".join(text.split()))
