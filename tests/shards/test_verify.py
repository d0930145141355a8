"""verify finds every kind of damage, names where it is, and finds nothing in sound shards."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_clips import write_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.index import ShardIndex, index_path
from shards.manifest import BadManifest, Manifest, Shard, Split, label_statistics, parse_manifest, read_manifest
from shards.prepare import npy
from shards.verify import Report, verify

VERIFY = Path(__file__).parents[2] / "launch" / "verify.py"


def write_shards(
    folder: Path,
    splits: dict[str, list[dict[str, bytes]]],
    task: str = "sentiment",
    claim: dict[str, int] | None = None,
) -> Path:
    """A folder of one shard per split with the given members, index and a true manifest."""
    from webdataset.writer import TarWriter

    made = {}
    for name, contents in splits.items():
        tar = folder / name / "000000.tar"
        tar.parent.mkdir(parents=True)
        with tar.open("wb") as file, TarWriter(file, encoder=False, mtime=0.0) as writer:
            for number, members in enumerate(contents):
                for suffix, data in members.items():
                    writer.write({"__key__": f"{number:08d}", suffix: data})
        index = ShardIndex.build(tar)
        index.save(index_path(tar))
        shard = Shard(file=f"{name}/000000.tar", bytes=index.bytes, sha256=index.sha256, samples=len(contents))
        labels = [json.loads(members["json"])["label"] for members in contents]
        try:
            statistics = label_statistics(labels, task)
        except (KeyError, TypeError, ValueError):
            statistics = {}
        made[name] = Split(shards=(shard,), labels=statistics)
    manifest = Manifest(dataset="made", task=task, splits=made)
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", frames=5, size=(64, 48)).read_bytes()


def sample(clip: bytes, identity: str, split: str = "train", **changes: Any) -> dict[str, bytes]:
    facts = {"id": identity, "dataset": "made", "video_id": identity, "clip_id": "", "text": "fine", "label": 1.0}
    facts |= {"split": split, "duration": 0.5, "fps": 10.0, "frames": 5} | changes
    return {"json": json.dumps(facts).encode(), "mp4": clip, "faces.npy": npy(np.zeros((64, 8), np.float32))}


@pytest.fixture
def sound(clip: bytes, tmp_path: Path) -> Path:
    train = [sample(clip, f"t{number}") for number in range(3)]
    return write_shards(tmp_path / "shards", {"train": train, "test": [sample(clip, "x", "test")]})


def check(folder: Path, **how: Any) -> Report:
    return verify(folder, workers=1, progress=False, **how)


def found(report: Report) -> set[tuple[str, str]]:
    return {(fault.where, fault.cause) for fault in report.faults}


def test_sound_shards_are_fine(sound: Path) -> None:
    report = check(sound)
    assert not report.faults
    assert (report.shards, report.samples, report.clips) == (2, 4, 4)
    assert not check(sound, fast=True).faults


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def _cut(folder: Path) -> None:
    path = folder / "train/000000.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 2000])  # inside faces.npy


def _flip_in_header(folder: Path) -> None:
    flip(folder / "train/000000.tar", 3)


def _flip_in_member(folder: Path) -> None:
    flip(folder / "train/000000.tar", 520)


def _other_index(folder: Path) -> None:
    shutil.copy(folder / "test/000000.idx", folder / "train/000000.idx")


def _bad_index(folder: Path) -> None:
    flip(folder / "train/000000.idx", 40)


def _gone(folder: Path) -> None:
    (folder / "train/000000.tar").unlink()


def _stranger(folder: Path) -> None:
    shutil.copy(folder / "test/000000.tar", folder / "test/000007.tar")


def _swapped(folder: Path) -> None:
    shutil.copy(folder / "test/000000.tar", folder / "train/000000.tar")


@pytest.mark.parametrize(
    ("damage", "expected", "fast"),
    [
        (_cut, {"wrong size", "wrong checksum", "tar truncated", "wrong count"}, {"wrong size", "wrong checksum"}),
        (_flip_in_header, {"wrong checksum", "tar damaged"}, {"wrong checksum"}),
        (_flip_in_member, {"wrong checksum"}, {"wrong checksum"}),
        (_other_index, {"stale index"}, set()),
        (_bad_index, {"bad index"}, set()),
        (_gone, {"unreadable"}, {"unreadable"}),
        (_stranger, {"unknown shard"}, {"unknown shard"}),
        (_swapped, {"wrong size", "wrong checksum", "wrong count"}, {"wrong size", "wrong checksum"}),
    ],
)
def test_damaged_files_are_found(
    damage: Callable[[Path], None], expected: set[str], fast: set[str], sound: Path
) -> None:
    damage(sound)
    assert expected <= {cause for _, cause in found(check(sound))}
    assert fast == {cause for _, cause in found(check(sound, fast=True))}


def test_a_missing_index_is_no_fault(sound: Path) -> None:
    (sound / "train/000000.idx").unlink()
    report = check(sound)
    assert not report.faults
    assert "train/000000.idx" in report.notes[0]


def test_wrong_samples_are_found_by_their_member(clip: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    good = sample(clip, "good")
    contents = [
        good,
        sample(clip, "label", label=5.0),
        sample(clip, "nan") | {"json": good["json"].replace(b"1.0", b"NaN")},
        good | {"json": b"{"},
        {suffix: data for suffix, data in good.items() if suffix != "json"}
        | {"json": sample(clip, "t", text=" ")["json"]},
        sample(clip, "split", split="test"),
        sample(clip, "other", dataset="other"),
        sample(rng.bytes(2000), "undecodable"),
        sample(clip[: len(clip) // 2], "half"),
        sample(clip, "frames", frames=6),
        sample(clip, "objects") | {"faces.npy": objects.getvalue()},
        sample(clip, "shape") | {"faces.npy": npy(np.zeros((63, 8), np.float32))},
        {suffix: data for suffix, data in sample(clip, "no faces").items() if suffix != "faces.npy"},
        sample(clip, "good"),
    ]
    folder = write_shards(tmp_path / "shards", {"train": contents[:3] + contents[4:]})
    where = "train/000000.tar:0000000"
    assert found(check(folder)) >= {
        (f"{where}1.json", "label out of range"),
        (f"{where}2.json", "invalid"),
        (f"{where}3.json", "empty text"),
        (f"{where}4.json", "wrong split"),
        (f"{where}5.json", "wrong dataset"),
        (f"{where}6.mp4", "undecodable"),
        (f"{where}7.mp4", "undecodable"),
        (f"{where}8.mp4", "wrong frames"),
        (f"{where}9.faces.npy", "invalid"),
        ("train/000000.tar:00000010.faces.npy", "invalid"),
        ("train/000000.tar:00000011.faces.npy", "missing"),
        ("train/000000.tar:00000012", "duplicate id"),
    }


def test_an_id_in_two_splits_is_leakage(clip: bytes, tmp_path: Path) -> None:
    folder = write_shards(
        tmp_path / "shards", {"train": [sample(clip, "a")], "test": [sample(clip, "a", "test", video_id="v")]}
    )
    (fault,) = check(folder).faults
    assert fault.cause == "duplicate id"
    assert "leakage" in fault.detail


def test_statistics_that_do_not_fit_are_found(sound: Path) -> None:
    whole = json.loads((sound / "manifest.json").read_text())
    whole["splits"]["train"]["labels"]["mean"] = 0.5
    (sound / "manifest.json").write_text(json.dumps(whole))
    assert found(check(sound)) == {("manifest.json", "wrong statistics")}


def test_the_command_prints_a_list_and_its_exit_code(sound: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(VERIFY), *arguments], capture_output=True, text=True, timeout=120)

    assert run(str(sound), "--fast").returncode == 0
    flip(sound / "train/000000.tar", 520)
    done = run(str(sound), "--fast")
    assert done.returncode == 1
    assert "train/000000.tar: wrong checksum" in done.stdout
    done = run(str(sound / "nowhere"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "found no manifest.json" in done.stderr


def test_a_packed_corpus_verifies(sample_shards: Path) -> None:
    report = verify(sample_shards, progress=False)
    assert not report.faults
    assert report.clips == 64


def test_a_manifest_survives_its_file(sample_shards: Path) -> None:
    manifest = read_manifest(sample_shards)
    assert parse_manifest(manifest.to_json().encode(), "x") == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "format: expected 1"),
        (lambda m: m.update(task="other"), "task"),
        (lambda m: m["splits"].update(dev={}), "splits"),
        (lambda m: m["splits"]["train"].update(samples=1), "the shards' sum"),
        (lambda m: m["splits"]["train"]["shards"][0].update(file="../../etc/passwd"), "file"),
        (lambda m: m["splits"]["train"]["shards"][0].update(file="test/000000.tar"), "file"),
        (lambda m: m["splits"]["train"]["shards"].append(m["splits"]["train"]["shards"][0]), "each once"),
        (lambda m: m["splits"]["train"]["shards"][0].update(sha256="x"), "sha256"),
        (lambda m: m["splits"]["train"]["shards"][0].update(bytes=-1), "bytes"),
        (lambda m: m["splits"]["train"]["shards"][0].update(samples=True), "samples"),
        (lambda m: m["splits"].update(train=[]), "splits.train"),
    ],
)
def test_wrong_manifests_are_told(change: Callable[[dict[str, Any]], Any], message: str, sound: Path) -> None:
    whole = json.loads((sound / "manifest.json").read_text())
    change(whole)
    with pytest.raises(BadManifest, match=message):
        parse_manifest(json.dumps(whole).encode(), "manifest.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "format": st.just(1) | json_values,
            "dataset": st.text(max_size=5) | json_values,
            "task": st.just("sentiment") | json_values,
            "splits": st.dictionaries(
                st.sampled_from(["train", "valid", "x"]),
                json_values
                | st.fixed_dictionaries({"samples": json_values, "shards": st.lists(json_values, max_size=2)}),
                max_size=2,
            )
            | json_values,
            "packing": json_values,
        },
    )
)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_manifest_or_told(whole: dict[str, Any]) -> None:
    try:
        parse_manifest(json.dumps(whole).encode(), "x")
    except BadManifest as error:
        assert str(error).startswith("x: ")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_told(data: bytes) -> None:
    with contextlib.suppress(BadManifest):
        parse_manifest(data, "x")


def test_deeply_nested_json_is_told() -> None:
    with pytest.raises(BadManifest):
        parse_manifest(b"[" * 200_000, "x")
