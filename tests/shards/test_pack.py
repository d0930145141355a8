"""Packing end to end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from shards.manifest import read_manifest


def test_plain_webdataset_reads_every_sample(sample_shards: Path) -> None:
    import webdataset

    manifest = read_manifest(sample_shards)
    for name, split in manifest.splits.items():
        urls = [str(sample_shards / shard.file) for shard in split.shards]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
        assert len(samples) == split.samples
        for sample in samples:
            facts = json.loads(sample["json"])
            assert facts["split"] == name
            assert facts["dataset"] == "sample"
            assert np.load(io.BytesIO(sample["faces.npy"]), allow_pickle=False).shape == (64, 8)
            assert sample["mp4"][4:8] == b"ftyp"
