"""docs/dependencies.md names what pyproject.toml asks for, and both agree with what the code imports."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it there
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = ("vadv", "shards", "slurm", "launch")
BROUGHT = {
    "huggingface_hub": "transformers",
    "tokenizers": "transformers",
    "packaging": "transformers",
    "torchvision": "open_clip_torch",
    "docstring_parser": "jsonargparse",
    "markupsafe": "Jinja2",
    "pydantic": "fastapi",
    "starlette": "fastapi",
}
"""Imported, and brought by a dependency that is declared."""
NOT_IMPORTED = {"tensorboard", "s3fs", "aiohttp"}
"""Used by torch.utils.tensorboard and fsspec, which import them when they are needed."""
PEERS = {"streaming"}
"""Compared with in a benchmark, where they are installed."""


def bare(requirement: str) -> str:
    """`jsonargparse[signatures]>=4.40` → `jsonargparse`."""
    return re.split(r"[\[<>=! ]", requirement)[0]


def table(heading: str) -> list[list[str]]:
    """Cells of the rows below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def imported(*folders: str) -> set[str]:
    """Top-level modules that are neither Python's nor ours."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {*OURS, "_command"}


def test_the_page_names_exactly_the_dependencies() -> None:
    assert [bare(row[0]) for row in table("Always installed")] == [bare(name) for name in PROJECT["dependencies"]]
    extras = [
        (extra, bare(name))
        for extra, names in PROJECT["optional-dependencies"].items()
        for name in names
        if not name.startswith("videoadviser")
    ]
    assert [(row[0], bare(row[1])) for row in table("On request")] == extras
    lines = (ROOT / "model-packages.txt").read_text(encoding="utf-8").splitlines()
    assert [row[0] for row in table("Data and small models from the registry")] == [
        line.partition("==")[0] for line in lines if line and not line.startswith("#")
    ]


def test_every_row_says_what_why_and_under_which_licence() -> None:
    for heading, width in (("Always installed", 4), ("On request", 5), ("Data and small models from the registry", 4)):
        for row in table(heading):
            assert len(row) == width and all(row), row


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = {bare(name).lower() for name in [*PROJECT["dependencies"], *extras["onnx"], *extras["serve"]]}
    packages = {module: {name.lower() for name in names} for module, names in packages_distributions().items()}
    data = {"vaderSentiment"}
    used: set[str] = set()
    for module in imported(*OURS) - data - PEERS:
        if module in BROUGHT:
            assert BROUGHT[module].lower() in declared, module
            continue
        names = {name for name in packages.get(module, {module.lower()}) if name in declared}
        assert names, f"{module} is imported and no package of pyproject.toml has it"
        used |= names
    assert declared - used - NOT_IMPORTED == set()
