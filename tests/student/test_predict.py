"""launch/predict.py as a person uses it."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_students import CORPUS, MAX_TOKENS, ROOT, rows, run

from shards import progress
from vadv.student.engines import choose_engine
from vadv.student.folder import open_student
from vadv.student.predict import Options, predict
from vadv.student.predictor import Predictor


@pytest.fixture(scope="session")
def expected(bert: Path) -> dict[str, float]:
    opened = open_student(bert)
    found = Predictor(opened, choose_engine(opened, "onnx")).predict(CORPUS)
    return dict(zip(CORPUS, found.tolist()))


def _check(found: list[dict[str, object]], expected: dict[str, float], column: str = "text") -> None:
    assert [row[column] for row in found] == list(expected)
    np.testing.assert_allclose([row["sentiment"] for row in found], list(expected.values()), atol=1e-5)


def test_arguments(bert: Path, expected: dict[str, float]) -> None:
    found = run("predict.py", "--student", str(bert), *CORPUS)
    assert (found.returncode, found.stderr) == (0, b"")
    _check(rows(found), expected)
    assert set(rows(found)[0]) == {"text", "sentiment"}


def test_every_input_gives_the_same(bert: Path, expected: dict[str, float], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(CORPUS))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"n": i, "text": t}) + "\n" for i, t in enumerate(CORPUS)))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["n", "review"], *enumerate(CORPUS)])
    txt = rows(run("predict.py", "--student", str(bert), "--input", str(tmp_path / "a.txt")))
    _check(txt, expected)
    jsonl = rows(run("predict.py", "--student", str(bert), "--input", str(tmp_path / "a.jsonl")))
    _check(jsonl, expected)
    assert [row["n"] for row in jsonl] == list(range(len(CORPUS)))
    table = run("predict.py", "--student", str(bert), "--input", str(tmp_path / "a.csv"), "--column", "review")
    _check(rows(table), expected, "review")
    assert [row["n"] for row in rows(table)] == [str(i) for i in range(len(CORPUS))]
    for dash in (["-"], ["--input", "-"]):
        _check(rows(run("predict.py", "--student", str(bert), *dash, stdin="\n".join(CORPUS).encode())), expected)


def test_csv_out(bert: Path, expected: dict[str, float], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f'"{text}",x\n' for text in CORPUS) + ",y\n")
    found = run("predict.py", "--student", str(bert), "--input", str(tmp_path / "a.csv"), "--output", str(out))
    assert (found.returncode, found.stdout) == (1, b"")
    table = list(csv.DictReader(io.StringIO(out.read_text())))
    assert list(table[0]) == ["text", "label", "sentiment", "sentiment_note"]
    _check([{**row, "sentiment": float(row["sentiment"])} for row in table[:-1]], expected)
    assert table[-1] == {"text": "", "label": "y", "sentiment": "", "sentiment_note": "line 7: empty text"}


def test_output_order_is_input_order_over_windows(bert: Path, mixed: list[str]) -> None:
    found = run("predict.py", "--student", str(bert), "-", "--window", "7", stdin="\n".join(mixed).encode())
    whole = run("predict.py", "--student", str(bert), "-", stdin="\n".join(mixed).encode())
    assert [row["text"] for row in rows(found)] == mixed
    np.testing.assert_allclose(
        [row["sentiment"] for row in rows(found)], [row["sentiment"] for row in rows(whole)], atol=2e-6
    )


def test_cut_texts_are_said(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short\n" + "good day " * 100_000 + "\nshort\n")
    found = run("predict.py", "--student", str(bert), "--input", str(tmp_path / "a.txt"))
    assert found.returncode == 0
    assert [row.get("sentiment_note") for row in rows(found)] == [None, f"cut to {MAX_TOKENS} tokens", None]
    assert f"line 2: cut to {MAX_TOKENS} tokens" in found.stderr.decode()
    assert "1 cut to the student's limit" in found.stderr.decode()


def test_hard_lines_are_named_and_the_rest_is_scored(bert: Path) -> None:
    found = run("predict.py", "--student", str(bert), "-", stdin=b"good\n\nbad \xff\nnul \x00\n" + CORPUS[0].encode())
    assert found.returncode == 1
    got = rows(found)
    assert [row["sentiment"] is None for row in got] == [False, True, True, True, False]
    for line in (2, 3, 4):
        assert f"line {line}:" in got[line - 1]["sentiment_note"]
        assert f"line {line}:" in found.stderr.decode()


def test_many_remarks_do_not_flood_standard_error(bert: Path) -> None:
    found = run("predict.py", "--student", str(bert), "-", stdin=b"\n" * 5000)
    assert len(rows(found)) == 5000
    assert len(found.stderr.splitlines()) == 11


def test_standard_input_is_answered_as_it_comes(bert: Path) -> None:
    command = [sys.executable, str(ROOT / "launch" / "predict.py"), "--student", str(bert), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        for text in CORPUS[:3]:  # each is sent only when the one before has been answered
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_broken_pipe_ends_quietly(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(CORPUS * 2000))
    command = [sys.executable, str(ROOT / "launch" / "predict.py"), "--student", str(bert), "--window", "100"]
    command += ["--input", str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_ctrl_c_while_waiting_for_input_ends_at_once(bert: Path) -> None:
    command = [sys.executable, str(ROOT / "launch" / "predict.py"), "--student", str(bert), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"good\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b"interrupted\n"


def test_memory_does_not_grow_with_the_file(bert: Path, tmp_path: Path) -> None:
    """Ten times the lines, the same memory (measured on the whole process, model included)."""
    code = (
        "import resource, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
        "import predict\n"
        "predict.main()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks = []
    for lines in (4_000, 40_000):
        (tmp_path / "a.txt").write_text("a good day\nnever again\n" * (lines // 2))
        command = [sys.executable, "-c", code, str(ROOT / "launch" / "predict.py"), "--student", str(bert)]
        command += [
            "--input",
            str(tmp_path / "a.txt"),
            "--window",
            "1000",
            "--output",
            str(tmp_path / f"{lines}.jsonl"),
        ]
        found = subprocess.run(command, capture_output=True, check=True)
        peaks.append(int(found.stderr.split()[-1]))
    assert (tmp_path / "40000.jsonl").read_text().count("\n") == 40_000
    assert peaks[1] - peaks[0] < 8_000, f"kB: {peaks}"


def test_needs_neither_torch_nor_deepspeed(bert: Path) -> None:
    code = (
        "import sys; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
        "import predict\n"
        "predict.main()\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'deepspeed', 'transformers'}))"
    )
    command = [sys.executable, "-c", code, str(ROOT / "launch" / "predict.py"), "--student", str(bert), "good"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.splitlines()[-1] == b"[]"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected texts, or --input FILE, or - for standard input"),
        (["text", "--input", "a.txt"], "one of them"),
        (["--input", "nothing.txt"], "nothing.txt"),
        (["text", "--resume"], "--resume: expected --input FILE and --output FILE"),
        (["text", "--output", "/dev/stdout"], "expected a file; leave it out to write to standard output"),
        (["text", "--output", "no/such/folder"], "no/such/folder"),
        (["text", "--threads", "0"], "--threads: expected at least 1"),
        (["text", "--max-tokens", "1000"], "--max-tokens: expected a number from 3 to the model's 64, found 1000"),
        (["text", "--student", "nowhere"], "nowhere: expected a student folder, found nothing"),
        (["text", "--field", "text"], "expected no column text, found one; name the prediction with --field"),
    ],
)
def test_mistakes_are_one_line(bert: Path, arguments: list[str], told: str) -> None:
    found = run("predict.py", "--student", str(bert), *arguments)
    assert found.returncode == 2
    assert told in found.stderr.decode()
    assert found.stderr.count(b"\n") == 1 and found.stdout == b""


def test_a_column_of_that_name_is_not_overwritten(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,sentiment\ngood,3\n")
    arguments = ["--student", str(bert), "--input", str(tmp_path / "a.csv")]
    assert b"name the prediction with --field" in run("predict.py", *arguments).stderr
    found = rows(run("predict.py", *arguments, "--field", "predicted"))
    assert found[0]["sentiment"] == "3" and isinstance(found[0]["predicted"], float)


class TestResume:
    """An interrupted run over a file goes on and ends with the file of an uninterrupted one."""

    @pytest.fixture
    def source(self, tmp_path: Path, mixed: list[str]) -> Path:
        path = tmp_path / "many.jsonl"
        path.write_text("".join(json.dumps({"n": i, "text": mixed[i % len(mixed)]}) + "\n" for i in range(12_000)))
        return path

    def _arguments(self, bert: Path, source: Path, out: Path) -> list[str]:
        return ["--student", str(bert), "--input", str(source), "--output", str(out), "--window", "200"]

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_bytes_are_the_same(self, bert: Path, source: Path, tmp_path: Path, how: signal.Signals) -> None:
        whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
        assert run("predict.py", *self._arguments(bert, source, whole)).returncode == 0
        command = [sys.executable, str(ROOT / "launch" / "predict.py"), *self._arguments(bert, source, cut)]
        for _ in range(2):  # interrupted twice
            seen = cut.stat().st_size if cut.exists() else 0
            process = subprocess.Popen([*command, "--resume"], stderr=subprocess.PIPE)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (not cut.exists() or cut.stat().st_size <= seen + 20_000):
                if process.poll() is not None:
                    break
                time.sleep(0.005)
            process.send_signal(how)
            process.communicate(timeout=60)
            assert process.returncode != 0, "the run was over before it could be interrupted: give it more lines"
            assert (tmp_path / "cut.jsonl.resume.json").exists()
            # What a kill may leave behind the last complete window.
            with cut.open("ab") as file:
                file.write(b'{"n": 99999, "te')
        assert run("predict.py", *self._arguments(bert, source, cut), "--resume").returncode == 0
        assert cut.read_bytes() == whole.read_bytes()
        assert not (tmp_path / "cut.jsonl.resume.json").exists()
        again = run("predict.py", *self._arguments(bert, source, cut), "--resume")
        assert again.returncode == 0 and b"is complete: nothing to do" in again.stderr

    def test_an_unfinished_output_is_neither_overwritten_nor_mixed(
        self, bert: Path, roberta: Path, source: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.jsonl"
        (tmp_path / "bad.jsonl").write_text('{"text": "good"}\n' * 300 + '{"text": "x", "sentiment": 1}\n')
        arguments = self._arguments(bert, tmp_path / "bad.jsonl", out)
        assert b"line 301: expected no column sentiment" in run("predict.py", *arguments).stderr
        assert b"an interrupted run's output; go on with --resume" in run("predict.py", *arguments).stderr
        other = self._arguments(roberta, tmp_path / "bad.jsonl", out)
        assert b"expected to go on with student" in run("predict.py", *other, "--resume").stderr
        other = self._arguments(bert, source, out)
        assert b"expected to go on with input" in run("predict.py", *other, "--resume").stderr
        out.write_bytes(b"")
        assert b"expected at least" in run("predict.py", *arguments, "--resume").stderr

    def test_the_input_is_never_the_output(self, bert: Path, source: Path) -> None:
        before = source.stat().st_size
        found = run("predict.py", *self._arguments(bert, source, source))
        assert found.returncode == 2 and source.stat().st_size == before
        assert os.fspath(source).encode() in found.stderr


def test_on_a_terminal_a_quick_run_shows_no_bar(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(CORPUS * 20))
    parent, child = pty.openpty()
    command = [sys.executable, str(ROOT / "launch" / "predict.py"), "--student", str(bert), "--window", "10"]
    command += ["--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "out.jsonl")]
    process = subprocess.Popen(command, stderr=child)
    os.close(child)
    assert process.wait(60) == 0
    shown = os.read(parent, 65536)
    os.close(parent)
    assert shown.strip().startswith(b"100 texts in")


def test_a_long_run_says_how_far_it_is(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    source, output = tmp_path / "texts.txt", str(tmp_path / "out.csv")
    source.write_text("fair enough\n" * 40)
    predict(Options(student=str(bert), texts=[], input=str(source), output=output, window=20))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[3] for line in lines] == ["20 texts", "40 texts"]
    assert re.fullmatch(r"predicting: 0 of 0 MB, [\d.]+/s, 0:00:00 to go, 40 texts, [\d,]+/s", lines[-1])
    predict(Options(student=str(bert), texts=["fair enough"] * 30, window=20))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["predicting: 20 texts", "predicting: 30 texts"]
