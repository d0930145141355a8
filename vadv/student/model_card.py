"""README.md of an exported student: what it is, what it was trained on, how good it is, and what it is not for."""

from __future__ import annotations

from typing import Any

from vadv.student.folder import ONNX, ONNX_INT8

METRICS = ("mae", "acc7", "acc2", "f1", "corr", "n")
VARIANTS = {
    "step": "step-distillation from a video teacher (prompt logit to video logit to text logit)",
    "step-without-first": "step-distillation without its first step",
    "none": "a video teacher trained beside it, without distillation",
    "student alone": "text alone, without a teacher",
}


def model_card(facts: dict[str, Any], format: str) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        facts: of `provenance.gather`, with `checked`, and `int8` where that was exported. What is absent is said to be
            unknown.
        format: hf or onnx.
    """
    return (
        "\n\n".join(
            part
            for part in (
                _front(facts, format),
                _what(facts),
                _use(facts, format),
                _data(facts),
                _metrics(facts),
                _small(facts),
                _training(facts),
                _limits(facts),
                _checked(facts, format),
            )
            if part
        )
        + "\n"
    )


def _front(facts: dict[str, Any], format: str) -> str:
    library = "transformers" if format == "hf" else "onnx"
    return (
        f"---\nlibrary_name: {library}\npipeline_tag: text-classification\n"
        "tags:\n- sentiment\n- regression\n- knowledge-distillation\n---"
    )


def _what(facts: dict[str, Any]) -> str:
    return (
        "# Sentiment of spoken or written text, as one number\n\n"
        f"A text-only student ({_known(facts, 'base')}) that reads a text and gives its sentiment: below 0 negative, "
        f"above 0 positive{_range(facts)}. It was trained with VideoAdviser: "
        f"{VARIANTS.get(facts.get('variant', ''), facts.get('variant', 'variant unknown'))}. "
        "Video is needed in training only."
    )


def _range(facts: dict[str, Any]) -> str:
    found = facts.get("label_range")
    return f" (labels of training lie in [{found[0]:g}, {found[1]:g}])" if found else ""


def _use(facts: dict[str, Any], format: str) -> str:
    limit = facts["max_tokens"]
    if format == "hf":
        code = (
            "from transformers import pipeline\n\n"
            'student = pipeline("text-classification", "PATH_OF_THIS_FOLDER", function_to_apply="none")\n'
            f'print(student(["what a day", "never again"], truncation=True, max_length={limit}))'
        )
    else:
        code = (
            "import numpy as np\nimport onnxruntime\nfrom tokenizers import Tokenizer\n\n"
            'tokenizer = Tokenizer.from_file("tokenizer.json")\n'
            f"tokenizer.enable_truncation({limit})\ntokenizer.enable_padding()\n"
            f'session = onnxruntime.InferenceSession("{ONNX}")\n'
            'encoded = tokenizer.encode_batch(["what a day", "never again"])\n'
            "feed = {\n"
            '    "input_ids": np.array([e.ids for e in encoded]),\n'
            '    "attention_mask": np.array([e.attention_mask for e in encoded]),\n'
            "}\n"
            'print(session.run(["logits"], feed)[0][:, 0])'
        )
    return f"## Use\n\n```python\n{code}\n```"


def _data(facts: dict[str, Any]) -> str:
    clips = facts.get("clips", {})
    sizes = ", ".join(f"{count:,} {split}" for split, count in clips.items()) or "sizes unknown"
    lines = [f"Dataset: {_known(facts, 'dataset')} ({sizes}). Texts were cut after {facts['max_tokens']} tokens."]
    if facts.get("dataset") == "sample":
        lines.append(
            'The texts and ratings are the tweets of C.J. Hutto and E.E. Gilbert, "VADER: A Parsimonious Rule-based '
            'Model for Sentiment Analysis of Social Media Text", ICWSM 2014 (please cite), scaled to [-3, 3]; the '
            "videos beside them are drawn."
        )
    return "## Data\n\n" + "\n".join(lines)


def _metrics(facts: dict[str, Any]) -> str:
    found = facts.get("metrics") or {}
    if not found:
        return "## Metrics\n\nUnknown: no evaluation lay beside the student."
    rows = [
        f"| {split} | " + " | ".join(_number(values.get(key)) for key in METRICS) + " |"
        for split, values in found.items()
    ]
    table = "\n".join([f"| split | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 1) + "|", *rows])
    return (
        f"## Metrics\n\n{table}\n\nOf one run with seed {_known(facts, 'seed')}; another seed gives other numbers. The "
        "student was chosen by the validation split's MAE, so that row is a little too good."
    )


def _small(facts: dict[str, Any]) -> str:
    if ONNX_INT8 not in facts.get("checked", {}):
        return ""
    drift = facts["checked"][ONNX_INT8]
    text = (
        f"## 8-bit integers\n\n`{ONNX_INT8}` is a quarter of the size and faster, and its numbers are others: "
        f"over {drift['texts']} texts they differ by {drift['mean']:.4f} on average, {drift['largest']:.4f} at most."
    )
    if "int8" not in facts:
        return text
    rows = [
        f"| {name} | " + " | ".join(_number(values[key]) for key in METRICS) + " |"
        for name, values in facts["int8"]["test"].items()
    ]
    return "\n".join([text, "", f"| test split | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 1) + "|", *rows])


def _training(facts: dict[str, Any]) -> str:
    commit = facts.get("commit")
    state = f"commit {commit}" + (" with uncommitted changes" if facts.get("uncommitted_changes") else "")
    best = facts.get("best") or {}
    rows = {
        "code": state if commit else "commit unknown",
        "seed": _known(facts, "seed"),
        "best": f"epoch {best.get('epoch', '?')} of {facts.get('epochs', '?')}, step {best.get('step', '?')}",
        "parameters": f"{facts['parameters']['student']:,}" if "student" in facts.get("parameters", {}) else "unknown",
        "versions": ", ".join(f"{k} {v}" for k, v in facts.get("packages", {}).items()) or "unknown",
    }
    return "## Training\n\n" + "\n".join(f"- {key}: {value}" for key, value in rows.items())


def _limits(facts: dict[str, Any]) -> str:
    return (
        "## Limits\n\n"
        "- The number is not clipped to the labels' range, and it is no probability.\n"
        f"- It reads the first {facts['max_tokens']} tokens; what comes after them has no influence.\n"
        "- It knows the language and the kind of text of its training data. On others its number may mean nothing, and "
        "nothing in the number says so. An empty text gets a number too.\n"
        "- It repeats what its raters and its pretraining text held to be positive and negative, prejudices included. "
        "Do not decide about people with it.\n"
        "- Irony, and whatever only voice or face would tell, it can only guess."
    )


def _checked(facts: dict[str, Any], format: str) -> str:
    lines = [
        f"- `{name}`: {found['texts']} texts, largest difference {found['largest']:.2g}"
        for name, found in facts.get("checked", {}).items()
    ]
    if format == "onnx":
        told = (
            f"ONNX opset {facts['opset']}, inputs `input_ids` and `attention_mask` (batch, tokens) int64, output "
            "`logits` (batch, 1) float32. Compared with PyTorch on export:"
        )
    elif lines:
        told = "Loaded by transformers on export and compared with the run's own evaluation:"
    else:
        told = "Loaded by transformers on export. No evaluation of the run lay beside it to compare with."
    return "\n\n".join(["## Checked", told, *(["\n".join(lines)] if lines else [])])


def _known(facts: dict[str, Any], key: str) -> str:
    return str(facts.get(key, "unknown"))


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
