"""Run a sweep: seeds, ablations and searches that finish by themselves, on Slurm or on this machine.

    python launch/sweep.py --sweep configs/sweeps/table10.yaml --dry-run
    python launch/sweep.py --sweep configs/sweeps/table10.yaml --executor slurm --slurm.partition gpu
    python launch/sweep.py --sweep configs/sweeps/sample.yaml --executor local --local.parallel 2
    python launch/sweep.py --status runs/table10              live table; --cancel, --logs and --retry-failed likewise
    python launch/sweep.py --sweep configs/sweeps/table10.yaml --executor slurm --resume

A launch on Slurm watches until every point is over; the jobs need no watching, so Ctrl-C or --no-wait leave them to
themselves. --resume submits what is missing, from any machine that sees the folder. docs/cluster.md tells the rest.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _command import FINE, Parser, run

if TYPE_CHECKING:
    from slurm.folder import Folder
    from slurm.sweep import Sweep

SECTIONS = ("slurm", "local")
EXECUTORS = ("slurm", "local", "debug")


def main() -> int:
    """Parse, do what was asked, return the exit code."""
    options = parse()
    settings = {key: setting(key, value) for key, value in vars(options).items() if key.split(".")[0] in SECTIONS}
    watched = next((name for name in ("status", "cancel", "logs") if getattr(options, name) is not None), None)
    if watched:
        return look_after(watched, folder_of(getattr(options, watched), options), options)
    if options.seeds:
        settings["seeds"] = options.seeds
    source = options.sweep or options.retry_failed or ""
    if not isinstance(source, str) or not source:
        raise ValueError("--sweep: expected a sweep file, such as configs/sweeps/sample.yaml")
    return start(source, settings, options)


def parse() -> argparse.Namespace:
    """The command's options, those of the sections under their dotted names."""
    parser = Parser(description=__doc__, usage="%(prog)s --sweep FILE [OPTION ...]")
    parser.add_argument("--sweep", metavar="FILE", help="sweep file, or the folder of a sweep launched before")
    parser.add_argument("--executor", choices=EXECUTORS, help="where (default: slurm where there is one, or local)")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the sweep (default: runs/ and its name)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="seeds, in place of the sweep file's")
    parser.add_argument("--dry-run", action="store_true", help="print points, folders and the batch script; do nothing")
    parser.add_argument("--resume", action="store_true", help="go on with a sweep: submit only what is missing")
    parser.add_argument("--no-wait", action="store_true", help="with slurm: return after submission")
    parser.add_argument("--every", type=float, default=10.0, metavar="SECONDS", help="time between looks")
    for name, text in (
        ("status", "show the points: live on a terminal, once otherwise"),
        ("cancel", "end all points that are not over"),
        ("retry-failed", "with --sweep or alone: resume, and try failed points again"),
        ("logs", "print where a point's logs are, and their last lines; see --point"),
    ):
        parser.add_argument(f"--{name}", nargs="?", const="", metavar="SWEEP", help=text)
    parser.add_argument("--point", metavar="NAME", help="with --logs: the point (default: all that failed)")
    parser.add_argument("--lines", type=int, default=20, help="with --logs: last lines of each")
    add_settings(parser)
    return parser.parse_args()


def start(source: str, settings: dict[str, Any], options: argparse.Namespace) -> int:
    """Expand a sweep and run it, or print what would run."""
    from slurm import execute
    from slurm.folder import Folder
    from slurm.launch import deciding, prepare
    from slurm.sweep import expand, read_sweep

    file = Path(source).absolute()
    if file.is_dir():
        folder = Folder(file)
        os.chdir(folder.meta()["cwd"])  # its base and shards are relative to where it was launched
        file = file / "sweep.yaml"
    sweep = read_sweep(file, settings)
    executor = options.executor or default_executor()
    ranks = {"slurm": sweep.slurm.ranks(), "local": sweep.local.ranks, "debug": 1}[executor]
    points = expand(sweep, ranks)
    folder = folder_of(source, options, sweep)
    if options.dry_run:
        dry_run(folder, sweep, points, executor)
        return FINE
    retry = options.retry_failed is not None
    with deciding(folder):
        names = prepare(folder, sweep, points, file, resume=options.resume, retry_failed=retry)
    if executor == "slurm":
        return execute.run_slurm(folder, sweep, names, wait=not options.no_wait, every=options.every)
    return (execute.run_local if executor == "local" else execute.run_debug)(folder, sweep, names)


