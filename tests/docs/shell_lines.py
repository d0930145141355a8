"""Shell lines of README, CONTRIBUTING and docs/: where they stand, what they start, and what they say they need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKS = ("a GPU", "a cluster", "the data set", "the hub", "the network")
"""What a line may need beyond two cores and an installed checkout: `# needs a GPU` stands behind it."""
SHELL = re.compile(r"(\w+=\S+ )*(python|deepspeed|torchrun|srun|sbatch|make|pytest|pip|tail|curl)\b")
PATTERN = re.compile(r"[\[…|]|^\S+ ?$|^python launch/\w+\.py$")
"""Code in running text that is no whole command: `--logs SWEEP [--point NAME]`, or the name of a program."""


@dataclass(frozen=True)
class Line:
    """A shell line of a page."""

    page: str
    text: str
    inline: bool
    """In running text."""

    @property
    def command(self) -> str:
        """Without the remark behind it."""
        return uncommented(self.text)

    @property
    def needs(self) -> str | None:
        """What the remark says that the line needs."""
        found = re.search(r"\s#\s(?:.*; )?needs (.+)$", self.text)
        return found[1] if found else None


def read(path: Path) -> list[Line]:
    """The shell lines of a page, from top to bottom."""
    lines = []
    for is_code, text in pieces(path.read_text(encoding="utf-8")):
        whole = [text] if is_code else [span for span in re.findall(r"`([^`]+)`", text) if not PATTERN.search(span)]
        lines += [Line(path.name, line, inline=not is_code) for line in whole if SHELL.match(line)]
    return lines


def pieces(page: str) -> Iterator[tuple[bool, str]]:
    """Lines of indented and fenced code (True), those that end in a backslash or an open quote joined with the next,
    and paragraphs (False)."""
    fenced, code, prose = False, "", ""
    for line in [*page.splitlines(), ""]:
        fence = line.startswith("```")
        fenced ^= fence
        if not fence and (fenced or line.startswith("    ")):
            code += line.strip()
            if code.endswith("\\"):
                code = code[:-1]
            elif SHELL.match(code) and uncommented(code).count("'") % 2:
                code += "\n"
            else:
                yield True, code
                code = ""
        elif line.strip() and not fence:
            prose += line.strip() + " "
        elif prose:
            yield False, prose
            prose = ""


def uncommented(line: str) -> str:
    """Without the remark behind it: after a # or, in docstrings, after several blanks."""
    return "\n".join(re.split(r"\s{2,}|\s#\s", part.strip())[0] for part in line.split("\n"))
