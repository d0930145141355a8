"""Where a student comes from: what its folder and the run around it say, gathered for the exported folder."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vadv.student.folder import Student

PACKAGES = ("torch", "transformers", "deepspeed")


@dataclass(frozen=True)
class Provenance:
    """A student's origin."""

    facts: dict[str, Any]
    """For videoadviser.json: max_tokens, dataset, label_range, seed, variant, base, commit, clips, metrics, …; what is
    not known is absent."""
    texts: list[str] = field(default_factory=list)
    """Texts of the test split."""
    labels: list[float] = field(default_factory=list)
    """Their labels."""
    logits: list[float] = field(default_factory=list)
    """The text logits that training's own evaluation wrote down for them."""


def gather(student: Student) -> Provenance:
    """Read the run folder that `student` lies in, if it lies in one; a folder elsewhere speaks for itself."""
    facts: dict[str, Any] = {**student.facts, "max_tokens": student.max_tokens}
    run = student.path.parent
    if not (run / "config.yaml").is_file():
        return Provenance(facts)
    result, environment = _json(run / "result.json"), _json(run / "environment.json")
    for key in ("dataset", "seed", "variant", "clips", "epochs", "steps", "best", "parameters"):
        if key in result:
            facts[key] = result[key]
    facts["metrics"] = {
        split: outputs["text"] for split, outputs in result.get("splits", {}).items() if "text" in outputs
    } or ({"valid": facts["valid"]["text"]} if "text" in facts.get("valid", {}) else {})
    facts.pop("valid", None)
    packages = environment.get("packages", {})
    facts["packages"] = {name: packages[name] for name in PACKAGES if name in packages}
    return Provenance(facts, *_predictions(run / "predictions" / "test.csv"))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _predictions(path: Path) -> tuple[list[str], list[float], list[float]]:
    if not path.is_file():
        return [], [], []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("text") and row.get("text_logit")]
    return [r["text"] for r in rows], [float(r["label"]) for r in rows], [float(r["text_logit"]) for r in rows]
