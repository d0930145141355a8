"""Packing end to end: what is written, what is left out, and that interruptions leave no trace."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_clips import corrupt, write_clip, write_no_frames, write_sound_only
from filelock import FileLock

from shards.index import ShardIndex, index_path
from shards.journal import units_of
from shards.manifest import read_manifest
from shards.pack import Options, pack
from shards.packed_form import Coding
from shards.sources.csv import Csv
from shards.sources.record import Raw

PACK = Path(__file__).parents[2] / "launch" / "pack.py"
COLUMNS = ["id", "video", "text", "label", "split", "start", "end"]


def quiet(**changes: Any) -> Options:
    return Options(**({"shard_clips": 4, "progress": False} | changes))


def write_rows(root: Path, rows: list[dict[str, Any]]) -> Path:
    with (root / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return root


def row(identity: str, video: str, **changes: Any) -> dict[str, Any]:
    return {"id": identity, "video": video, "text": f"text of {identity}", "label": 1, "split": "train"} | changes


def samples(folder: Path) -> list[dict[str, Any]]:
    """Every sample of a folder by the plain webdataset reader, in order."""
    import webdataset

    urls = [str(folder / shard.file) for split in read_manifest(folder).splits.values() for shard in split.shards]
    return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nineteen small clips in three splits, of which one is black."""
    root = tmp_path_factory.mktemp("corpus")
    rows = []
    for number in range(19):
        write_clip(root / f"{number}.mp4", frames=4 + number % 3, size=(64, 48), black=number == 6)
        split = "train" if number < 12 else "valid" if number < 15 else "test"
        rows.append(row(f"clip{number}", f"{number}.mp4", split=split, label=number % 7 - 3))
    return write_rows(root, rows)


@pytest.fixture(scope="module")
def packed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(Csv(root=corpus, name="small"), out, quiet())
    return out


def test_plain_webdataset_reads_every_sample(sample_shards: Path) -> None:
    manifest = read_manifest(sample_shards)
    found = samples(sample_shards)
    assert len(found) == sum(split.samples for split in manifest.splits.values()) == 64
    for sample in found:
        facts = json.loads(sample["json"])
        faces = np.load(io.BytesIO(sample["faces.npy"]), allow_pickle=False)
        assert facts["dataset"] == "sample"
        assert facts["id"] == f"{facts['video_id']}$_${facts['clip_id']}"
        assert faces.shape == (64, 8)
        assert faces.dtype == np.float32
        assert faces.any(axis=1).mean() > 0.9
        assert 2.0 <= facts["duration"] <= 2.6
        assert sample["mp4"][4:8] == b"ftyp"


def test_what_a_pack_leaves_in_its_folder(packed: Path) -> None:
    manifest = read_manifest(packed)
    tars = [shard.file for split in manifest.splits.values() for shard in split.shards]
    indices = [index_path(tar).as_posix() for tar in tars]
    assert sorted(tree(packed)) == sorted([*tars, *indices, "manifest.json", "rejected.csv", "labels.png"])
    assert [shard.samples for shard in manifest.splits["train"].shards] == [4, 3, 4]
    assert manifest.splits["train"].labels["histogram"] == {
        str(value): sum(number % 7 - 3 == value for number in range(12) if number != 6) for value in range(-3, 4)
    }
    assert (packed / "labels.png").read_bytes().startswith(b"\x89PNG")
    with (packed / "rejected.csv").open(newline="") as file:
        assert [(r["id"], r["cause"]) for r in csv.DictReader(file)] == [("clip6", "black")]


def test_keys_are_positions_in_the_split_and_members_keep_their_order(packed: Path) -> None:
    for shard in read_manifest(packed).splits["train"].shards:
        index = ShardIndex.build(packed / shard.file)
        assert not index.errors
        assert list(index.members(0)) == ["json", "mp4", "faces.npy"]
    keys = [sample["__key__"] for sample in samples(packed)][:11]
    assert keys == [f"{number:08d}" for number in range(12) if number != 6]


def test_the_stored_index_is_the_tars_own(packed: Path) -> None:
    for tar in packed.rglob("*.tar"):
        assert index_path(tar).read_bytes() == ShardIndex.build(tar).tobytes()


def test_the_number_of_workers_changes_no_byte(corpus: Path, packed: Path, tmp_path: Path) -> None:
    pack(Csv(root=corpus, name="small"), tmp_path / "out", quiet(workers=1))
    assert tree(tmp_path / "out") == tree(packed)


