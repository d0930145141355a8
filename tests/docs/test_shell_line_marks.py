"""Every shell line of the pages says what it needs, or is run by tests/docs/test_shell_lines_run.py."""

from __future__ import annotations

from collections import Counter

from lines_to_run import ELSEWHERE, all_lines, order, to_run
from shell_lines import MARKS, PAGES, Line, pieces


def test_a_line_is_marked_or_run() -> None:
    run = {line.command for line in to_run()}
    assert [line for line in all_lines() if not line.needs and line.command not in run | ELSEWHERE.keys()] == []
    assert len(run) > 40


def test_marks_are_the_known_ones() -> None:
    marks = Counter(line.needs for line in all_lines() if line.needs)
    assert set(marks) == set(MARKS)
    assert [line for line in all_lines() if "needs" in line.text and line.needs is None] == []


def test_a_mark_is_read_behind_a_remark_too() -> None:
    for text, needs in [
        ("make it", None),
        ("make it  # needs a GPU", "a GPU"),
        ("make it  # all of it; needs the hub", "the hub"),
        ("make it  # all that one needs", None),
    ]:
        line = Line("a.md", text, inline=False)
        assert (line.command, line.needs) == ("make it", needs)


def test_a_line_is_not_marked_here_and_unmarked_there() -> None:
    marked = {line.command for line in all_lines() if line.needs}
    assert not marked & ({line.command for line in to_run()} | ELSEWHERE.keys())


def test_what_is_run_elsewhere_still_stands_in_a_page() -> None:
    assert ELSEWHERE.keys() <= {line.command for line in all_lines()}


def test_remarks_are_those_of_a_shell() -> None:
    """A line that is pasted whole works."""
    remarks = [line.text.partition(line.command)[2].strip() for line in all_lines() if "\n" not in line.text]
    assert [remark for remark in remarks if remark and not remark.startswith("# ")] == []


def test_the_index_leads_to_every_page() -> None:
    assert {path.name for path in PAGES} <= set(order())


def test_paragraphs_and_code_are_told_apart() -> None:
    page = "Take `make\nit`:\n\n    make \\\n      it  # now\n\n```bash\nsbatch --wrap '\n  make it'\n```\n"
    assert list(pieces(page)) == [
        (False, "Take `make it`: "),
        (True, "make it  # now"),
        (True, "sbatch --wrap '\nmake it'"),
    ]
