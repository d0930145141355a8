"""CMU-MOSEI in MMSA's layout.

The paper trains on a part of it (9473 / 1206 / 2710 clips): those whose segment id all modalities have. Its list of ids is
not published. --common-modalities applies the rule to the raw clips; --keep-ids takes a list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from shards.sources.mosi import Mosi


@dataclass(kw_only=True)
class Mosei(Mosi):
    """CMU-MOSEI in MMSA's layout (16326 / 1871 / 4659 rows)"""

    name: str = field(default="mosei", metadata={"help": "name of the dataset (default: mosei)"})

    expected: ClassVar[dict[str, int]] = {"train": 16326, "valid": 1871, "test": 4659}


SOURCE: type = Mosei
