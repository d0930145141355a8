"""What is told of packed clips before a run uses them."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_clips import write_clip

from shards.pack import Options, pack
from shards.packed_form import Coding
from shards.sources.csv import Csv
from vadv.clips import coarser, open_clips
from vadv.config import Data


def test_clips_that_are_coarser_than_asked_for_are_told(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", size=(160, 120))
    (tmp_path / "clips.csv").write_text("id,video,text,label,split\na,a.mp4,text of a,1,train\n")
    for name, coding, told in [
        ("small", Coding(frame_size=112), "--frame-size 224"),
        ("short", Coding(frames=4), "--frames 8"),
        ("kept", Coding(mode="keep", frame_size=112), None),
        ("whole", Coding(), None),
    ]:
        pack(Csv(root=tmp_path, name="one"), tmp_path / name, Options(coding=coding, progress=False))
        line = coarser(open_clips(Data(shards=str(tmp_path / name)), "train"), Data())
        assert line is None if told is None else told in str(line)


def test_clips_of_another_task_are_refused(sample_shards: Path) -> None:
    data = Data(shards=str(sample_shards))
    assert len(open_clips(data, "train", "sentiment")) == len(open_clips(data, "train"))
    with pytest.raises(ValueError, match="expected shards of the retrieval task, found sentiment; name shards"):
        open_clips(data, "train", "retrieval")
