"""Suggestions for a mistyped name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest of the known names, dotted or not, or nothing."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        tails = {other.rsplit(".", 1)[-1]: other for other in reversed(known)}
        near = [tails[t] for t in difflib.get_close_matches(name.rsplit(".", 1)[-1], tails, n=1, cutoff=0.75)]
    return f"; did you mean {near[0]}?" if near else ""
