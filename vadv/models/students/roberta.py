"""RoBERTa: positions count from the padding id on."""

from __future__ import annotations

from vadv.models.students import LARGE, TINY, Kind

_OWN = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}

KIND = Kind(
    head=("classifier.dense", "classifier.out_proj"),
    first_position=lambda settings: settings.pad_token_id + 1,
    special={"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"},
    sizes={"roberta-large": _OWN | LARGE, "roberta-base": _OWN, "tiny-roberta": _OWN | TINY},
)
