"""Make tables, figures and a page from run folders.

    python launch/report.py runs/sample runs/sample-alone --out report --shards data/sample-shards
    python launch/report.py sweeps/table10 --out report --table 10
    python launch/report.py sweeps/table5 --out report --measure

RUNS are run folders or folders of run folders (sweeps). Writes OUT/index.html, OUT/tables (Markdown, LaTeX, CSV),
OUT/figures (PNG, SVG) and OUT/runs.csv; prints the tables. Runs without a final result are named and left out of means.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from _command import FINE, Parser, run


def main() -> int:
    """Parse, build, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders, or folders of run folders")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="folder that gets the report")
    parser.add_argument(
        "--table",
        action="append",
        type=int,
        metavar="N",
        help="only this table of the paper (2, 4 to 12), without figures and page; may be given again",
    )
    parser.add_argument(
        "--shards",
        action="append",
        default=[],
        metavar="SHARDS",
        help="shard folder, for frames and labels; may be given again",
    )
    parser.add_argument("--split", default="test", choices=("test", "valid"), help="what is scored")
    parser.add_argument(
        "--clips",
        type=int,
        default=40,
        metavar="N",
        help="clips of either kind (largest error, largest disagreement) that the page shows per run",
    )
    parser.add_argument("--measure", action="store_true", help="measure the cost of inference for Table 5 (minutes)")
    arguments = parser.parse_args()

    if arguments.clips < 0:
        raise ValueError(f"--clips: expected 0 or more, found {arguments.clips}")

    from vadv.report.build import build
    from vadv.report.render import markdown

    def progress(what: str) -> None:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{what[:width]}", end="", file=sys.stderr, flush=True)

    report = build(
        arguments.runs,
        arguments.out,
        numbers=arguments.table,
        shards=arguments.shards,
        split=arguments.split,
        most_clips=arguments.clips,
        measure=arguments.measure,
        progress=progress,
    )
    progress("")
    for name, problem in report.problems.items():
        print(f"{name}: not counted: {problem}", file=sys.stderr)
    for name, reason in report.outside.items():
        print(f"{name}: in no table: {reason}", file=sys.stderr)
    for table in report.tables:
        print(markdown(table))
    print(f"{len(report.written)} files, to be read from {report.written[-1]}")
    return FINE


if __name__ == "__main__":
    run(main)