def look_after(what: str, folder: Folder, options: argparse.Namespace) -> int:
    """--status, --cancel and --logs of a sweep launched before."""
    from slurm import status
    from slurm.summary import rows

    if what == "cancel":
        from slurm.launch import cancel

        print(f"{cancel(folder)} points cancelled")
    elif what == "logs":
        show_logs(folder, options)
    elif sys.stdout.isatty():
        status.watch(folder, lambda: all(row.state in status.OVER for row in rows(folder)), options.every)
    else:
        status.show(folder)
    return FINE


def show_logs(folder: Folder, options: argparse.Namespace) -> None:
    """Paths and last lines of logs."""
    from slurm.execute import logs
    from slurm.summary import rows

    points = [options.point] if options.point else [row.name for row in rows(folder) if row.state == "failed"]
    if not points:
        raise ValueError("--logs: no point has failed; name one with --point")
    for point in points:
        for path in logs(folder, point):
            print(f"==> {path} <==")
            print("\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-options.lines :]))


def dry_run(folder: Folder, sweep: Sweep, points: list[Any], executor: str) -> None:
    """What would run, and how."""
    from slurm.arrays import script_text
    from slurm.snapshot import snapshot_path

    width = max(len(point.name) for point in points)
    for point in points:
        changes = "  ".join(f"{key}={value}" for key, value in {**point.overrides, "seed": point.seed}.items())
        print(f"{point.name:{width}}  {folder.run(point.name)}  {changes}")
    print(f"\n{len(points)} points in {folder.path}; nothing was submitted")
    if executor == "slurm":
        print("\n# batch script of a job array\n")
        print(script_text(folder, sweep.slurm, Path.cwd(), len(points), snapshot_path(folder)))


def folder_of(source: str, options: argparse.Namespace, sweep: Sweep | None = None) -> Folder:
    """The folder of a sweep that is named by its folder or by its file."""
    from slurm.folder import Folder
    from slurm.sweep import read_sweep

    source = source or options.sweep or options.out or ""
    if not source:
        raise ValueError("expected the folder of a sweep, or --sweep FILE")
    if options.out:
        return Folder(options.out)
    if Path(source).is_dir():
        return Folder(source)
    if not Path(source).exists():
        raise ValueError(f"{source}: expected the folder of a sweep, or its file, found none")
    return Folder(Path("runs") / (sweep or read_sweep(Path(source))).name)


def default_executor() -> str:
    """slurm where its commands are on PATH, otherwise local."""
    import shutil

    return "slurm" if shutil.which("sbatch") else "local"


def add_settings(parser: Parser) -> None:
    """An option for each setting of the sections."""
    from slurm.settings import Local, Slurm
    from vadv.config_file import describe

    for section, kind in zip(SECTIONS, (Slurm, Local)):
        group = parser.add_argument_group(f"the sweep file's {section} section")
        for name, text, default in describe(kind):
            shown = "" if "default:" in text or default in (None, [], {}) else f" (default: {default})"
            group.add_argument(f"--{section}.{name}", metavar="VALUE", default=argparse.SUPPRESS, help=text + shown)


def setting(key: str, value: str) -> Any:
    """A setting's value from the command line: a text, or a list or mapping in YAML."""
    import yaml

    try:
        return yaml.safe_load(value) if value[:1] in ("[", "{") else value
    except yaml.YAMLError:
        raise ValueError(f"--{key}: expected a list [a, b] or a mapping {{a: b}}, found {value}") from None


if __name__ == "__main__":
    run(main)
