"""Parts that are one file each in a package of their own, chosen by the file's name: tasks, distillers, kinds of student.

The folder is the only list of them: a file that is put there is a value that is allowed (docs/extend.md). Hyphens of a name
are underscores in the file's. Nothing is imported but the package, and the part that is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from vadv.spelling import did_you_mean


def names(package: str) -> list[str]:
    """The parts in a package, sorted."""
    folders = importlib.import_module(package).__path__
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(folders))


def check(package: str, name: str, setting: str) -> None:
    """Refuse a name without a file.

    Raises:
        ValueError: names the setting, the parts that there are and the nearest of them.
    """
    known = names(package)
    if name not in known:
        raise ValueError(f"{setting}: expected one of {', '.join(known)}, found {name}{did_you_mean(name, known)}")


def load(package: str, name: str) -> ModuleType:
    """The module of a part that `check` has let pass."""
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")
