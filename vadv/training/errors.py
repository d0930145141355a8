"""Why a run ends before its time, other than by a user's mistake (ValueError) or a signal."""

from __future__ import annotations


class Stopped(Exception):
    """The run cannot go on truthfully: non-finite numbers, too many bad clips, a save that failed. One line says which."""
