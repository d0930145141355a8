"""Which shell lines of the pages a reader can run on two cores without a network, in the order in which they are met.

All that bear no mark, but for those of `ELSEWHERE`. So a new line is run from the day on which it is written.
"""

from __future__ import annotations

import re

from shell_lines import PAGES, ROOT, Line, read

ELSEWHERE = {
    "make env": "the checkout's environment stands for what it installs from the network",
    "make test": "is the suite that the tests of these lines belong to",
    "make test-slow": "the same",
    "make coverage": "the same",
    "make faults": "takes half an hour; tests/faults/test_faults.py runs some of its trials",
    "pytest -m gpu": "needs a GPU, as its name says",
    "pytest -m slow tests/models/test_full_size.py": "a part of make test-slow",
    "pytest -m slow tests/speed/test_memory.py": "the same",
    "pytest tests/slurm": "a part of make test",
    "python tests/slurm/lab.py shell": "opens a shell for a person; tests/slurm/test_lab.py brings up the same",
}
"""Lines that need nothing but are not run with the others, and why."""


def order() -> list[str]:
    """Names of the pages in the order in which docs/index.md leads to them."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    linked = [name.rpartition("/")[2] for name in re.findall(r"\(([\w./-]+\.md)\)", index)]
    return [*linked, "index.md"]


def all_lines() -> list[Line]:
    """The shell lines of all pages in reading order."""
    places = order()
    return [line for path in sorted(PAGES, key=lambda path: places.index(path.name)) for line in read(path)]


def to_run() -> list[Line]:
    """Lines without a mark; of equal ones in running text, the first."""
    found: list[Line] = []
    for line in all_lines():
        met = line.inline and line.command in [earlier.command for earlier in found]
        if line.needs is None and line.command not in ELSEWHERE and not met:
            found.append(line)
    return found
