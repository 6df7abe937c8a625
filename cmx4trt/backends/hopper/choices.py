"""The table of measurements from which a schedule chooses kernels: batch -> signature -> candidate -> milliseconds.

The files in ``tables`` are part of the package, one for each card on which ``cmx4trt tune`` measured it. Small and large batches
need different kernels, so a table has one part for each of a few batch sizes, used for the sizes around it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cmx4trt.backends.hopper.candidates import Candidate
from cmx4trt.backends.hopper.options import SHIPPED
from cmx4trt.base.damage import MALFORMED, parse_json, printable, reason, shortened
from cmx4trt.base.files import open_text
from cmx4trt.errors import DataError

_LARGEST_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """Measured milliseconds of candidates, by signature, for one batch size."""

    milliseconds: Mapping[str, Mapping[str, float]]

    def choose(self, signature: str, candidates: Sequence[Candidate]) -> Candidate:
        """The fastest measured candidate; if none was measured, the first."""
        known = self.milliseconds.get(signature, {})
        measured = [candidate for candidate in candidates if candidate.name in known]
        return min(measured, key=lambda candidate: known[candidate.name]) if measured else candidates[0]

    def time(self, signature: str, candidate: str) -> float | None:
        """Milliseconds of a candidate; None if it was not measured."""
        return self.milliseconds.get(signature, {}).get(candidate)


@dataclass(frozen=True, slots=True)
class Choices:
    """Tables by the batch size at which they were measured."""

    gpu: str
    tables: Mapping[int, Table]

    def ranges(self, max_batch: int) -> Iterator[tuple[int, int, Table]]:
        """First and last batch size up to ``max_batch``, and the table used for them: the nearest by ratio."""
        sizes = sorted(self.tables)
        first = 1
        for size, following in zip(sizes, [*sizes[1:], None], strict=True):
            last = max_batch if following is None else min(max_batch, math.isqrt(size * following))
            if first <= last:
                yield first, last, self.tables[size]
            first = last + 1

    @property
    def digest(self) -> str:
        """SHA-256 of the content, independent of the file's formatting."""
        content = json.dumps(json.loads(self.to_json()), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def to_json(self) -> str:
        """The content of the file."""
        tables = {str(batch): table.milliseconds for batch, table in sorted(self.tables.items())}
        return json.dumps({"gpu": self.gpu, "milliseconds": tables}, indent=1) + "\n"


def choices_from_json(text: str) -> Choices:
    """The tables in a file's text. Raises one of MALFORMED if it is not a table."""
    record = parse_json(text)
    tables = {int(batch): Table(_rows(table)) for batch, table in record["milliseconds"].items()}
    if not tables or not 1 <= min(tables) <= max(tables) <= _LARGEST_BATCH:
        raise ValueError("no table for any batch size")
    if not isinstance(record["gpu"], str):
        raise ValueError("it names no GPU")
    return Choices(printable(record["gpu"]), tables)


def _rows(table: Any) -> dict[str, dict[str, float]]:
    rows = {signature: {name: _time(ms) for name, ms in row.items()} for signature, row in table.items()}
    if not any(rows.values()):
        raise ValueError("a batch size without a measurement")
    return rows


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{shortened(repr(value))} is not a time in milliseconds")
    return float(value)


def choices_of(chosen: str | None, gpu: str = "") -> Choices:
    """The tables of the option kernel_choices, a file or a card; without it those of the GPU of this name. Raises DataError."""
    if chosen is None:
        return shipped_choices(next((card for card in SHIPPED if card in gpu.lower().split()), SHIPPED[0]))
    if chosen in SHIPPED:
        return shipped_choices(chosen)
    try:
        with open_text(chosen) as stream:
            return choices_from_json(stream.read())
    except (OSError, *MALFORMED) as error:
        raise DataError(
            f"kernel_choices {chosen} is not a table of measured kernels ({reason(error)}); write it with 'cmx4trt tune ENGINE' "
            "on a machine with the GPU, or omit it"
        ) from error


@cache
def shipped_choices(card: str = SHIPPED[0]) -> Choices:
    """The tables of the package that were measured on this card, read once in a process."""
    with open(os.path.join(os.path.dirname(__file__), "tables", f"{card}.json"), encoding="utf-8") as file:
        return choices_from_json(file.read())
