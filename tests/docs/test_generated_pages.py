"""What docs/ takes from the code is up to date; `make docs` makes it so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_current() -> None:
    stale = [page.name for page, text in generator().pages().items() if page.read_text(encoding="utf-8") != text]
    assert not stale, f"{stale}: run `make docs`"


def test_method_page_points_at_the_code() -> None:
    page = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    assert len(re.findall(r"\.py:\d+`", page)) >= 15


def test_the_table_of_variants_has_every_distiller() -> None:
    from vadv import parts
    from vadv.config import DISTILLERS

    table = (ROOT / "docs/method.md").read_text(encoding="utf-8").partition("| variant |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == parts.names(DISTILLERS)


INVENTED = {
    "shards/sources/pairs.py",
    "vadv/objectives/distillers/rkd.py",
    "vadv/models/students/electra.py",
    "vadv/tasks/face_alone.py",
}
"""Files that docs/extend.md has its reader write."""


def test_files_that_pages_name_exist() -> None:
    missing = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        for name in re.findall(
            r"`((?:vadv|shards|slurm|launch|tests|docs|configs)/[\w/]+\.\w+)", page.read_text(encoding="utf-8")
        ):
            if not (ROOT / name).is_file() and name not in INVENTED:
                missing.append(f"{page.name}: {name}")
    assert not missing, missing
