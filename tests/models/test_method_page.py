"""docs/method.md points at lines of the code: each must still be the definition that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def definitions(path: Path) -> dict[str, int]:
    """Qualified names of a module's classes and functions and the lines they start on."""
    found: dict[str, int] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                found[prefix + child.name] = child.lineno
                walk(child, f"{prefix}{child.name}.")

    walk(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def test_lines_are_where_the_page_says() -> None:
    page = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    references = re.findall(r"`([\w.]+)`(?: \(|, )`((?:vadv|shards)/[\w/]+\.py):(\d+)`", page)
    assert len(references) >= 15
    wrong = []
    for name, path, line in references:
        at = definitions(ROOT / path).get(name)
        if at != int(line):
            wrong.append(f"{name}: {path}:{line} should be {path}:{at}")
    assert not wrong, "\n".join(wrong)


def test_files_exist() -> None:
    page = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:vadv|shards|tests|docs)/[\w/]+\.(?:py|md))", page))
    assert files and not [f for f in files if not (ROOT / f).is_file()]
