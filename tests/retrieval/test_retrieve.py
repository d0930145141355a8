"""Using the students: index, questions, ONNX, and mistakes in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from event_data import feature_arrays, write_h5

from shards.audio import decode_sound, log_mel_statistics
from shards.features import LOG_MEL, described, digest
from shards.manifest import read_manifest
from vadv.models.eics import build_students
from vadv.retrieval.folder import open_students, save_students
from vadv.retrieval.index import Index, index_features, index_shards, index_vectors, open_index, save_index, unit
from vadv.retrieval.outside import vector_of

GIVEN = described({})
"""Of vectors that came with their clips."""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Students of the feature file's widths, trained a little."""
    arrays = feature_arrays()
    made = build_students({"audio": 128, "visual": 1024}, hidden=32, classes=10, seed=1)
    inputs = {name: torch.from_numpy(arrays[f"{name}_train"]) for name in made}
    label = torch.from_numpy(arrays["lab_train"])
    optimizer = torch.optim.Adam([p for s in made.values() for p in s.parameters()], lr=1e-2)
    for name, one in made.items():
        one.standardise(inputs[name])
    for _ in range(40):
        optimizer.zero_grad()
        loss = sum(torch.nn.functional.cross_entropy(made[n](inputs[n]).logit, label) for n in made)
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    folder = tmp_path_factory.mktemp("run") / "student"
    folder.mkdir()
    classes = [f"class {c}" for c in range(10)]
    save_students(folder, made, hidden=32, vector="logits", classes=classes, features=GIVEN)
    return folder


