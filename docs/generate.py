"""Brings up to date what docs/ takes from the code: `python docs/generate.py`, or `make docs`.

- docs/configuration.md is written from the dataclasses of vadv/config.py and slurm/settings.py.
- docs/method.md keeps its text; the line after each `Name` (`file.py:LINE`) becomes the one where the name is defined.
"""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

from slurm.settings import Local, Slurm
from vadv.config import Config
from vadv.config_file import allowed, describe

ROOT = Path(__file__).resolve().parents[1]

HEAD = """# Configuration

Written from `vadv/config.py` by `make docs`; a test compares the two. A YAML file of `configs/` fills these settings, options
of the command line such as `--train.lr 1e-5` go before it, and `RUN/config.yaml` records what a run used. An unknown key
or a value of the wrong type ends with one line that names the key and the nearest known one.
"""


def configuration() -> str:
    """docs/configuration.md."""
    sections = [HEAD, "\n## Top level\n", *_table(Config)]
    for name, kind in _sections(Config):
        text = " ".join((kind.__doc__ or "").split())
        sections += [f"\n## {name}\n\n{text}\n", *_table(kind, name + ".")]
    for name, kind in (("slurm", Slurm), ("local", Local)):
        where = (
            f"A section of a sweep's file, and options `--{name}.NAME` of `launch/sweep.py` ([cluster](cluster.md))."
        )
        sections += [f"\n## {name}\n\n{where}\n", *_table(kind, name + ".")]
    return "\n".join(sections) + "\n"


def _sections(kind: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    for name, hint in typing.get_type_hints(kind).items():
        for part in (hint, *typing.get_args(hint)):
            if is_dataclass(part):
                yield prefix + name, typing.cast(type, part)
                yield from _sections(typing.cast(type, part), f"{prefix}{name}.")


def _table(kind: type, prefix: str = "") -> list[str]:
    hints = typing.get_type_hints(kind)
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name, text, default in describe(kind):
        if any(is_dataclass(part) for part in (hints[name], *typing.get_args(hints[name]))):
            continue
        what = f"{text} *({allowed(prefix + name, hints[name])})*".replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | `{_as_yaml(default)}` | {what} |")
    return rows


def _as_yaml(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def method(page: str) -> str:
    """docs/method.md with the lines of today.

    Raises:
        ValueError: the page names what its file does not define.
    """

    def line_of(found: re.Match[str]) -> str:
        name, between, path = found[1], found[2], found[3]
        at = _definitions(ROOT / path).get(name)
        if at is None:
            raise ValueError(f"docs/method.md: expected {name} in {path}, found no such class or function")
        return f"`{name}`{between}`{path}:{at}`"

    return re.sub(r"`([\w.]+)`( \(|, )`((?:vadv|shards)/[\w/]+\.py)(?::\d+)?`", line_of, page)


def _definitions(path: Path) -> dict[str, int]:
    """Line of each class and function of a module, by qualified name."""
    found: dict[str, int] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                found[prefix + child.name] = child.lineno
                walk(child, f"{prefix}{child.name}.")

    walk(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def pages() -> dict[Path, str]:
    """Every generated page and what it should hold."""
    at = ROOT / "docs/method.md"
    return {ROOT / "docs/configuration.md": configuration(), at: method(at.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
