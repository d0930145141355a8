"""Kinds of text encoder that can be students: one file for each `model_type` of transformers, named like it.

A kind can be one if its stock classifier is Linear → activation → Linear on the first token, with an activation that leaves
0 where it is: then the student's MLP fits into it exactly. docs/extend.md shows how to write another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
TINY = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "vocab_size": 512,
}

WORD_PIECE = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What there is to know of a kind: `KIND` of its file. The defaults are BERT's."""

    head: tuple[str, str]
    """Names of the stock classifier's two linear layers, as its state dict has them."""
    activation: Callable[[Tensor], Tensor] = torch.tanh
    """Between the two."""
    options: Mapping[str, Any] = field(default_factory=lambda: {"add_pooling_layer": False})
    """For the encoder's constructor: what leaves out layers that the student does not use."""
    first_position: Callable[[Any], int] = lambda settings: 0
    """Position of a text's first token, of the encoder's configuration."""
    special: Mapping[str, str] = field(default_factory=lambda: WORD_PIECE)
    """Special tokens by role, in the order of their ids, for random weights; a checkpoint brings its own."""
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Models that are known without a download, for random weights and for counting parameters: name → the settings of
    the configuration that differ from the kind's own."""