@pytest.fixture(scope="module")
def index(student: Path, feature_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the test split."""
    folder = tmp_path_factory.mktemp("index")
    save_index(index_shards(open_students(student), [str(feature_shards)], ["test"]), folder)
    return folder


def command(*arguments: str | Path, stdin: str = "", script: str = "retrieve") -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    line = [sys.executable, f"launch/{script}.py", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, input=stdin)


def test_a_saved_student_is_the_one_that_was_trained(student: Path) -> None:
    opened = open_students(student.parent)  # the run's folder does as well
    assert opened.widths == {"audio": 128, "visual": 1024} and opened.classes[3] == "class 3"
    from safetensors.torch import load_file

    weights = load_file(student / "model.safetensors")
    x = torch.randn(3, 128)
    z = (x - weights["audio.mean"]) / weights["audio.std"]
    logit = 0
    for space in ("explicit", "implicit"):
        h = z
        for layer in ("first", "second", "out"):
            w = weights[f"audio.head.{space}.{layer}.weight"], weights[f"audio.head.{space}.{layer}.bias"]
            h = h @ w[0].T + w[1]
            h = h.relu() if layer != "out" else h
        logit = logit + h
    np.testing.assert_allclose(opened.project("audio", x.numpy()), np.asarray(logit), rtol=1e-4, atol=1e-5)


def test_answers_are_ranked_by_cosine(student: Path, index: Path) -> None:
    arrays, opened = feature_arrays(), open_students(student)
    audio = unit(opened.project("audio", arrays["audio_test"]))
    visual = unit(opened.project("visual", arrays["visual_test"]))
    done = command("query", "--index", index, "test-000007", "test-000012", "--count", "5")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["query"] for a in answers] == ["test-000007", "test-000012"]
    for answer, row in zip(answers, (7, 12)):
        assert (answer["asked"], answer["ranked"]) == ("visual", "audio")
        similarity = audio @ visual[row]
        expected = [i for i in np.argsort(-similarity, kind="stable") if i != row][:5]
        assert [r["id"] for r in answer["results"]] == [f"test-{i:06d}" for i in expected]
        assert [r["similarity"] for r in answer["results"]] == pytest.approx(similarity[expected], abs=1e-5)
    right = [r["label"] == 7 for r in answers[0]["results"][:3]]
    assert np.mean(right) > 0.5 and answers[0]["results"][0]["class"].startswith("class ")


def test_the_reverse_is_asked_with_audio_and_ids_come_from_a_pipe(index: Path) -> None:
    done = command("query", "--index", index, "-", "--ask", "audio", "--count", "1", stdin="test-000001\ntest-000002\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(a["query"], a["asked"], a["ranked"]) for a in answers] == [
        ("test-000001", "audio", "visual"),
        ("test-000002", "audio", "visual"),
    ]


def test_a_feature_file_gives_the_same_index_as_its_shards(student: Path, index: Path, tmp_path: Path) -> None:
    file = write_h5(tmp_path / "vegas_feature.h5", feature_arrays())
    made = index_features(open_students(student), file, ["test"])
    stored = open_index(index)
    assert [clip["id"] for clip in made.clips] == [clip["id"] for clip in stored.clips]
    for name in ("audio", "visual"):
        np.testing.assert_allclose(made.vectors[name], stored.vectors[name], atol=1e-6)


def test_something_outside_of_the_index_can_ask(student: Path, index: Path, tmp_path: Path) -> None:
    arrays = feature_arrays()
    np.save(tmp_path / "sound.npy", arrays["audio_test"][5])
    done = command("query", "--index", index, "--ask", "audio", "--vector", tmp_path / "sound.npy", "--count", "3")
    outside = json.loads(done.stdout)
    inside = json.loads(command("query", "--index", index, "--ask", "audio", "test-000005", "--count", "40").stdout)
    ids = [r["id"] for r in inside["results"]]
    found = [r["id"] for r in outside["results"] if r["id"] != "test-000005"]
    assert found == ids[: len(found)]


def test_a_files_sound_can_ask(event_corpus: Path, event_shards: Path, tmp_path: Path) -> None:
    made = build_students({"audio": 128, "visual": 128}, hidden=8, classes=10, seed=1)
    (tmp_path / "student").mkdir()
    made_of = described(read_manifest(event_shards).packing)
    classes = [str(c) for c in range(10)]
    save_students(tmp_path / "student", made, hidden=8, vector="probabilities", classes=classes, features=made_of)
    indexed = command(
        "index", "--student", tmp_path, "--shards", event_shards, "--split", "valid", "test", "--out", tmp_path / "i"
    )
    assert indexed.returncode == 0 and json.loads(indexed.stdout)["clips"] == 20
    clip = open_index(tmp_path / "i").clips[3]["id"]
    video = event_corpus / "clips" / f"{clip}.mp4"
    done = command(
        "query", "--index", tmp_path / "i", "--ask", "audio", "--rank", "audio", "--video", video, "--count", "1"
    )
    assert json.loads(done.stdout)["results"][0]["similarity"] == pytest.approx(1.0, abs=1e-5)


def test_only_the_kind_of_sound_vector_that_was_learnt_can_ask(event_shards: Path, tmp_path: Path) -> None:
    """VGGish's vectors, those of vegas_feature.h5 and log-mel statistics are all 128 wide."""
    from event_data import media, onnx_mean

    vggish = onnx_mean(tmp_path / "vggish.onnx", ["p", 96, 64], [1, 2])
    wave = np.random.default_rng(0).normal(size=32000).astype(np.float32) * 0.1
    (tmp_path / "clip.mp4").write_bytes(media(wave[None]))
    names, rows = ["audio", "visual"], np.eye(10, dtype=np.float32)
    index = Index(clips=[{"id": str(n)} for n in range(10)], vectors=dict.fromkeys(names, rows), students="")

    def ask(audio: str, width: int = 128, onnx: Path | None = None) -> np.ndarray:
        folder = tmp_path / "student"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        made = build_students({"audio": width, "visual": 8}, hidden=8, classes=10, seed=1)
        about = {"audio": audio, "visual": "x"}
        save_students(folder, made, hidden=8, vector="logits", classes=list("0123456789"), features=about)
        return vector_of(index, folder, "audio", video=tmp_path / "clip.mp4", audio_onnx=onnx)

    heard = decode_sound(tmp_path / "clip.mp4")
    expected = open_students(tmp_path / "student") if ask(LOG_MEL).shape == (10,) else None
    assert expected is not None
    np.testing.assert_allclose(ask(LOG_MEL), expected.project("audio", log_mel_statistics(heard)[None])[0], rtol=1e-5)
    assert ask(digest(vggish), width=1, onnx=vggish).shape == (10,)
    for made_of, onnx, message in (
        ("given", None, "expected students of vectors that packing computed"),
        (digest(vggish), None, "--audio-onnx: expected the model whose SHA-256 is"),
        (LOG_MEL, vggish, "--audio-onnx: expected none"),
        ("0" * 64, vggish, "--audio-onnx: expected the model whose SHA-256 is 000"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(made_of, onnx=onnx)


def test_vectors_of_another_making_are_not_indexed(student: Path, event_shards: Path, tmp_path: Path) -> None:
    made_of = {**GIVEN, "audio": LOG_MEL}
    made = build_students({"audio": 128, "visual": 128}, hidden=8, classes=10, seed=1)
    save_students(tmp_path, made, hidden=8, vector="logits", classes=list("0123456789"), features=made_of)
    with pytest.raises(ValueError, match=r"expected visual vectors as the students were trained on \(given\), found"):
        index_shards(open_students(tmp_path), [str(event_shards)], ["test"])
    file = write_h5(tmp_path / "vegas_feature.h5", feature_arrays())
    with pytest.raises(ValueError, match=r"expected audio vectors as the students were trained on \(log-mel"):
        index_features(open_students(tmp_path), file, ["test"])


def test_a_folder_of_vectors_gives_the_same_index(student: Path, index: Path, tmp_path: Path) -> None:
    arrays, stored = feature_arrays(), open_index(index)
    for name in ("audio", "visual"):
        for row in range(40):
            path = tmp_path / name / "some" / f"test-{row:06d}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, arrays[f"{name}_test"][row])
    words = ["--audio-features", tmp_path / "audio", "--visual-features", tmp_path / "visual"]
    done = command("index", "--student", student, *words, "--out", tmp_path / "index")
    assert done.returncode == 0, done.stderr
    made = open_index(tmp_path / "index")
    assert [clip["id"] for clip in made.clips] == [f"some/{clip['id']}" for clip in stored.clips]
    for name in ("audio", "visual"):
        np.testing.assert_allclose(made.vectors[name], stored.vectors[name], atol=1e-6)
    done = command("query", "--index", tmp_path / "index", "some/test-000003", "--count", "2")
    assert [set(r) for r in json.loads(done.stdout)["results"]] == [{"id", "dataset", "similarity"}] * 2

    folders = {name: tmp_path / name for name in ("audio", "visual")}
    np.save(tmp_path / "audio" / "some" / "test-000001.npy", np.zeros(7))
    with pytest.raises(ValueError, match=r"test-000001.npy: expected 128 numbers as the students were trained on"):
        index_vectors(open_students(student), folders)
    (tmp_path / "audio" / "some" / "test-000001.npy").unlink()
    with pytest.raises(ValueError, match=r"--audio-features: expected some/test-000001\.npy in .*, found none"):
        index_vectors(open_students(student), folders)
    done = command("index", "--student", student, *words[:2], "--out", tmp_path / "never")
    assert done.returncode == 2 and "--audio-features and --visual-features together" in done.stderr


@pytest.mark.parametrize("script", ["export", "retrieve"])
def test_onnx_files_compute_the_same(student: Path, tmp_path: Path, script: str) -> None:
    import onnxruntime

    out = ["--out", tmp_path / "onnx"]
    words = {"export": ["--run", student, *out, "--format", "onnx"], "retrieve": ["export", "--student", student, *out]}
    done = command(*words[script], script=script)
    assert done.returncode == 0, done.stderr
    opened = open_students(student)
    for name, width in opened.widths.items():
        session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / f"{name}.onnx"))
        for count in (1, 7):
            features = np.random.default_rng(count).normal(size=(count, width)).astype(np.float32)
            found = session.run(None, {"features": features})[0]
            np.testing.assert_allclose(found, opened.project(name, features), rtol=1e-4, atol=1e-4)


def test_other_exports_are_refused(student: Path, tmp_path: Path) -> None:
    done = command("--run", student.parent, "--out", tmp_path / "hf", script="export")
    assert done.returncode == 2 and "expected --format onnx" in done.stderr


def test_a_students_folder_can_be_evaluated(student: Path, feature_shards: Path, index: Path) -> None:
    from vadv.metrics import retrieval

    done = command("--run", student, "--shards", feature_shards, script="evaluate")
    assert done.returncode == 0, done.stderr
    found, stored = json.loads(done.stdout), open_index(index)
    expected = retrieval(stored.vectors["audio"], stored.vectors["visual"], [clip["label"] for clip in stored.clips])
    assert found["output"] == "students" and found["n"] == 40
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6)


