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


def test_the_source_of_the_page_is_packed(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    module: dict[str, object] = {}
    exec(compile(code, "pairs.py", "exec", dont_inherit=True), module)
    for split in ("train", "test"):
        write_clip(tmp_path / split / "-1.5_a.mp4", frames=4)
        (tmp_path / split / "-1.5_a.txt").write_text("so so")
    source = module["SOURCE"](root=tmp_path)  # type: ignore[operator]
    summary = pack(source, tmp_path / "out", Options(progress=False, workers=1))
    assert summary.clips == 2
    assert summary.manifest.splits["train"].labels["mean"] == -1.5
