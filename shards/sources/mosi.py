"""CMU-MOSI in MMSA's layout: its name, its known sizes, and a choice of ids."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from shards.sources.mmsa import Mmsa
from shards.sources.record import Raw, Rejected

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Mosi(Mmsa):
    """CMU-MOSI in MMSA's layout (1284 / 229 / 686 rows)"""

    name: str = field(default="mosi", metadata={"help": "name of the dataset (default: mosi)"})
    keep_ids: Path | None = field(default=None, metadata={"help": "pack only the ids in this file, one a line"})
    common_modalities: bool = field(
        default=False,
        metadata={"help": "pack only clips with transcript, pictures, sound and a face (section 5.1)"},
    )

    expected: ClassVar[dict[str, int]] = {"train": 1284, "valid": 229, "test": 686}

    def __iter__(self) -> Iterator[Raw | Rejected]:
        chosen = read_ids(self.keep_ids) if self.keep_ids else None
        found: set[str] = set()
        counts: Counter[str] = Counter()
        for record in super().__iter__():
            if chosen is not None and record.id not in chosen:
                continue
            found.add(record.id)
            if isinstance(record, Raw):
                counts[record.split] += 1
                record = replace(record, common_modalities=self.common_modalities)
            yield record
        self._compare(chosen, found, counts)

    def _compare(self, chosen: set[str] | None, found: set[str], counts: Counter[str]) -> None:
        """Say what differs from what this dataset is known to be; a part of it may be meant."""
        table = self.root / "label.csv"
        if chosen is not None:
            if not found:
                raise ValueError(f"{self.keep_ids}: expected ids of {table}, found none of them there")
            if len(found) < len(chosen):
                example = min(chosen - found)
                missing = len(chosen - found)
                log.warning(
                    "%s: %d of %d ids are not in %s, such as %s", self.keep_ids, missing, len(chosen), table, example
                )
        elif dict(counts) != self.expected:
            shown = " / ".join(str(counts[split]) for split in self.expected)
            known = " / ".join(str(count) for count in self.expected.values())
            log.warning(
                "%s: %s is known to have %s rows in train / valid / test, found %s", table, self.name, known, shown
            )


def read_ids(path: Path) -> set[str]:
    """Ids from a text file, one a line: MMSA's VIDEO_ID$_$CLIP_ID, or the CMU SDK's VIDEO_ID[CLIP_ID].

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no id in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--keep-ids: expected a file with one id a line, found none at {path}")
    ids = set()
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        text = line.strip()
        if text.endswith("]") and "[" in text:
            video, clip = text[:-1].rsplit("[", 1)
            text = f"{video}$_${clip}"
        if text:
            ids.add(text)
    if not ids:
        raise ValueError(f"--keep-ids {path}: expected one id a line, found an empty file")
    return ids


SOURCE: type = Mosi