MISTAKES: list[tuple[list[Any], str]] = [
    (["query", "--index", "INDEX", "nobody"], "expected the id of one of 40 indexed clips, found 'nobody'"),
    (["query", "--index", "/nowhere", "x"], "expected an index"),
    (["query", "--index", "INDEX", "--video", "/no/file.mp4", "--ask", "audio"], "expected a file, found none"),
    (["query", "--index", "INDEX", "--video", "/no/file.mp4"], "expected --ask audio"),
    (["index", "--student", "/nowhere", "--shards", "SHARDS", "--out", "OUT"], "expected the students"),
    (["index", "--student", "STUDENT", "--h5", "/no.h5", "--out", "OUT"], "expected a feature file"),
    (["index", "--student", "STUDENT", "--shards", "/nowhere", "--out", "OUT"], "found no manifest.json"),
    (["index", "--student", "STUDENT", "--shards", "SHARDS", "--out", "STUDENT"], "expected an empty folder"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_end_in_one_line(
    arguments: list[Any], message: str, student: Path, index: Path, feature_shards: Path, tmp_path: Path
) -> None:
    names = {"INDEX": index, "STUDENT": student, "SHARDS": feature_shards, "OUT": tmp_path / "out"}
    done = command(*(names.get(a, a) for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_text_is_not_predicted_with_them(student: Path) -> None:
    done = command("--student", student.parent, "some text", script="predict")
    assert done.returncode == 2 and "ask them with launch/retrieve.py" in done.stderr


def test_features_of_another_width_are_told(student: Path, tmp_path: Path) -> None:
    from shards.pack import Options, pack
    from shards.sources.vegas import Vegas

    arrays = {name: array[..., :100] if "visual" in name else array for name, array in feature_arrays(30, 10).items()}
    source = Vegas(h5=write_h5(tmp_path / "other.h5", arrays), visual_width=100)
    pack(source, tmp_path / "shards", Options(workers=1, progress=False))
    with pytest.raises(ValueError, match=r"visual features: expected \(n, 1024\) as the student was trained on"):
        index_shards(open_students(student), [str(tmp_path / "shards")], ["test"])


STRANGE = [{"kind": "other"}, {"format": 9}, {"widths": {"audio": -1}}, {"vector": "x"}, {"features": {"audio": 1}}]


@pytest.mark.parametrize("change", STRANGE)
def test_a_strange_folder_is_not_loaded(student: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    content = json.loads((student / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ValueError, match=r"config\.json"):
        open_students(tmp_path)


def test_help_is_quick() -> None:
    import time

    began = time.process_time()
    modules = "import sys; sys.argv = ['x', '--help']; sys.path.insert(0, 'launch')\ntry:\n import runpy; runpy.run_path('launch/retrieve.py', run_name='__main__')\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", modules], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False" and time.process_time() - began < 1
