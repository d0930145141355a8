"""Groups of runs compared in pairs, by the MAE of their seeds (Table 12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vadv.report.groups import Group
from vadv.report.significance import compare
from vadv.report.table import Column, Part, Row, Table, difference, finish, missing, published_row, wanted_seeds

COMPARED = (
    Column(key="epsilon", label="ε_min", digits=2),
    Column(key="difference", label="Δ MAE"),
    Column(key="interval", label="95 % CI"),
)


def fill_pairs(
    table: Table,
    groups: Sequence[Group],
    pairs: Sequence[tuple[str, str]],
    names: Mapping[str, str],
    published: Mapping[str, dict[str, str]],
    split: str,
) -> Table:
    """Put published and measured comparisons into a table.

    Args:
        table: with columns `COMPARED`.
        groups: of one dataset, whole teachers only.
        pairs: variants, the first of which is asked to be better than the second.
        names: variants in words.
        published: values by `FIRST>SECOND`.
        split: what is scored.
    """
    wanted = wanted_seeds([g for g in groups if any(g.traits.variant in pair for pair in pairs)])
    for pair in pairs:
        key = ">".join(pair)
        if key in published:
            table.rows.append(published_row(key, published[key], COMPARED))
        first, second = ([g for g in groups if g.traits.variant == variant] for variant in pair)
        for a in first:
            for b in (g for g in second if g.traits.student == a.traits.student):
                row = _row(key, a, b, names, wanted, split)
                if row:
                    row.label += difference(a, [g for g in first if g.traits.student == a.traits.student])
                    table.rows.append(row)
                    table.used += [group for group in (a, b) if group not in table.used]
    if table.measured:
        table.notes.append(
            "ε_min: 0 is dominance of the first over the second, below 0.5 almost (95 % confidence); "
            "Δ MAE below 0: the first is better; its interval is a bootstrap over seeds"
        )
    finish(table)
    return table


def _row(key: str, a: Group, b: Group, names: Mapping[str, str], wanted: set[int], split: str) -> Row | None:
    """One pair; None where a side has no scores."""
    x, y = ([v for v in g.scores("text", "mae", split).values() if v is not None] for g in (a, b))
    if not x or not y:
        return None
    found = compare(x, y, lower_is_better=True)
    first, second = (names[g.traits.variant].removesuffix(" (ours)") for g in (a, b))
    row = Row(key=key, label=f"{first} → {second}, {a.traits.student}", n=min(found.n, found.m))
    epsilon, delta, interval = COMPARED
    row.cells["difference"] = [Part(text=delta.text(found.difference), value=found.difference)]
    if found.epsilon is None:
        row.notes.append("needs at least two seeds a side")
    else:
        row.cells["epsilon"] = [Part(text=epsilon.text(found.epsilon), value=found.epsilon)]
        row.cells["interval"] = [Part(text=f"[{interval.text(found.low or 0)}, {interval.text(found.high or 0)}]")]
    for name, group in ((first, a), (second, b)):
        row.notes += [f"{name}: {note}" for note in missing(group, wanted)]
    row.complete = found.epsilon is not None and wanted <= set(a.runs) & set(b.runs)
    return row
