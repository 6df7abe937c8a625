"""The table of launches in inspect and in reports: bounds, measured times, and records that are damaged."""

from __future__ import annotations

from typing import Any

import pytest

from cmx4trt.backends.facts import Share
from cmx4trt.backends.hopper.sections import bound_seconds, sections


def record(**values: Any) -> dict[str, Any]:
    return {
        "operations": "conv1",
        "kernel": "stem",
        "image_bytes": 335_000,
        "weight_bytes": 0,
        "image_operations": 1000,
        **values,
    }


LAUNCHES = [record(), record(operations="res2a", kernel="bottleneck", image_operations=1_979_000_000)]
MEASURED_ON = {
    "gpu": "NVIDIA H100 80GB HBM3",
    "batch": 1000,
    "milliseconds": 1.5,
    "launch_milliseconds": [0.2, 2.0],
    "driver": "550.54.15",
    "sm_clock_mhz": 1755,
    "watts": 690.4,
    "celsius": 61,
}


def test_a_launch_is_bound_by_memory_or_by_arithmetic() -> None:
    assert bound_seconds(LAUNCHES[0], 1000, "NVIDIA H100") == (pytest.approx(1e-4), "memory")
    assert bound_seconds(LAUNCHES[0], 1000, "NVIDIA H200") == (pytest.approx(335e6 / 4.8e12), "memory")
    assert bound_seconds(LAUNCHES[1], 1000, "another card") == (pytest.approx(1e-3), "arithmetic")


def test_measured_times_stand_beside_their_bounds() -> None:
    (section,) = sections({"launches": LAUNCHES}, {"measured": MEASURED_ON})
    text = " ".join(section.paragraphs)
    assert (
        "Measured on NVIDIA H100 80GB HBM3 at batch 1000 (driver 550.54.15, 1755 MHz, 690 W, 61 degrees Celsius)"
        in text
    )
    assert "1.500 ms, 666,667 images/s" in text
    assert "each timed in repetitions: 2.200 ms" in text
    assert "sum of the bounds: 1.100 ms" in text
    assert section.rows == (
        ("conv1", "stem", "0.1000 (memory)", Share(0.1, "0.2000"), "50%"),
        ("res2a", "bottleneck", "1.0000 (arithmetic)", Share(1.0, "2.0000"), "50%"),
    )


def test_without_a_measurement_only_the_work_is_shown() -> None:
    (section,) = sections({"launches": LAUNCHES}, {"engine_executed_on_a_device": "no"})
    assert "nothing has been measured yet" in section.paragraphs[0]
    assert section.rows[0] == ("conv1", "stem", "335", "0.0")


@pytest.mark.parametrize(
    ("built", "executed"),
    [
        ({}, {}),
        ({"launches": []}, {"measured": MEASURED_ON}),
        ({"launches": "many"}, {}),
        ({"launches": [{}]}, {}),
        ({"launches": LAUNCHES[:1]}, {"measured": MEASURED_ON}),
        ({"launches": LAUNCHES}, {"measured": {}, "x": 1} | {"measured": {"batch": 3}}),
        ({"launches": LAUNCHES}, {"measured": {**MEASURED_ON, "launch_milliseconds": ["a", "b"]}}),
        ({"launches": LAUNCHES}, {"measured": {**MEASURED_ON, "milliseconds": 0}}),
        ({"launches": LAUNCHES}, {"measured": {**MEASURED_ON, "watts": "much"}}),
    ],
)
def test_records_that_are_not_ours_show_nothing(built: Any, executed: Any) -> None:
    assert sections(built, executed) == ()
