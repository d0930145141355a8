"""Dataset layouts, one file each. A module here that names its class in SOURCE is a command of launch/pack.py."""

from __future__ import annotations

import importlib
import pkgutil


def sources() -> dict[str, type]:
    """Every source by the name of its module, with hyphens: mmsa, mosi, mosei, vegas, csv, sample, sample-events."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {name.replace("_", "-"): module.SOURCE for name, module in modules.items() if hasattr(module, "SOURCE")}
