"""Which records of a source are worth opening: the checks that need the tables only."""

from __future__ import annotations

import math
from collections.abc import Iterable

from shards.sources.record import SPLITS, Raw, Rejected

LABEL_RANGE = (-3.0, 3.0)
"""Sentiment labels of MOSI and MOSEI (section 5.1)."""
MAX_ID_CHARACTERS = 512


def screen(records: Iterable[Raw | Rejected], task: str) -> tuple[list[Raw], list[Rejected]]:
    """Part the good records from the rest, in their order. Of a duplicate id the first record stays."""
    good: list[Raw] = []
    rejected: list[Rejected] = []
    seen: set[str] = set()
    for record in records:
        if isinstance(record, Rejected):
            rejected.append(record)
            continue
        fault = fault_of(record, task)
        if fault is None and record.id in seen:
            fault = ("duplicate id", "an earlier row has this id")
        if fault is None:
            seen.add(record.id)
            good.append(record)
        else:
            rejected.append(Rejected(id=record.id, cause=fault[0], detail=fault[1]))
    return good, rejected


def fault_of(record: Raw, task: str) -> tuple[str, str] | None:
    """Cause and detail of what is wrong with a record by itself, or None."""
    if not record.id or len(record.id) > MAX_ID_CHARACTERS or not record.id.isprintable():
        return "bad id", f"expected 1 to {MAX_ID_CHARACTERS} printable characters, found {record.id[:40]!r}"
    if record.split not in SPLITS:
        return "unknown split", f"expected {', '.join(SPLITS)}, found {record.split!r}"
    if task == "sentiment" and not record.text.strip():
        return "empty text", "expected a transcript, found nothing"
    try:
        (record.text + record.video_id + record.clip_id).encode()
    except UnicodeEncodeError as error:
        return "bad text", f"expected Unicode text, found half a surrogate pair: {error.reason}"
    return label_fault(record.label, task)


def label_fault(label: float, task: str) -> tuple[str, str] | None:
    """Cause and detail of what is wrong with a label, or None."""
    if not math.isfinite(label):
        return "no label", f"expected a number, found {label}"
    if task == "retrieval" and (label != int(label) or label < 0):
        return "label out of range", f"expected the number of a class, 0 or more, found {label}"
    low, high = LABEL_RANGE
    if task == "sentiment" and not low <= label <= high:
        return "label out of range", f"expected {low:g} to {high:g}, found {label:g}"
    return None
