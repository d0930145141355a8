"""Whatever a line holds, it gives one record; what cannot be scored says why and where."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadv.student import readers
from vadv.student.readers import Record, Source, from_arguments


def _read(path: Path, content: bytes | str, **options: str) -> list[Record]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(Source(str(path), **options).records())  # type: ignore[arg-type]


def _problems(found: list[Record]) -> dict[int, str]:
    return {record.line: record.problem for record in found if record.problem}


def test_txt_is_one_record_a_line(tmp_path: Path) -> None:
    found = _read(tmp_path / "a.txt", "first\r\n\n  \nschön 😀\rstill\nlast")
    assert [(r.line, r.text) for r in found] == [
        (1, "first"), (2, ""), (3, ""), (4, "schön 😀\rstill"), (5, "last")
    ]  # fmt: skip
    assert _problems(found) == {2: "line 2: empty text", 3: "line 3: empty text"}
    assert found[0].fields == {"text": "first"}


def test_bytes_that_are_no_text_cost_their_line_only(tmp_path: Path) -> None:
    found = _read(tmp_path / "a.txt", b"good\nbad \xff\xfe\nnul \x00 here\nfine\n")
    assert [r.text for r in found] == ["good", "", "", "fine"]
    assert "encoding" in (found[1].problem or "") and "line 2" in (found[1].problem or "")
    assert "NUL byte" in (found[2].problem or "") and "line 3" in (found[2].problem or "")
    json.dumps([r.fields for r in found], ensure_ascii=False).encode()


def test_other_encodings_and_byte_order_marks(tmp_path: Path) -> None:
    assert _read(tmp_path / "a.txt", "\ufeffwith mark".encode())[0].text == "with mark"
    assert _read(tmp_path / "b.txt", "größer\nkleiner".encode("latin-1"), encoding="latin-1")[0].text == "größer"
    assert [r.text for r in _read(tmp_path / "c.txt", "eins\nzwei".encode("utf-16"), encoding="utf-16")] == [
        "eins",
        "zwei",
    ]
    with pytest.raises(ValueError, match="expected utf-16, found"):
        _read(tmp_path / "d.txt", b"\xff\xfe\x00\xd8\x00", encoding="utf-16")
    with pytest.raises(ValueError, match="--encoding: expected a name that Python knows, found klingon"):
        _read(tmp_path / "e.txt", "x", encoding="klingon")


def test_a_line_of_a_megabyte_is_a_text_and_one_beyond_the_bound_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _read(tmp_path / "a.txt", "short\n" + "long " * 200_000 + "\nafter")
    assert [len(r.text) for r in found] == [5, 1_000_000, 5]
    monkeypatch.setattr(readers, "MAX_LINE", 1000)
    found = _read(tmp_path / "b.txt", "short\n" + "x" * 5000 + "\n" + "y" * 999 + "\nafter")
    assert [r.line for r in found] == [1, 2, 3, 4] and list(_problems(found)) == [2]
    with pytest.raises(ValueError, match="line 2: expected at most"):
        _read(tmp_path / "c.csv", "text\n" + "x" * 5000 + "\n")


def test_csv_keeps_columns_and_finds_its_own(tmp_path: Path) -> None:
    content = 'id,review,stars\n1,"hello, ""you""",5\n2,"two\nlines",4\n3,short\n\n4,bye,\n'
    found = _read(tmp_path / "a.csv", content, column="review")
    assert [r.text for r in found] == ['hello, "you"', "two\nlines", "", "", "bye"]
    assert found[0].fields == {"id": "1", "review": 'hello, "you"', "stars": "5"}
    assert _problems(found) == {5: "line 5: expected 3 cells, found 2", 6: "line 6: empty text"}
    assert _read(tmp_path / "a.tsv", "text\tn\na, b\t1\n")[0].fields == {"text": "a, b", "n": "1"}
    assert _read(tmp_path / "b.csv", "text;n\na, b;1\n", delimiter=";")[0].text == "a, b"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "expected csv with a header, found an empty first line"),
        ("id,other\n1,2\n", "expected the column text, found id, other; choose with --column"),
        ("text,text\n1,2\n", "expected distinct column names"),
    ],
)
def test_csv_that_cannot_be_read_says_why(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _read(tmp_path / "a.csv", content)


def test_an_open_quote_does_not_eat_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_LINE", 10_000)
    with pytest.raises(ValueError, match=r"line \d+: expected csv, found field larger .*is a quote left open"):
        _read(tmp_path / "a.csv", 'text\n"never closed\n' + "row after row\n" * 5000)


def test_jsonl_takes_objects_and_strings(tmp_path: Path) -> None:
    lines = ['{"text": "a", "more": [1, NaN, {"x": null}]}', '"bare"', "{broken", "[1]", '{"other": 1}', '{"text": 5}',
             '{"text": null}', "", '{"text": "\\ud800"}', "[" * 100_000]  # fmt: skip
    found = _read(tmp_path / "a.jsonl", "\n".join(lines))
    assert len(found) == len(lines)
    assert found[0].fields == {"text": "a", "more": [1, None, {"x": None}]}
    assert found[1].text == "bare"
    assert list(_problems(found)) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert "expected the key text, found other" in (found[4].problem or "")


def test_gzip_is_read_and_a_cut_file_is_told(tmp_path: Path) -> None:
    whole = gzip.compress(b"one\ntwo\n" * 1000)
    assert len(_read(tmp_path / "a.txt.gz", whole)) == 2000
    with pytest.raises(ValueError, match="expected a whole gzip file"):
        _read(tmp_path / "b.txt.gz", whole[:-10])


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found xlsx; say what it is with --input-format"):
        _read(tmp_path / "a.xlsx", "x")
    assert _read(tmp_path / "a.log", "x", format="txt")[0].text == "x"


def test_arguments_are_numbered() -> None:
    assert [r.line for r in from_arguments(["a", ""])] == [1, 2]


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_give_as_many_records_as_lines(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    expected = content.count(b"\n") + (not content.endswith(b"\n") and content.removeprefix(b"\xef\xbb\xbf") != b"")
    for name in ("a.txt", "a.jsonl"):
        found = _read(folder / name, content)
        assert [r.line for r in found] == list(range(1, expected + 1))
        json.dumps([r.fields for r in found], ensure_ascii=False).encode()
        assert all(r.text.strip() or r.problem for r in found)
