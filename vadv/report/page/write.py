"""Fill the template.

Texts of datasets are strangers' texts: the template escapes everything, the clips travel as JSON that the script puts
into text nodes, and the page's own policy (Content-Security-Policy) lets nothing run but the script whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vadv.report.clips import Selection
from vadv.report.figures.draw import Figure
from vadv.report.groups import Group
from vadv.report.runs import Run
from vadv.report.summary import Glance
from vadv.report.table import Column, Row, Table


@dataclass(frozen=True, kw_only=True)
class Content:
    """Everything that the page shows.

    Attributes:
        runs: all of them.
        groups: and how they belong together.
        glances: the summary.
        tables: with at least one measured row.
        outside: names of the runs that belong to no table, and why.
        figures: written ones.
        clips: of the explorer.
        strips: JPEGs by dataset and id.
        source: where published values come from.
        split: what was scored.
    """

    runs: Sequence[Run]
    groups: Sequence[Group]
    glances: Sequence[Glance]
    tables: Sequence[Table]
    outside: Mapping[str, str]
    figures: Sequence[Figure]
    clips: Selection
    strips: Mapping[tuple[str, str], bytes]
    source: str
    split: str


def write(content: Content, path: Path) -> None:
    """Write the page, whole or not at all."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(render(content), encoding="utf-8")
    scratch.replace(path)


def render(content: Content) -> str:
    """The page as text."""
    import jinja2
    from markupsafe import Markup

    style, script = _asset("page.css"), _asset("page.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _sort_key
    template = environment.from_string(_asset("page.html.j2"))
    return template.render(
        policy=(
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        style=Markup(style),
        script=Markup(script),
        clips=Markup(_json(_clips(content))),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        content=content,
        finished=[run for run in content.runs if run.finished],
        problems=[run for run in content.runs if not run.finished],
        runs=[_run(run) for run in content.runs],
        figures=[(figure, _data("image/svg+xml", figure.svg.read_bytes())) for figure in content.figures],
    )


def _asset(name: str) -> str:
    return resources.files("vadv.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a policy calls an inline block by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or opens another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _clips(content: Content) -> dict[str, Any]:
    keys = list(dict.fromkeys((clip.dataset, clip.id) for clip in content.clips.clips))
    numbers = {key: number for number, key in enumerate(key for key in keys if key in content.strips)}
    return {
        "runs": content.clips.runs,
        "strips": [_data("image/jpeg", content.strips[key]) for key in numbers],
        "clips": [
            {
                "run": clip.run,
                "id": clip.id,
                "dataset": clip.dataset,
                "text": clip.text,
                "label": clip.label,
                "logits": {name.removesuffix("_logit"): round(value, 4) for name, value in clip.logits.items()},
                "error": round(clip.error, 4),
                "gap": None if clip.gap is None else round(clip.gap, 4),
                "strip": numbers.get((clip.dataset, clip.id)),
            }
            for clip in content.clips.clips
        ],
    }


def _run(run: Run) -> dict[str, Any]:
    """What the list of runs shows of one."""
    result = run.result or {}
    environment = {key: value for key, value in run.environment.items() if key != "packages"}
    packages = run.environment.get("packages")
    if isinstance(packages, dict):
        environment["packages"] = {name: packages[name] for name in sorted(packages, key=str.lower)}
    return {
        "name": run.name,
        "state": "finished" if run.finished else "not finished",
        "problem": run.problem,
        "seed": run.seed,
        "dataset": "+".join(run.datasets),
        "variant": result.get("variant", "–"),
        "score": run.main_score(),
        "metric": run.measure.name if run.result else "",
        "steps": result.get("steps"),
        "minutes": result["wall_seconds"] / 60 if isinstance(result.get("wall_seconds"), (int, float)) else None,
        "config": _yaml(run.config),
        "environment": _yaml(environment),
    }


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100) if content else ""


def _sort_key(row: Row, column: Column) -> str:
    """What a column is sorted by; empty cells go last."""
    values = [part.value for part in row.cells.get(column.key, []) if part.value is not None]
    if values:
        return f"{values[0]:.9g}"
    text = row.cells[column.key][0].text if column.key in row.cells else ""
    digits = "".join(char for char in text if char.isdigit() or char == ".")
    return digits if digits.strip(".") else ""
