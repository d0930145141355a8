"""Fixtures of retrieval tests: the made corpus, its shards and a feature file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_data import feature_arrays, write_h5

CLIPS = 50
"""30 for training, 10 for validation, 10 for the test: one round of the ten classes is 10."""


@pytest.fixture(scope="session")
def event_corpus(session_folder: Path) -> Path:
    """The raw corpus of made events."""
    from filelock import FileLock

    from shards.sources.sample_events import SampleEvents

    root = session_folder / "events"
    with FileLock(session_folder / "events.lock"):
        list(SampleEvents(root=root, clips=CLIPS))
    return root


@pytest.fixture(scope="session")
def event_shards(session_folder: Path, event_corpus: Path) -> Path:
    """Packed shards of the made events; read-only."""
    from filelock import FileLock

    from shards.pack import Options, pack
    from shards.sources.sample_events import SampleEvents

    out = session_folder / "event-shards"
    with FileLock(session_folder / "events.lock"):
        pack(SampleEvents(root=event_corpus, clips=CLIPS), out, Options(shard_clips=16, progress=False))
    return out


@pytest.fixture(scope="session")
def feature_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a feature file: no video."""
    from shards.pack import Options, pack
    from shards.sources.vegas import Vegas

    folder = tmp_path_factory.mktemp("features")
    pack(
        Vegas(h5=write_h5(folder / "vegas_feature.h5", feature_arrays())),
        folder / "shards",
        Options(shard_clips=32, workers=1, progress=False),
    )
    return folder / "shards"


@pytest.fixture(scope="session")
def plain_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the sentiment task, without video or vectors."""
    from shards.pack import Options, pack
    from shards.sources.record import Raw

    class Texts:
        dataset, task = "texts", "sentiment"

        def __iter__(self) -> Iterator[Raw]:
            for split in ("train", "valid", "test"):
                yield Raw(id=split, text="some text", label=1.0, split=split)

    out = tmp_path_factory.mktemp("plain") / "shards"
    pack(Texts(), out, Options(workers=1, progress=False))  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="session")
def tiny(event_shards: Path) -> dict[str, Any]:
    """Settings of a whole small run with a teacher."""
    from shards.sources.event_score import EVENTS

    return {
        "task": "retrieval",
        "data": {"shards": str(event_shards), "workers": 1, "frames": 2, "frame_size": 32},
        "teacher": {
            "clip": "configs/clip/tiny.json",
            "weights": "random",
            "face": False,
            "prompt": "A video of {}",
            "classes": list(EVENTS),
        },
        "train": {"epochs": 2, "batch_size": 8, "lr": 1e-3, "warmup_steps": 2},
        "log": {"every": 1},
    }
