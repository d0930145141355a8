"""Data files that installed packages bring: networks, and example videos."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def package_file(package: str, *parts: str) -> Path:
    """A data file of an installed package, which is not imported.

    Raises:
        FileNotFoundError: the package is not installed or has no such file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder).joinpath(*parts)
        if path.is_file():
            return path
    raise FileNotFoundError(f"expected {'/'.join(parts)} of the package {package}, found none; run `make env`")
