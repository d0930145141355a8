"""What docs/own-data.md shows works as printed."""

from __future__ import annotations

import re
from pathlib import Path

from broken_clips import write_clip

from shards.pack import Options, pack
from shards.sources.csv import Csv

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")


def test_the_table_of_the_page_is_packed(tmp_path: Path) -> None:
    table = "\n".join(line.strip() for line in PAGE.splitlines() if re.match(r"    (id,|anna|ben)", line))
    (tmp_path / "clips.csv").write_text(table + "\n", encoding="utf-8")
    write_clip(tmp_path / "videos/anna.mp4", frames=70)
    write_clip(tmp_path / "videos/ben.mov", frames=10)
    summary = pack(Csv(root=tmp_path), tmp_path / "out", Options(progress=False, workers=1))
    assert summary.clips == 3
    assert not summary.rejected
