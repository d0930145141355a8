"""What must be so for a configuration to run on a machine, each point checked and told in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        verdict: fine; worth knowing, yet the run starts; or it will fail.
        check: what was looked at, a word or two.
        text: what was found.
        remedy: what to do about it.
    """

    verdict: Literal["ok", "warn", "fail"]
    check: str
    text: str
    remedy: str = ""

    def line(self) -> str:
        """One line for a person."""
        return f"{self.verdict:4}  {self.check:10}  {self.text}{f'; {self.remedy}' if self.remedy else ''}"


def ok(check: str, text: str) -> Finding:
    """A check that went well."""
    return Finding(verdict="ok", check=check, text=text)


def warn(check: str, text: str, remedy: str) -> Finding:
    """Something that costs speed or comfort."""
    return Finding(verdict="warn", check=check, text=text, remedy=remedy)


def fail(check: str, text: str, remedy: str) -> Finding:
    """Something that will stop the run."""
    return Finding(verdict="fail", check=check, text=" ".join(text.split()), remedy=remedy)
