"""Shared by all tests: a small packed corpus, made once per session, and processes that train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_runs import Ranks

os.environ.setdefault("OMP_NUM_THREADS", "1")

SAMPLE_CLIPS = 64
"""Some 45 for training, 8 for validation, 12 for the test; which ones is decided by a hash."""


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one pytest-xdist session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def sample_corpus(session_folder: Path) -> Path:
    """The raw sample corpus in MMSA's layout: label.csv and Raw/SPEAKER/CLIP.mp4."""
    from filelock import FileLock

    from shards.sources.sample import Sample

    root = session_folder / "sample"
    with FileLock(session_folder / "sample.lock"):
        list(Sample(root=root, clips=SAMPLE_CLIPS))
    return root


@pytest.fixture(scope="session")
def sample_shards(session_folder: Path, sample_corpus: Path) -> Path:
    """Packed shards of the sample corpus, several per split: treat them as read-only, copy what you damage."""
    from filelock import FileLock

    from shards.pack import Options, pack
    from shards.sources.sample import Sample

    out = session_folder / "sample-shards"
    with FileLock(session_folder / "sample.lock"):
        pack(Sample(root=sample_corpus, clips=SAMPLE_CLIPS), out, Options(shard_clips=16, progress=False))
    return out


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Processes for training runs, started on first use."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    made = Ranks(tmp_path_factory.mktemp("ranks"))
    yield made
    made.close()
