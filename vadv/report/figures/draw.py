"""All figures of a report, drawn and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vadv.report.figures.curves import training_curves
from vadv.report.figures.errors import confusion, error_by_label_and_length, predicted_true
from vadv.report.figures.labels import label_distribution
from vadv.report.figures.logits import logit_histograms
from vadv.report.figures.parameters import parameters_mae
from vadv.report.figures.scope import precision_scope_curves
from vadv.report.figures.style import COLUMN, save, style
from vadv.report.predictions import Predictions, predictions, retrieval_vectors
from vadv.report.scenes import Scene
from vadv.report.table import Table

RETRIEVED = 5
"""Series of the precision-scope curve."""
WITH_AND_WITHOUT = ("w/ step-distillation (ours)", "w/o step-distillation", "student alone")
"""Rows of Fig. 5: the first, and the first of the others that was run."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A written figure.

    Attributes:
        name: file name without ending.
        title: a heading.
        caption: what is seen, also for those who cannot see it.
        wide: whether it spans both columns of a paper.
        png, svg: the files.
    """

    name: str
    title: str
    caption: str
    wide: bool
    png: Path
    svg: Path


def draw(
    folder: Path,
    found: Sequence[Scene],
    tables: Sequence[Table],
    labels: Mapping[str, Sequence[float]],
    split: str = "test",
    progress: Callable[[str], None] = lambda name: None,
) -> list[Figure]:
    """Draw what the data allows.

    Args:
        folder: gets NAME.png and NAME.svg.
        found: what is shown side by side.
        tables: Table 5 among them gives the plot of parameters.
        labels: dataset → sentiment labels; where empty, those of the predictions are shown.
        split: whose predictions are shown.
        progress: told the name of each figure.
    """
    made = []
    with style():
        for name, title, caption, drawn in _all(found, tables, labels, split):
            progress(name)
            png, svg = save(drawn, folder, name)
            made.append(
                Figure(name=name, title=title, caption=caption, wide=drawn.get_figwidth() > COLUMN, png=png, svg=svg)
            )
    return made


def _all(
    found: Sequence[Scene], tables: Sequence[Table], labels: Mapping[str, Sequence[float]], split: str
) -> Iterator[tuple[str, str, str, Any]]:
    said = {scene.name: _said(scene, split) for scene in found}
    shown = dict(labels) or _labels(said)
    if shown:
        source = "all splits of the shards" if labels else f"the {split} split"
        caption = f"Sentiment labels of {source}; hatched: the negative class."
        yield "label-distribution", "Label distribution (Fig. 3)", caption, label_distribution(shown)
    for table in tables:
        if table.number == 5 and (drawn := parameters_mae(table)) is not None:
            caption = (
                "Parameters at inference against MAE. Hollow: published. Filled: ours, bars are the std over seeds."
            )
            name = f"parameters-mae{table.name.removeprefix('table-05')}"
            yield name, f"Parameters and MAE: {table.title.split(', ')[-1]}", caption, drawn
    for scene in found:
        yield from _of(scene, said[scene.name], split)


def _of(scene: Scene, said: dict[str, Predictions], split: str) -> Iterator[tuple[str, str, str, Any]]:
    name, title = scene.name, scene.title
    drawn = training_curves(scene.groups, scene.measure)
    if drawn is not None:
        caption = "Means over seeds; bands reach from the lowest to the highest seed."
        yield f"curves-{name}", f"Training curves: {title}", caption, drawn
    yield from _retrieval(scene, split)
    if not said:
        return
    rows = [key for key in WITH_AND_WITHOUT if key in said]
    rows = rows[:2] if rows else list(said)[:1]
    seeds = ", ".join(f"{key}: seed {run.seed}" for key in rows if (run := scene.groups[key].typical))
    yield (
        f"logits-{name}",
        f"Logits with and without step-distillation (Fig. 5): {title}",
        f"Histograms of labels and logits on the {split} split, median seeds ({seeds}). A column shares its axis.",
        logit_histograms({key: said[key].values for key in rows}),
    )
    best, one = next(iter(said.items()))
    text, true = one.values["text_logit"], one.values["label"]
    about = f"{best}, {split} split, the seed of median MAE"
    yield (
        f"predicted-{name}",
        f"Predicted and true: {title}",
        f"Each dot is a clip; {about}.",
        predicted_true(text, true),
    )
    caption = f"Clips per true and predicted class; {about}."
    yield f"confusion-{name}", f"The seven classes: {title}", caption, confusion(text, true)
    same = {key: value for key, value in said.items() if value.ids == one.ids}
    yield (
        f"errors-{name}",
        f"Error by label and length: {title}",
        f"Mean absolute error, 95 % interval over clips, {split} split, the seed of median MAE; texts in fifths.",
        error_by_label_and_length({key: {**value.values, "text": value.texts} for key, value in same.items()}),
    )


def _retrieval(scene: Scene, split: str) -> Iterator[tuple[str, str, str, Any]]:
    found = {
        name: vectors
        for name, group in list(scene.groups.items())[:RETRIEVED]
        if group.typical and (vectors := retrieval_vectors(group.typical, split))
    }
    if found:
        caption = f"Precision among the first K of the {split} split, mean over queries; the seed of median mAP."
        title = f"Precision and scope: {scene.title}"
        yield f"scope-{scene.name}", title, caption, precision_scope_curves(found)


def _said(scene: Scene, split: str) -> dict[str, Predictions]:
    found: dict[str, Predictions] = {}
    for key, group in scene.groups.items():
        said = predictions(group.typical, split) if group.typical else None
        if said is not None:
            found[key] = said
    return found


def _labels(said: Mapping[str, dict[str, Predictions]]) -> dict[str, list[float]]:
    """Labels by dataset, each clip once."""
    found: dict[str, dict[str, float]] = {}
    for runs in said.values():
        for one in runs.values():
            for id_, dataset, label in zip(one.ids, one.datasets, one.values["label"].tolist(), strict=True):
                found.setdefault(dataset, {})[id_] = label
    return {dataset: list(labels.values()) for dataset, labels in sorted(found.items())}
