"""The paper's tables 2 and 4 to 12: which runs each row takes, and beside which published values they stand.

A run belongs to a row by its settings alone (`groups.Traits`). Tables are made for each dataset that the runs were
trained on; published rows stand beside runs of the dataset they were published for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import Any

from vadv.report.groups import Group, shown, slug
from vadv.report.pairs import COMPARED, fill_pairs
from vadv.report.table import Column, Line, Table, fill

NUMBERS = (2, 4, 5, 6, 7, 8, 9, 10, 11, 12)
"""Tables that can be filled from runs."""

MAE = Column(key="mae", label="MAE", better="low")
ACC7 = Column(key="acc7", label="A7", digits=1, better="high", percent=True)
ACC2 = Column(key="acc2", label="A2", digits=1, better="high", percent=True)
F1 = Column(key="f1", label="F1", digits=1, better="high", percent=True)
CORR = Column(key="corr", label="Corr", better="high")
PARAMETERS = Column(key="parameters", label="Parameters")
MAPS = (
    Column(key="map_a2v", label="A→V", better="high"),
    Column(key="map_v2a", label="V→A", better="high"),
    Column(key="map_mean", label="Average", better="high"),
)
VARIANTS = {
    "crd": "CRD",
    "kd": "KD",
    "fitnet": "FitNet",
    "pkt": "PKT",
    "none": "w/o step-distillation",
    "step-without-first": "w/o step 1",
    "step": "w/ step-distillation (ours)",
}
"""Rows of Tables 10 and 11 by `objective.variant`."""

PAIRS = (("step", "none"), ("step", "crd"), ("crd", "none"))
"""Table 12."""

RETRIEVAL = "students"
"""The output that Tables 4, 8 and 11 score."""


@functools.cache
def published() -> dict[str, Any]:
    """The paper's values, transcribed, with their source."""
    content: dict[str, Any] = json.loads(
        resources.files("vadv.report").joinpath("published.json").read_text(encoding="utf-8")
    )
    return content


def build(groups: Sequence[Group], numbers: Iterable[int] = NUMBERS, split: str = "test") -> list[Table]:
    """All tables of these numbers, one per dataset that has runs; where none has, the published rows alone.

    Raises:
        ValueError: a number without such a table.
    """
    made: list[Table] = []
    for number in numbers:
        if number not in DEFINITIONS:
            raise ValueError(f"--table: expected one of {', '.join(map(str, NUMBERS))}, found {number}")
        task, define = DEFINITIONS[number]
        own = [group for group in groups if group.traits.task == task]
        datasets = {group.traits.datasets for group in own if (len(group.traits.datasets) > 1) == (number == 9)}
        tables = [define(own, names, split) for names in sorted(datasets)]
        filled = [table for table in tables if table.measured]
        if not filled:
            names = tuple(next(iter(published()["tables"][str(number)])).split("+"))
            filled = [define([], names, split)]
        made += filled
    return made


