"""Records for programs, shown to people."""

from __future__ import annotations

import pytest

from cmx4trt.base.quantities import binary_size, decimal_size
from cmx4trt.base.records import rows_of_record


def test_rows() -> None:
    record = {
        "verify": True,
        "model": None,
        "bytes": 51_234_567,
        "workspace_size": 4 << 30,
        "gpu": {"name": "L4", "memory_bytes": 24_000_000_000, "visible_devices": None},
        "flags": ["--a", "--b"],
        "shapes": [{"name": "x"}],
        "warnings": [],
        "seconds": 1.5,
    }
    assert list(rows_of_record(record)) == [
        ("verify", "yes"),
        ("bytes", "51.2 MB"),
        ("workspace_size", "4 GiB"),
        ("gpu name", "L4"),
        ("gpu memory_bytes", "24.0 GB"),
        ("flags", "--a, --b"),
        ("shapes", '[{"name": "x"}]'),
        ("warnings", "none"),
        ("seconds", "1.5"),
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(4 << 30, "4 GiB"), (1536 << 20, "1536 MiB"), (4096, "4 KiB"), (4097, "4,097 bytes"), (0, "0 bytes")],
)
def test_powers_of_two(size: int, text: str) -> None:
    assert binary_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 bytes"), (1500, "1.5 kB"), (51_234_567, "51.2 MB"), (141e9, "141.0 GB")]
)
def test_powers_of_ten(size: float, text: str) -> None:
    assert decimal_size(size) == text
