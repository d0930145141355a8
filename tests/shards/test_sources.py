"""Layouts of datasets: what becomes a record, what is left out and why, which mistakes stop the command."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.screening import screen
from shards.sources import sources
from shards.sources.csv import Csv
from shards.sources.mmsa import Mmsa
from shards.sources.mosei import Mosei
from shards.sources.mosi import Mosi, read_ids
from shards.sources.record import Raw, Rejected, UnsafePath, path_below
from shards.sources.sample import Sample, find_sdist, normalised, sentences

MMSA = ["video_id", "clip_id", "text", "label", "mode"]


def write_table(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def mmsa_row(**changes: Any) -> dict[str, Any]:
    return {"video_id": "v", "clip_id": "1", "text": "fine", "label": "1.5", "mode": "train"} | changes


def causes(source: Any) -> dict[str, str]:
    return {row.id: row.cause for row in screen(source, source.task)[1]}


def test_mmsa_is_read_by_header_in_any_order_of_columns(tmp_path: Path) -> None:
    row = mmsa_row(annotation="Positive", label_T="", text='He said "so, so", twice\nand went')
    found = []
    for number, columns in enumerate((sorted(row), sorted(row, reverse=True))):
        write_table(tmp_path / str(number) / "label.csv", [row], columns)
        record = next(iter(Mmsa(root=tmp_path / str(number), name="x")))
        assert isinstance(record, Raw)
        found.append((record.id, record.text, record.label, record.split))
    assert found == [("v$_$1", row["text"], 1.5, "train")] * 2


@pytest.mark.parametrize("video_id", ["-x_1", "0042", "日本", "a b", "....a"])
def test_ids_stay_as_they_are_written(video_id: str, tmp_path: Path) -> None:
    write_table(tmp_path / "label.csv", [mmsa_row(video_id=video_id, clip_id="007")])
    record = next(iter(Mmsa(root=tmp_path)))
    assert isinstance(record, Raw)
    assert record.id == f"{video_id}$_$007"
    assert record.video == tmp_path / "Raw" / video_id / "007.mp4"


@pytest.mark.parametrize("video_id", ["../x", "/etc", "a/../../b", "", "..", "a\\b", "a\0b"])
def test_paths_that_leave_the_folder_are_rejected(video_id: str, tmp_path: Path) -> None:
    record = Mmsa(root=tmp_path).record(mmsa_row(video_id=video_id))
    assert isinstance(record, Rejected)
    assert record.cause == "unsafe path"
    record = Csv(root=tmp_path).record({"id": "a", "video": video_id, "text": "t", "label": "1", "split": "train"})
    assert isinstance(record, Rejected)


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_path_ever_leaves_the_folder(first: str, second: str) -> None:
    root = Path("/data/set")
    try:
        path = path_below(root, first, second)
    except UnsafePath:
        return
    assert path.is_relative_to(root)
    assert ".." not in path.parts


def test_rows_with_mistakes_are_told_by_their_cause(tmp_path: Path) -> None:
    rows = [
        mmsa_row(clip_id="good"),
        mmsa_row(clip_id="nan", label="nan"),
        mmsa_row(clip_id="none", label=""),
        mmsa_row(clip_id="word", label="good"),
        mmsa_row(clip_id="high", label="3.5"),
        mmsa_row(clip_id="inf", label="-inf"),
        mmsa_row(clip_id="empty", text=" \t"),
        mmsa_row(clip_id="split", mode="dev"),
        mmsa_row(clip_id="good", text="again"),
        mmsa_row(clip_id="x" * 600),
        mmsa_row(clip_id="edge", label="-3", text="😀 — ünïcödé"),
    ]
    write_table(tmp_path / "label.csv", rows)
    source = Mmsa(root=tmp_path)
    good, rejected = screen(source, "sentiment")
    assert [record.clip_id for record in good] == ["good", "edge"]
    assert [row.cause for row in rejected] == [
        "no label",
        "no label",
        "no label",
        "label out of range",
        "no label",
        "empty text",
        "unknown split",
        "duplicate id",
        "bad id",
    ]
    assert all("expected" in row.detail or "earlier" in row.detail for row in rejected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"video_id,clip_id,text,label\nv,1,t,1\n", "add mode to the first line"),
        (b"", "found no header"),
        (b"video_id,clip_id,text,label,mode\nv,1,\xff\xfe,1,train\n", "expected UTF-8"),
        (b'video_id,clip_id,text,label,mode\nv,1,"' + b"x" * (2 << 20) + b'",1,train\n', "field larger"),
    ],
)
def test_a_wrong_table_is_told_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(Mmsa(root=tmp_path))
    assert str(tmp_path / "label.csv") in str(error.value)


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="check --root"):
        list(Mmsa(root=tmp_path / "nowhere"))


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_bytes("\ufeffvideo_id,clip_id,text,label,mode\nv,1,t,1,train\n".encode())
    assert len(list(Mmsa(root=tmp_path))) == 1


def test_csv_cuts_and_its_mistakes(tmp_path: Path) -> None:
    row = {"id": "a", "video": "sub/a.mp4", "text": "t", "label": "0", "split": "test", "start": "", "end": ""}
    source = Csv(root=tmp_path)
    whole = source.record(row)
    assert isinstance(whole, Raw)
    assert (whole.video, whole.start, whole.end) == (tmp_path / "sub/a.mp4", None, None)
    cut = source.record(row | {"start": "1.5", "end": "2"})
    assert isinstance(cut, Raw)
    assert (cut.start, cut.end) == (1.5, 2.0)
    for start, end in (("2", "1"), ("-1", ""), ("x", ""), ("", "nan"), ("1", "1")):
        wrong = source.record(row | {"start": start, "end": end})
        assert isinstance(wrong, Rejected)
        assert wrong.cause == "bad cut"


def test_mosi_knows_its_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_table(tmp_path / "label.csv", [mmsa_row()])
    with caplog.at_level(logging.WARNING):
        assert [record.id for record in Mosi(root=tmp_path)] == ["v$_$1"]
    assert "1284 / 229 / 686 rows in train / valid / test, found 1 / 0 / 0" in caplog.text
    caplog.clear()
    rows = [
        mmsa_row(video_id=f"-{number}", mode=split)
        for split, count in Mosi.expected.items()
        for number in range(len(split) * 10_000, len(split) * 10_000 + count)
    ]
    for number, row in enumerate(rows):
        row["clip_id"] = str(number)
    write_table(tmp_path / "label.csv", rows)
    with caplog.at_level(logging.WARNING):
        assert len(list(Mosi(root=tmp_path))) == 2199
    assert not caplog.text
    assert Mosei.expected == {"train": 16326, "valid": 1871, "test": 4659}


def test_ids_to_keep_in_both_writings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_table(tmp_path / "label.csv", [mmsa_row(clip_id=str(number)) for number in range(5)])
    ids = tmp_path / "ids.txt"
    ids.write_text("v$_$1\n\nv[3]\nother$_$1\n")
    with caplog.at_level(logging.WARNING):
        found = [record.id for record in Mosei(root=tmp_path, keep_ids=ids)]
    assert found == ["v$_$1", "v$_$3"]
    assert "1 of 3 ids are not in" in caplog.text
    ids.write_text("nothing$_$1\n")
    with pytest.raises(ValueError, match="found none of them there"):
        list(Mosei(root=tmp_path, keep_ids=ids))
    ids.write_text("\n")
    with pytest.raises(ValueError, match="found an empty file"):
        read_ids(ids)
    with pytest.raises(FileNotFoundError, match="--keep-ids"):
        read_ids(tmp_path / "none.txt")


def test_every_module_with_a_source_is_a_command() -> None:
    found = sources()
    assert {"mmsa", "mosi", "mosei", "csv", "sample"} <= set(found)
    assert found["csv"] is Csv


def test_sentences_are_split_without_leakage() -> None:
    rows = sentences(find_sdist(None), 1600)
    assert len(rows) == 1600
    splits = {"train": 0.70, "valid": 0.12, "test": 0.18}
    for of in (lambda row: normalised(row.text), lambda row: row.speaker):
        seen: dict[Any, set[str]] = {}
        for row in rows:
            seen.setdefault(of(row), set()).add(row.split)
        assert all(len(found) == 1 for found in seen.values())
    for split, share in splits.items():
        assert sum(row.split == split for row in rows) / 1600 == pytest.approx(share, abs=0.03)
    assert all(-3 <= row.label <= 3 for row in rows)
    mean = {
        split: sum(r.label for r in rows if r.split == split) / sum(r.split == split for r in rows) for split in splits
    }
    assert max(mean.values()) - min(mean.values()) < 0.3
    fewer = {row.number: row.split for row in sentences(find_sdist(None), 100)}
    assert fewer.items() <= {row.number: row.split for row in rows}.items()


def test_a_missing_source_distribution_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make env"):
        list(Sample(root=tmp_path / "s", sdist=tmp_path / "none.tar.gz"))
    (tmp_path / "other.tar.gz").write_bytes(b"x")
    with pytest.raises(ValueError, match="expected the source distribution"):
        list(Sample(root=tmp_path / "s", sdist=tmp_path / "other.tar.gz"))
    with pytest.raises(ValueError, match="--clips"):
        list(Sample(root=tmp_path / "s", clips=0))


def test_the_corpus_is_made_once_and_never_mixed(sample_corpus: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sample_corpus.rglob("*.mp4")}
    assert len(list(Sample(root=sample_corpus, clips=64))) == 64
    assert before == {path: path.stat().st_mtime_ns for path in sample_corpus.rglob("*.mp4")}
    with pytest.raises(ValueError, match="choose another --root"):
        list(Sample(root=sample_corpus, clips=65))
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ValueError, match="expected an empty folder"):
        list(Sample(root=tmp_path, clips=4))
