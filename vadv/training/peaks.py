"""What a card can do at best: the denominator of MFU, from a table that anybody may extend (configs/gpu-peaks.json)."""

from __future__ import annotations

import json
from pathlib import Path

import torch

TABLE = Path(__file__).resolve().parents[2] / "configs" / "gpu-peaks.json"


def peak_of(device: torch.device, precision: str, table: Path = TABLE) -> float | None:
    """Operations per second of one device at best.

    Args:
        device: of this rank.
        precision: float32, bfloat16 or float16.
        table: name of a card → TFLOP/s by number format.

    Returns:
        None for a card that is not in the table, as for any CPU.

    Raises:
        ValueError: the table is not as it should be.
    """
    if device.type != "cuda" or not table.is_file():
        return None
    return peak_of_name(torch.cuda.get_device_name(device), _matrix_format(precision), table)


def peak_of_name(card: str, number_format: str, table: Path = TABLE) -> float | None:
    """The same for a card by its name: the longest name of the table that is part of it counts."""
    try:
        rows = {name: row for name, row in json.loads(table.read_text(encoding="utf-8")).items() if name != "about"}
        found = max((name for name in rows if name.lower() in card.lower()), key=len, default=None)
        peak = rows[found].get(number_format) if found is not None else None
        return peak * 1e12 if peak is not None else None
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f'{table}: expected {{"name of a card": {{"bfloat16": TFLOP/s, …}}}} for each card, found {error}'
        ) from None


def _matrix_format(precision: str) -> str:
    if precision == "float32" and torch.get_float32_matmul_precision() != "highest":
        return "tensorfloat32"
    return precision