def test_a_finished_pack_is_left_alone(corpus: Path, packed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*")}
    summary = pack(Csv(root=corpus, name="small"), packed, quiet())
    assert summary.clips == 18
    assert summary.rejected == {"black": 1}
    assert before == {path: path.stat().st_mtime_ns for path in packed.rglob("*")}


def test_another_pack_is_never_mixed_in(corpus: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other settings \\(frames 64\\)"):
        pack(Csv(root=corpus, name="small"), packed, quiet(coding=Coding(frames=16)))
    with pytest.raises(ValueError, match="other input"):
        pack(Csv(root=corpus, name="renamed"), packed, quiet())
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected an empty folder.*precious\.txt"):
        pack(Csv(root=corpus, name="small"), tmp_path, quiet())
    assert (tmp_path / "precious.txt").exists()


def test_two_packers_do_not_share_a_folder(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / ".packing").mkdir()
    with FileLock(tmp_path / ".packing" / "lock"):
        with pytest.raises(ValueError, match="another packing process"):
            pack(Csv(root=corpus, name="small"), tmp_path, quiet())


def command(corpus: Path, out: Path, *more: str) -> list[str]:
    options = ["--root", str(corpus), "--name", "small", "--out", str(out), "--shard-clips", "4", *more]
    return [sys.executable, str(PACK), "csv", *options]


def finished_units(out: Path) -> int:
    return len(list((out / ".packing" / "done").glob("*.json")))


@pytest.mark.parametrize("units", [0, 2])
def test_a_pack_killed_at_any_moment_goes_on_to_the_same_bytes(
    units: int, corpus: Path, packed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(corpus, out, "--workers", "1"), stderr=subprocess.DEVNULL, start_new_session=True
    )
    limit = time.monotonic() + 240
    while finished_units(out) < units or not list((out / ".packing").glob("*.part")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)  # only the command itself: its workers have to notice
    process.wait()
    assert not (out / "manifest.json").exists()
    _wait_for_the_end_of_session(process.pid, limit)
    done = subprocess.run(command(corpus, out), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr  # one of nineteen is rejected: more than 5 %
    assert tree(out) == tree(packed)


def _wait_for_the_end_of_session(session: int, limit: float) -> None:
    """No process of a killed command stays behind."""
    import psutil

    while True:
        alive = []
        for process in psutil.process_iter(["pid", "status"]):
            try:
                if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                    alive.append(process.pid)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        if not alive:
            return
        assert time.monotonic() < limit, alive
        time.sleep(0.02)


def test_a_journal_without_its_tar_is_not_believed(corpus: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = quiet(workers=1)
    pack(Csv(root=corpus, name="small"), out, options)
    # As after a crash before the manifest: the journal is there, one tar is gone and one was cut.
    work = out / ".packing"
    (work / "done").mkdir(parents=True)
    settings = dict(read_manifest(out).packing)
    for key in ("hours", "kept_bytes", "with_face", "rejected"):
        del settings[key]
    (work / "plan.json").write_text(json.dumps(settings))
    for split, content in read_manifest(out).splits.items():
        for shard in content.shards:
            entry = {"split": split, "shard": shard.__dict__, "rejected": [], "labels": [], "seconds": 0}
            name = shard.file.replace("/", "-").replace(".tar", ".json")
            (work / "done" / name).write_text(json.dumps(entry | {"kept": 0, "with_face": 0}))
    (out / "manifest.json").unlink()
    (out / "train" / "000000.tar").unlink()
    (out / "train" / "000001.tar").write_bytes(b"short")
    pack(Csv(root=corpus, name="small"), out, options)
    for tar in packed.rglob("*.tar"):
        assert (out / tar.relative_to(packed)).read_bytes() == tar.read_bytes()


def test_broken_clips_cost_themselves_only(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_clip(root / "good.mp4")
    write_clip(root / "black.mp4", black=True)
    write_sound_only(root / "sound.mp4")
    write_no_frames(root / "none.mp4")
    corrupt(write_clip(root / "corrupt.mp4"), 0, 0.05)
    (root / "empty.mp4").write_bytes(b"")
    write_clip(root / "-dash.mp4", frames=3, fps=30)
    write_clip(root / "ten.mp4", pix_fmt="yuv420p10le", size=(66, 50))
    write_rows(
        root,
        [
            row("good", "good.mp4", text="😀 ünïcödé — “quoted”"),
            row("black", "black.mp4"),
            row("sound", "sound.mp4"),
            row("none", "none.mp4"),
            row("corrupt", "corrupt.mp4"),
            row("empty", "empty.mp4"),
            row("missing", "missing.mp4"),
            row("-dash", "-dash.mp4", split="test"),
            row("0042", "ten.mp4", split="test", label="-3"),
            row("good", "good.mp4"),
            row("out", "../../etc/passwd"),
            row("absolute", "/etc/passwd"),
            row("nan", "good.mp4", label="nan"),
            row("high", "good.mp4", label="4"),
            row("silent", "good.mp4", text=" "),
            row("cut", "good.mp4", split="valid", start="0.5", end="1"),
            row("backwards", "good.mp4", start="1", end="0.5"),
        ],
    )
    done = subprocess.run(
        [
            sys.executable,
            str(PACK),
            "csv",
            "--root",
            str(root),
            "--out",
            str(tmp_path / "out"),
            "--max-rejected",
            "0.5",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "more than --max-rejected" in done.stderr.splitlines()[-1]
    with (tmp_path / "out" / "rejected.csv").open(newline="", encoding="utf-8") as file:
        rejected = {(r["id"], r["cause"]) for r in csv.DictReader(file)}
    assert rejected - {("none", "no video"), ("none", "no frames")} == {
        ("black", "black"),
        ("sound", "no video"),
        ("corrupt", "unreadable"),
        ("empty", "empty file"),
        ("missing", "missing"),
        ("good", "duplicate id"),
        ("out", "unsafe path"),
        ("absolute", "unsafe path"),
        ("nan", "no label"),
        ("high", "label out of range"),
        ("silent", "empty text"),
        ("backwards", "bad cut"),
    }
    assert len(rejected) == 13
    found = {json.loads(sample["json"])["id"]: json.loads(sample["json"]) for sample in samples(tmp_path / "out")}
    assert set(found) == {"good", "-dash", "0042", "cut"}
    assert found["good"]["text"] == "😀 ünïcödé — “quoted”"
    assert found["cut"]["frames"] == 5
    assert "rejected 13 (76.47 %)" in done.stdout


def test_a_full_disk_is_told_in_one_line_and_packing_goes_on_after(corpus: Path, packed: Path, tmp_path: Path) -> None:
    """The disk is full as soon as 30 kB are written: no small disk can be mounted in every place where tests run."""
    out = tmp_path / "out"
    code = (
        "import errno, sys; import shards.pack as p; from shards.durable import written_whole; import contextlib\n"
        "from pathlib import Path; from shards.sources.csv import Csv\n"
        "class Full:\n"
        "    def __init__(self, file): self.file, self.left = file, 30000\n"
        "    def write(self, data):\n"
        "        self.left -= len(data)\n"
        "        if self.left < 0: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "        return self.file.write(data)\n"
        "    def __getattr__(self, name): return getattr(self.file, name)\n"
        "@contextlib.contextmanager\n"
        "def full(path, temporary=None):\n"
        "    with written_whole(path, temporary) as file: yield Full(file)\n"
        "p.written_whole = full\n"
        "try: p.pack(Csv(root=Path(sys.argv[1]), name='small'), Path(sys.argv[2]), p.Options(shard_clips=4, progress=False))\n"
        "except p.NoSpace as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus), str(out)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == f"{out}: no space left on the disk; make room and start the same command to go on\n", (
        done.stderr
    )
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob("*.tar"))
    pack(Csv(root=corpus, name="small"), out, quiet())
    assert tree(out) == tree(packed)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    write_rows(tmp_path, [row("a", "../a.mp4")])
    with pytest.raises(ValueError, match="found 1 rows, none of them usable"):
        pack(Csv(root=tmp_path), tmp_path / "out", quiet())


def test_a_shard_whose_clips_are_all_bad_is_not_written(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_clip(root / "good.mp4", frames=3)
    write_rows(root, [*(row(f"bad{number}", "none.mp4") for number in range(4)), row("good", "good.mp4")])
    summary = pack(Csv(root=root), tmp_path / "out", quiet())
    shards = summary.manifest.splits["train"].shards
    assert [shard.file for shard in shards] == ["train/000001.tar"]
    assert [sample["__key__"] for sample in samples(tmp_path / "out")] == ["00000004"]


def test_keep_mode_stores_the_source(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    clip = write_clip(root / "a.mkv", size=(480, 360))
    write_rows(root, [row("a", "a.mkv")])
    pack(Csv(root=root), tmp_path / "out", quiet(coding=Coding(mode="keep")))
    (sample,) = samples(tmp_path / "out")
    assert sample["mkv"] == clip.read_bytes()


def test_records_without_a_video_are_packed_with_their_vectors(tmp_path: Path) -> None:
    class Vectors:
        dataset = "events"
        task = "retrieval"

        def __iter__(self) -> Any:
            for number in range(3):
                vector = np.arange(4, dtype=np.float32) + number
                yield Raw(id=f"e{number}", text="", label=number, split="train", audio=vector, visual=vector[:2])

    pack(Vectors(), tmp_path / "out", quiet())  # type: ignore[arg-type]
    found = samples(tmp_path / "out")
    assert [np.load(io.BytesIO(sample["audio.npy"])).tolist() for sample in found][1] == [1, 2, 3, 4]
    assert "mp4" not in found[0]
    assert read_manifest(tmp_path / "out").task == "retrieval"


def test_units_are_fixed_before_any_clip_is_opened() -> None:
    records = [
        Raw(id=str(number), text="t", label=0, split=split)
        for number, split in enumerate(["train"] * 5 + ["test"] * 2 + ["train"] * 2)
    ]
    units = units_of(records, 3)
    assert [(unit.file, unit.first, len(unit.records)) for unit in units] == [
        ("train/000000.tar", 0, 3),
        ("train/000001.tar", 3, 3),
        ("train/000002.tar", 6, 1),
        ("test/000000.tar", 0, 2),
    ]