def table_2(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """Ours against the field."""
    own = _trained(groups, datasets)
    keys = [key for key in _published(2, datasets) if key not in ("ours", "human")]
    lines = [Line(key=key, label="") for key in keys]
    lines.append(Line(key="ours", label="VideoAdviser (ours)", groups=_step(own)))
    lines.append(Line(key="human", label=""))
    return _make(2, datasets, "Comparison with the field", (MAE, ACC7, ACC2, F1, CORR), lines, split)


def table_4(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """mAP of audio-visual retrieval."""
    own = _trained(groups, datasets)
    ours = [g for g in own if g.traits.method == "ours"]
    methods = dict.fromkeys([*_published(4, datasets), *(g.traits.method for g in own)])
    lines = []
    for method in (m for m in methods if m not in ("eics", "ours")):
        here = [g for g in own if g.traits.method == method]
        label = next((title for g in here if (title := _title(g))), method)
        lines.append(Line(key=method, label=label, groups=here))
    lines += _undistilled("eics", ours)
    taught = [g for g in ours if _is(g, "step") and g.traits.sides == "both"]
    lines.append(Line(key="ours", label="VideoAdviser (ours)", groups=taught))
    for line in lines:
        line.head = RETRIEVAL
    return _make(4, datasets, "Audio-visual retrieval (mAP)", MAPS, lines, split)


def table_5(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """What inference needs against what it gives."""
    own = _step(_trained(groups, datasets))
    keys = [key for key in _published(5, datasets) if not key.startswith("student:")]
    lines = [Line(key=key, label="") for key in keys]
    for name in _students(own, _published(5, datasets)):
        here = [group for group in own if group.traits.student == name]
        lines.append(Line(key=f"student:{name}", label=f"Student ({name}, ours)", groups=here))
    return _make(5, datasets, "Efficiency: parameters at inference", (PARAMETERS, MAE), lines, split)


def table_6(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """The teacher's parts."""
    own = [g for g in _trained(groups, datasets) if _is(g, "step") and not g.traits.frozen]
    own = _compared(own, lambda g: not g.traits.whole)
    lines = [
        Line(key="ours", label="VideoAdviser (ours)", groups=_step(own)),
        Line(
            key="no-face",
            label="- w/o facial expression encoder",
            groups=[g for g in own if not g.traits.face and g.traits.prompting],
        ),
        Line(
            key="no-prompting",
            label="- w/o video-specific prompting",
            groups=[g for g in own if g.traits.face and not g.traits.prompting],
        ),
    ]
    return _make(6, datasets, "Components of the teacher", (MAE, ACC7, ACC2, F1), lines, split)


def table_7(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """Students with and without a teacher, and the teachers themselves."""
    own = _trained(groups, datasets)
    lines = [
        Line(key="teacher", label="Teacher (video logit)", groups=_step(own), head="video"),
        Line(key="", label="Teacher (argmax of the prompts)", groups=_step(own), head="scores"),
    ]
    names = _students(
        [g for g in own if g.traits.whole or not g.traits.teacher or g.traits.frozen], _published(7, datasets)
    )
    for name in names:
        here = [g for g in own if g.traits.student == name]
        alone = [g for g in here if not g.traits.teacher and not g.traits.frozen]
        frozen = [g for g in here if g.traits.frozen and g.traits.face and g.traits.prompting and _is(g, "step")]
        lines += [
            Line(key=f"alone:{name}", label=f"{name} w/o teacher", groups=alone),
            Line(key=f"student:{name}", label=f"Student ({name})", groups=_step(here)),
            Line(key=f"frozen:{name}", label=f"Student ({name}), frozen", groups=frozen),
        ]
    return _make(7, datasets, "Students with and without the teacher", (MAE, ACC2, F1), lines, split)


def table_8(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """Which of the two students the teacher reaches."""
    own = [g for g in _trained(groups, datasets) if g.traits.method == "ours"]
    lines = _undistilled("none", own)
    for side, label in (("visual", "video"), ("audio", "audio"), ("both", "audio and video")):
        here = [g for g in own if _is(g, "step") and g.traits.sides == side]
        lines.append(Line(key=side, label=f"- w/ {label} distillation", groups=here))
    for line in lines:
        line.head = RETRIEVAL
    return _make(8, datasets, "Step-distillation by modality (mAP)", MAPS, lines, split)


def table_9(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """Trained on several sets together against each alone."""
    both = _step(_trained(groups, datasets))
    together, lines = shown(datasets), []
    for name in datasets:
        alone = _step(_trained(groups, (name,))) if both else []
        label = f"tested on {shown((name,))}, trained on"
        lines.append(Line(key=f"both:{name}", label=f"{label} {together}", groups=both, dataset=name))
        lines.append(Line(key=f"alone:{name}", label=f"{label} {shown((name,))}", groups=alone, dataset=name))
    lines.append(Line(key="both:all", label=f"tested and trained on {together}", groups=both))
    return _make(9, datasets, "Training on combined datasets", (MAE, ACC7, ACC2), lines, split)


def table_10(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """Distillers, sentiment."""
    own = [g for g in _trained(groups, datasets) if g.traits.whole]
    own = _compared(own, lambda g: g.traits.variant != "step")
    lines = [Line(key=key, label=label, groups=[g for g in own if _is(g, key)]) for key, label in VARIANTS.items()]
    lines += _others(own)
    return _make(10, datasets, "Distillation losses", (MAE, ACC7, ACC2, F1), lines, split)


def table_11(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """Distillers, retrieval."""
    own = [g for g in _trained(groups, datasets) if g.traits.method == "ours" and g.traits.sides == "both"]
    lines = [
        Line(key=key, label=VARIANTS[key], groups=[g for g in own if _is(g, key)], head=RETRIEVAL)
        for key in ("kd", "fitnet", "pkt", "step")
    ] + _others(own, RETRIEVAL)
    return _make(11, datasets, "Distillation losses (mAP)", MAPS, lines, split)


def table_12(groups: list[Group], datasets: tuple[str, ...], split: str) -> Table:
    """Significance of the differences of MAE between seeds."""
    own = [g for g in _trained(groups, datasets) if g.traits.whole]
    table = _empty(12, datasets, "Almost stochastic order of MAE over seeds", COMPARED)
    return fill_pairs(table, own, PAIRS, VARIANTS, _published(12, datasets), split)


DEFINITIONS: dict[int, tuple[str, Callable[[list[Group], tuple[str, ...], str], Table]]] = {
    2: ("sentiment", table_2),
    4: ("retrieval", table_4),
    5: ("sentiment", table_5),
    6: ("sentiment", table_6),
    7: ("sentiment", table_7),
    8: ("retrieval", table_8),
    9: ("sentiment", table_9),
    10: ("sentiment", table_10),
    11: ("retrieval", table_11),
    12: ("sentiment", table_12),
}


def _title(group: Group) -> str | None:
    """What a comparator calls itself; `-style` says that it is a version of our own."""
    return next((run.result.get("title") for run in group.runs.values() if run.result), None)


def _empty(number: int, datasets: tuple[str, ...], title: str, columns: Sequence[Column]) -> Table:
    return Table(
        number=number,
        name=f"table-{number:02}-{'-'.join(map(slug, datasets))}",
        title=f"{title}, {shown(datasets)}",
        columns=columns,
    )


def _make(
    number: int,
    datasets: tuple[str, ...],
    title: str,
    columns: Sequence[Column],
    lines: Sequence[Line],
    split: str,
) -> Table:
    table = fill(_empty(number, datasets, title, columns), lines, _published(number, datasets), split)
    sizes = published()["test_clips"].get("+".join(datasets), [])
    found = {run.score(run.measure.output, "n", split) for group in table.used for run in group.runs.values()} - {
        None,
        *sizes,
    }
    if sizes and found:
        clips = " and ".join(f"{size:,.0f}" for size in sorted(size for size in found if size is not None))
        expected = " or ".join(f"{size:,}" for size in sizes)
        table.notes.append(f"our rows are scored on {clips} clips ({split}), the published ones on {expected}")
    return table


def _published(number: int, datasets: tuple[str, ...]) -> dict[str, dict[str, str]]:
    for names, rows in published()["tables"].get(str(number), {}).items():
        if set(names.split("+")) == set(datasets):
            found: dict[str, dict[str, str]] = rows
            return found
    return {}


def _trained(groups: Iterable[Group], datasets: tuple[str, ...]) -> list[Group]:
    return [group for group in groups if set(group.traits.datasets) == set(datasets)]


def _is(group: Group, variant: str) -> bool:
    return group.traits.teacher and group.traits.variant == variant


def _others(groups: Iterable[Group], head: str = "text") -> list[Line]:
    """Distillers that the paper does not have, by their own names."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        if group.traits.teacher and group.traits.variant not in VARIANTS:
            found.setdefault(group.traits.variant, []).append(group)
    return [Line(key=key, label=key, groups=here, head=head) for key, here in sorted(found.items())]


def _compared(groups: Sequence[Group], other: Callable[[Group], bool]) -> list[Group]:
    """Groups of the students for which there is anything to compare with; all of them if there is nothing at all."""
    students = {group.traits.student for group in groups if other(group)}
    return [group for group in groups if not students or group.traits.student in students]


def _step(groups: Iterable[Group]) -> list[Group]:
    """The method as it is by default."""
    return [group for group in groups if group.traits.whole and group.traits.variant == "step"]


def _undistilled(key: str, groups: Iterable[Group]) -> list[Line]:
    """Retrieval students that no teacher reaches: alone, or beside one that keeps its knowledge."""
    groups = list(groups)
    return [
        Line(key=key, label="EICS-style students", groups=[g for g in groups if not g.traits.teacher]),
        Line(key="", label="EICS-style students, w/o distillation", groups=[g for g in groups if _is(g, "none")]),
    ]


def _students(groups: Iterable[Group], rows: Iterable[str]) -> list[str]:
    """Names of students: the published ones first, in their order."""
    names = [key.split(":")[1] for key in rows if ":" in key]
    return list(dict.fromkeys([*names, *sorted({group.traits.student for group in groups})]))
