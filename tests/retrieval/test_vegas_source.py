"""The VEGAS source: the published feature file and folders of videos, good and bad."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_data import feature_arrays, write_h5

from shards.sources.record import Raw, Rejected
from shards.sources.vegas import Vegas


def test_the_published_layout_is_read(tmp_path: Path) -> None:
    arrays = feature_arrays(200, 40)
    records = list(Vegas(h5=write_h5(tmp_path / "f.h5", arrays)))
    assert all(isinstance(record, Raw) and record.video is None for record in records)
    by_split: dict[str, list[Any]] = {}
    for record in records:
        by_split.setdefault(record.split, []).append(record)
    assert len(by_split["test"]) == 40
    assert len(by_split["train"]) + len(by_split["valid"]) == 200
    assert 8 <= len(by_split["valid"]) <= 35  # a tenth, by hash
    first = records[0]
    assert isinstance(first, Raw) and first.audio is not None and first.visual is not None
    np.testing.assert_array_equal(first.audio, arrays["audio_train"][0])
    np.testing.assert_array_equal(first.visual, arrays["visual_train"][0])
    assert first.label == arrays["lab_train"][0]
    again = list(Vegas(h5=tmp_path / "f.h5"))
    assert [r.split for r in again] == [r.split for r in records]


@pytest.mark.parametrize("form", ["column", "one-hot", "float"])
def test_labels_come_in_several_forms(tmp_path: Path, form: str) -> None:
    arrays = feature_arrays(20, 10)
    label = arrays["lab_train"]
    forms = {"column": label[:, None], "one-hot": np.eye(10)[label], "float": label.astype(np.float64)}
    arrays["lab_train"] = forms[form]
    records = [r for r in Vegas(h5=write_h5(tmp_path / "f.h5", arrays)) if isinstance(r, Raw) and r.split != "test"]
    assert [r.label for r in records] == label.tolist()


def broken(arrays: dict[str, np.ndarray], fault: str) -> None:
    """Spoil a set of arrays in one way."""
    if fault == "missing key":
        del arrays["visual_test"]
    elif fault == "wrong width":
        arrays["audio_train"] = arrays["audio_train"][:, :100]
    elif fault == "nan":
        arrays["visual_train"][7, 3] = np.nan
    elif fault == "infinity":
        arrays["audio_test"][2, 0] = np.inf
    elif fault == "lengths":
        arrays["lab_test"] = arrays["lab_test"][:-3]
    elif fault == "text":
        arrays["lab_train"] = np.array([b"dog"] * len(arrays["lab_train"]))
    elif fault == "half labels":
        arrays["lab_train"] = arrays["lab_train"] + 0.5
    elif fault == "negative labels":
        arrays["lab_train"] = arrays["lab_train"] - 1
    elif fault == "two hot":
        arrays["lab_train"] = np.ones((len(arrays["lab_train"]), 10))
    elif fault == "empty":
        for kind in ("audio", "visual", "lab"):
            arrays[f"{kind}_test"] = arrays[f"{kind}_test"][:0]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing key", "visual_test is missing"),
        ("wrong width", r"audio_train: expected shape \(n, 128\), found \(20, 100\); --audio-width"),
        ("nan", r"visual_train: expected finite numbers, found NaN or infinity in row 7 \(1 such rows\)"),
        ("infinity", r"audio_test: expected finite numbers, found NaN or infinity in row 2"),
        ("lengths", "audio_test, visual_test and lab_test, found 10, 10 and 7"),
        ("text", "lab_train: expected numbers"),
        ("half labels", "lab_train: expected class numbers"),
        ("negative labels", "lab_train: expected class numbers"),
        ("two hot", "lab_train: expected one-hot rows"),
        ("empty", "audio_test: expected at least one row"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, fault: str, message: str) -> None:
    arrays = feature_arrays(20, 10)
    broken(arrays, fault)
    with pytest.raises(ValueError, match=message) as caught:
        list(Vegas(h5=write_h5(tmp_path / "f.h5", arrays)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["missing key", "wrong width", "nan", "lengths"])
def test_the_command_ends_with_that_line(tmp_path: Path, fault: str) -> None:
    arrays = feature_arrays(20, 10)
    broken(arrays, fault)
    file = write_h5(tmp_path / "vegas_feature.h5", arrays)
    command = [sys.executable, "launch/pack.py", "vegas", "--h5", str(file), "--out", str(tmp_path / "shards")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and not (tmp_path / "shards" / "manifest.json").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"pack.py: {file}: ")
    key = {"missing key": "visual_test", "wrong width": "audio_train", "nan": "visual_train", "lengths": "lab_test"}
    assert key[fault] in line


def test_no_hdf5_and_no_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "f.h5").write_bytes(b"something else" * 100)
    with pytest.raises(ValueError, match="expected an HDF5 file"):
        list(Vegas(h5=tmp_path / "f.h5"))
    with pytest.raises(FileNotFoundError, match="--h5: expected a feature file"):
        list(Vegas(h5=tmp_path / "none.h5"))


def test_other_widths_can_be_asked_for(tmp_path: Path) -> None:
    arrays = feature_arrays(20, 10)
    for part in ("train", "test"):
        arrays[f"audio_{part}"] = arrays[f"audio_{part}"][:, :100]
    write_h5(tmp_path / "f.h5", arrays)
    record = next(iter(Vegas(h5=tmp_path / "f.h5", audio_width=100)))
    assert isinstance(record, Raw) and record.audio is not None and record.audio.shape == (100,)


def videos(root: Path) -> Path:
    """Empty files in VEGAS' layout: iterating a source opens no video."""
    for name in ("dog", "baby_crying"):
        for number in range(20):
            path = root / name / "videos" / f"video_{number:05d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (root / "dog" / "notes.txt").touch()
    return root


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    records = [r for r in Vegas(root=videos(tmp_path)) if isinstance(r, Raw)]
    assert len(records) == 40
    assert {(r.text, r.label) for r in records} == {("baby crying", 0), ("dog", 1)}
    assert records[0].id == "baby_crying/videos/video_00000"
    assert {r.split for r in records} == {"train", "valid", "test"}


