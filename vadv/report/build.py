"""A whole report: tables, figures, page."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vadv.report import clips, cost, render, tables
from vadv.report.figures.draw import draw
from vadv.report.groups import Group, group
from vadv.report.page.write import Content, write
from vadv.report.runs import Run, find
from vadv.report.scenes import scenes
from vadv.report.strips import frame_strips, labels
from vadv.report.summary import glances
from vadv.report.table import Table


@dataclass(kw_only=True)
class Report:
    """What was made.

    Attributes:
        tables: those that were written.
        problems: runs that are in no mean, name → why.
        outside: finished runs that belong to no table, name → why.
        written: files, in order.
    """

    tables: list[Table]
    problems: dict[str, str]
    outside: dict[str, str]
    written: list[Path] = field(default_factory=list)


def build(
    runs: Sequence[str | Path],
    out: Path,
    *,
    numbers: Sequence[int] | None = None,
    shards: Sequence[str] = (),
    split: str = "test",
    most_clips: int = 40,
    measure: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> Report:
    """Write a report.

    Args:
        runs: run folders, or folders of them.
        out: gets tables/, figures/, runs.csv and index.html.
        numbers: only these tables, and nothing else; None for everything.
        shards: where frame strips and all labels come from; without, the page has no pictures.
        split: what is scored.
        most_clips: clips of either kind that the explorer shows for a run.
        measure: measure the cost of inference (Table 5), which takes minutes.
        progress: told what is being made.

    Raises:
        ValueError: no runs, no such table, damaged shards.
    """
    found = find(runs)
    groups = group(found)
    every = tables.build(groups, tables.NUMBERS, split)
    wanted = [table for table in every if table.number in (numbers or tables.NUMBERS)]
    for number in numbers or ():
        if number not in tables.NUMBERS:
            raise ValueError(f"--table: expected one of {', '.join(map(str, tables.NUMBERS))}, found {number}")
    out.mkdir(parents=True, exist_ok=True)
    if numbers is None or 5 in numbers:
        wanted += _costs(groups, out / "cost.json", measure, progress)
    report = Report(
        tables=[table for table in sorted(wanted, key=_place) if numbers is not None or _tells(table)],
        problems={run.name: run.problem for run in found if run.problem},
        outside=_outside(groups, every),
    )
    report.written += _write_tables(report.tables, out / "tables")
    if numbers is None:
        report.written.append(_write_runs(found, out / "runs.csv"))
        _rest(report, found, groups, out, shards, split, most_clips, progress)
    return report


def _rest(
    report: Report,
    found: list[Run],
    groups: list[Group],
    out: Path,
    shards: Sequence[str],
    split: str,
    most_clips: int,
    progress: Callable[[str], None],
) -> None:
    """Figures and page."""
    shown = scenes(groups)
    progress("labels")
    figures = draw(
        out / "figures",
        shown,
        report.tables,
        labels(shards) if shards else {},
        split,
        progress=lambda name: progress(f"figure {name}"),
    )
    chosen = clips.select(shown, most_clips, split)
    keys = {(clip.dataset, clip.id) for clip in chosen.clips}
    strips = (
        frame_strips(shards, split, keys, lambda done, total: progress(f"frames of clip {done} of {total}"))
        if shards and keys
        else {}
    )
    progress("page")
    write(
        Content(
            runs=found,
            groups=groups,
            glances=glances(shown, split),
            tables=report.tables,
            outside=report.outside,
            figures=figures,
            clips=chosen,
            strips=strips,
            source=tables.published()["source"],
            split=split,
        ),
        out / "index.html",
    )
    report.written += [path for figure in figures for path in (figure.png, figure.svg)] + [out / "index.html"]


def _place(table: Table) -> tuple[int, bool]:
    """By number, what was measured of Table 5 after the rest of it."""
    return table.number, table.name == cost.NAME


def _tells(table: Table) -> bool:
    """Whether a table has anything to say: a measured row, and for comparisons another one beside it."""
    measured = sum(not row.published for row in table.rows)
    return measured > 0 and (table.number in (2, 4, 5) or len(table.rows) > 1)


def _costs(groups: Sequence[Group], path: Path, measure: bool, progress: Callable[[str], None]) -> list[Table]:
    """The measured half of Table 5: anew when asked for, else as an earlier report in the same folder left it."""
    if measure:
        costs = []
        for one in groups:
            run = one.typical
            if one.traits.task == "sentiment" and one.traits.whole and one.traits.variant == "step" and run:
                costs += cost.measure(run, one.traits.student, progress)
        cost.save(costs, path)
    table = cost.table(cost.load(path))
    return [table] if table else []


def _outside(groups: Sequence[Group], every: Sequence[Table]) -> dict[str, str]:
    used = {id(one) for table in every for one in table.used}
    found: dict[str, str] = {}
    for one in groups:
        if id(one) not in used:
            kind = one.traits
            parts = [f"{kind.student}{' (frozen)' if kind.frozen else ''}", f"variant {kind.variant}"]
            if kind.teacher:
                parts += [
                    f"without {part}"
                    for part, there in (("face", kind.face), ("prompting", kind.prompting))
                    if not there
                ]
            reason = f"no row takes {', '.join(parts)}, trained on {'+'.join(kind.datasets)}"
            found |= {run.name: reason for run in one.runs.values()}
    return found


def _write_tables(made: Sequence[Table], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    source = tables.published()["source"]
    written = []
    for table in made:
        texts = {
            "md": render.markdown(table, source),
            "tex": render.latex(table, source),
            "csv": render.comma_separated(table),
        }
        for ending, text in texts.items():
            path = folder / f"{table.name}.{ending}"
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def _write_runs(found: Sequence[Run], path: Path) -> Path:
    """Every run on a line, those without a result too."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        scores = [run.scores() for run in found]
        metrics = [*dict.fromkeys(key for one in scores for key in one if key != "n"), "n"]
        writer.writerow(["run", "folder", "state", "problem", "dataset", "variant", "seed", *metrics])
        for run, one in zip(found, scores, strict=True):
            writer.writerow(
                [
                    run.name,
                    os.fspath(run.folder),
                    "finished" if run.finished else "not finished",
                    run.problem or "",
                    "+".join(run.datasets),
                    (run.result or {}).get("variant", ""),
                    "" if run.seed is None else run.seed,
                    *(f"{one[key]:.9g}" if key in one else "" for key in metrics),
                ]
            )
    return path
