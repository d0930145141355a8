"""The cost of inference, measured on a small saved student and its teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_runs
import pytest

from vadv.report import cost
from vadv.report.runs import read

WIDTH, LAYERS, INNER, WORDS = 32, 2, 64, 40
SETTINGS: dict[str, Any] = {
    "teacher.clip": "configs/clip/tiny.json",
    "teacher.weights": "random",
    "student.model": "tiny",
    "data.frames": 2,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a saved RoBERTa whose size is known."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

    folder = made_runs.write_run(tmp_path_factory.mktemp("cost") / "run", settings=SETTINGS)
    names = ["<s>", "<pad>", "</s>", "<unk>", *sorted(set(made_runs.WORDS))]
    words = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    tokenizer.save_pretrained(folder / "student")
    RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=len(names),
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=INNER,
            max_position_embeddings=128,
            num_labels=1,
        )
    ).save_pretrained(folder / "student")
    return folder


def test_the_students_operations_are_those_of_the_formula(run: Path) -> None:
    import torch

    job = {"folder": str(run / "student"), "config": read(run).config, "texts": ["we see the next one again"]}
    student = cost._Student(job, torch.device("cpu"))
    tokens = 8
    assert [len(row) for row in student.tokens] == [tokens]
    with torch.no_grad():
        found = cost._flops(lambda: student(0, 1))
    # Per layer: q, k, v and the output; scores and their sum; two layers of the MLP. Then the classification head.
    layer = 4 * tokens * WIDTH**2 + 2 * tokens**2 * WIDTH + 2 * tokens * WIDTH * INNER
    assert found == 2 * (LAYERS * layer + WIDTH**2 + WIDTH)


def test_both_subjects_are_measured_in_processes_of_their_own(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    monkeypatch.setattr(cost, "BATCH", 2)
    said: list[str] = []
    found = [one for one in cost.measure(read(run), "tiny", said.append) if one.device == "cpu"]
    assert [one.subject for one in found] == [cost.STUDENT, cost.BOTH]
    student, both = found
    assert both.parameters > student.parameters > 0
    assert both.flops > student.flops > 0
    assert min(student.latency, student.throughput, student.memory, both.latency, both.throughput, both.memory) > 0
    assert said[:2] == ["tiny: student on cpu", "tiny: teacher + student on cpu"]
    path = run.parent / "cost.json"
    cost.save(found, path)
    assert cost.load(path) == found
    table = cost.table(found)
    assert table is not None and [row.label for row in table.rows] == [
        "tiny: student, cpu",
        "tiny: teacher + student, cpu",
    ]
    assert all(set(row.cells) == {column.key for column in table.columns} for row in table.rows)


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    folder = made_runs.write_run(tmp_path / "run")
    with pytest.raises(ValueError, match="expected the saved student of the run, found none"):
        cost.measure(read(folder), "x")
    (folder / "student").mkdir()
    (folder / "student" / "config.json").write_text("{}")
    (folder / "predictions" / "test.csv").unlink()
    with pytest.raises(ValueError, match="expected transcripts, found none"):
        cost.measure(read(folder), "x")
    (tmp_path / "cost.json").write_text(json.dumps([{"subject": "student"}]))
    with pytest.raises(ValueError, match=r"cost.json: expected measurements of an earlier report, .*; remove the file"):
        cost.load(tmp_path / "cost.json")
    assert cost.load(tmp_path / "none.json") == [] and cost.table([]) is None
