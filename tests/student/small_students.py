"""Tiny students in the stock format, with random weights large enough to tell texts apart, and commands to run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORPUS = [
    "what a wonderful day it was, and the food was good too",
    "I never want to see this film again: dull, long and badly played",
    "so so; nothing that I would tell anybody about, really",
    "the best thing since sliced bread! absolutely brilliant acting",
    "they were late, the soup was cold and nobody said sorry",
]
MAX_TOKENS = 24


def run(*arguments: str, stdin: bytes | None = None, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    """A command of launch/ as a person starts it."""
    command = [sys.executable, str(ROOT / "launch" / arguments[0]), *arguments[1:]]
    return subprocess.run(command, input=stdin if stdin is not None else b"", capture_output=True, timeout=timeout)


def rows(found: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    """The JSON lines that it printed."""
    return [json.loads(line) for line in found.stdout.decode().splitlines()]


def _bert(folder: Path) -> None:
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=300, min_frequency=1, show_progress=False)
    trained.save_model(str(folder))
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=1,
        problem_type="regression",
    )
    _save(BertForSequenceClassification(config), tokenizer, folder)


def _roberta(folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(CORPUS, vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False)
    trained.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=66,
        type_vocab_size=1,
        pad_token_id=1,
        layer_norm_eps=1e-5,
        num_labels=1,
        problem_type="regression",
    )
    _save(RobertaForSequenceClassification(config), tokenizer, folder)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    import torch

    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "videoadviser.json").write_text(json.dumps({"max_tokens": MAX_TOKENS, "label_range": [-3, 3]}))


_MAKERS: dict[str, Callable[[Path], None]] = {"bert": _bert, "roberta": _roberta}


def made(family: str, base: Path) -> Path:
    from filelock import FileLock

    folder = base / f"student-{family}"
    with FileLock(base / "students.lock"):
        if not (folder / "videoadviser.json").is_file():
            folder.mkdir(exist_ok=True)
            _MAKERS[family](folder)
    return folder