def test_a_table_may_name_classes_and_splits(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text(
        "id,video,label,split\na,a.mp4,dog,train\nb,b.mp4,baby_crying,test\nc,../c.mp4,dog,train\nd,d.mp4,dog,valid\n"
    )
    records = list(Vegas(root=tmp_path))
    assert [(r.id, r.label, r.split) for r in records if isinstance(r, Raw)] == [
        ("a", 1, "train"),
        ("b", 0, "test"),
        ("d", 1, "valid"),
    ]
    assert [r.cause for r in records if isinstance(r, Rejected)] == ["unsafe path"]


def test_vectors_from_files_are_checked(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    features = tmp_path / "audio" / "a"
    features.mkdir(parents=True)
    good = np.arange(4, dtype=np.float64)
    arrays = {
        "0good": good,
        "1width": np.zeros(5),
        "2nan": np.full(4, np.nan),
        "3shape": np.zeros((2, 2)),
        "4text": np.array(["x"]),
    }
    for name, array in arrays.items():
        np.save(features / f"{name}.npy", array)
    np.save(features / "5pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in (*arrays, "5pickle", "6missing"):
        (root / "a" / f"{name}.mp4").touch()
    found = {r.id: r for r in Vegas(root=root, audio_features=tmp_path / "audio")}
    first = found["a/0good"]
    assert isinstance(first, Raw) and first.audio is not None and first.audio.dtype == np.float32
    np.testing.assert_array_equal(first.audio, good)
    causes = {key: r.cause for key, r in found.items() if isinstance(r, Rejected)}
    assert causes.pop("a/6missing") == "no audio features"
    assert set(causes) == {f"a/{name}" for name in ("1width", "2nan", "3shape", "4text", "5pickle")}
    assert set(causes.values()) == {"bad audio features"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either --root"),
        ({"root": "here", "h5": "there"}, "either --root"),
        ({"h5": "there", "audio_onnx": "m.onnx"}, "--h5 brings its own features"),
        ({"root": "here", "valid_share": 0.0}, "--valid-share"),
        ({"root": "here", "audio_features": "tests", "audio_onnx": "m.onnx"}, "--audio-features or --audio-onnx"),
        ({"root": "here", "audio_features": "nowhere"}, "--audio-features: expected a folder"),
    ],
)
def test_options_that_do_not_fit_are_told(options: dict[str, Any], message: str) -> None:
    paths = {key: Path(value) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Vegas(**paths)


def test_a_folder_without_classes_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder per event class"):
        list(Vegas(root=tmp_path))
    with pytest.raises(FileNotFoundError, match="expected a folder of videos"):
        list(Vegas(root=tmp_path / "none"))
