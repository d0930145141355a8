"""BERT: pooling layer and classifier together are the head."""

from __future__ import annotations

from vadv.models.students import LARGE, TINY, Kind

KIND = Kind(
    head=("bert.pooler.dense", "classifier"),
    sizes={
        "bert-base-uncased": {},
        "bert-base-cased": {"vocab_size": 28996},
        "bert-large-uncased": LARGE,
        "tiny-bert": TINY,
    },
)
