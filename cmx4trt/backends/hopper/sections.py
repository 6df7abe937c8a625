"""What reports and ``inspect`` show about an engine of this backend: its launches, their bounds, and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmx4trt.backends.facts import Cell, Section, Share
from cmx4trt.base.damage import MALFORMED

PEAK_OPERATIONS = 1979e12
"""INT8 operations per second without sparsity (NVIDIA H100 Tensor Core GPU datasheet, SXM; the same for the H200)."""
BANDWIDTH = {"H200": 4.8e12, "H100": 3.35e12}
"""Memory bandwidth in bytes per second (NVIDIA's datasheets, SXM); GPUs with other names are compared with the H100's."""


def sections(built: Mapping[str, Any], executed: Mapping[str, Any]) -> tuple[Section, ...]:
    """The launches with their bounds, and with measurements if the engine has run.

    Nothing if the records have another format.
    """
    launches, measured = built.get("launches"), executed.get("measured")
    if not launches:
        return ()
    try:
        return (_measured(launches, measured) if measured else _unmeasured(_bound_rows(launches)),)
    except MALFORMED:
        return ()


def bound_seconds(record: Mapping[str, Any], batch: int, device: str) -> tuple[float, str]:
    """The minimum time of a launch and what bounds it: memory traffic or operations."""
    bandwidth = next((rate for name, rate in BANDWIDTH.items() if name in device), BANDWIDTH["H100"])
    memory = (record["image_bytes"] * batch + record["weight_bytes"]) / bandwidth
    arithmetic = record["image_operations"] * batch / PEAK_OPERATIONS
    return (memory, "memory") if memory >= arithmetic else (arithmetic, "arithmetic")


def _measured_rows(launches: list[Any], times: list[float], batch: int, device: str) -> list[tuple[Cell, ...]]:
    longest = max(times)
    rows: list[tuple[Cell, ...]] = []
    for record, milliseconds in zip(launches, times, strict=True):
        bound, limit = bound_seconds(record, batch, device)
        rows.append(
            (
                str(record["operations"]),
                str(record["kernel"]),
                f"{bound * 1e3:.4f} ({limit})",
                Share(milliseconds / longest if longest else 0.0, f"{milliseconds:.4f}"),
                f"{bound * 1e3 / milliseconds:.0%}" if milliseconds else "",
            )
        )
    return rows


def _bound_rows(launches: list[Any]) -> list[tuple[Cell, ...]]:
    return [
        (
            str(record["operations"]),
            str(record["kernel"]),
            f"{record['image_bytes'] / 1e3:,.0f}",
            f"{record['image_operations'] / 1e6:,.1f}",
        )
        for record in launches
    ]


def _measured(launches: list[Any], measured: Mapping[str, Any]) -> Section:
    times, batch, gpu = measured["launch_milliseconds"], measured["batch"], str(measured["gpu"])
    rows = _measured_rows(launches, times, batch, gpu)
    total = float(measured["milliseconds"])
    bound = 1e3 * sum(bound_seconds(record, batch, gpu)[0] for record in launches)
    paragraphs = (
        f"Measured on {gpu} at batch {batch}{_circumstances(measured)}. The whole network as one CUDA graph: {total:.3f} ms, "
        f"{batch / total * 1e3:,.0f} images/s; sum of its launches, each timed in repetitions: {sum(times):.3f} ms.",
        f"The bound of a launch is the time for its minimum memory traffic at the bandwidth of NVIDIA's datasheet, or for its "
        f"operations at the peak rate, whichever is longer; sum of the bounds: {bound:.3f} ms. A launch whose data stay in the "
        "L2 cache, as with small batches, can be faster than its bound.",
    )
    columns = ("operations", "kernel", "bound, ms", "measured, ms", "bound / measured")
    return Section("Launches", paragraphs, columns, tuple(rows))


def _circumstances(measured: Mapping[str, Any]) -> str:
    """Driver, clock and power, as far as they were recorded."""
    said = {"driver": "driver {}", "sm_clock_mhz": "{} MHz", "watts": "{:.0f} W", "celsius": "{} degrees Celsius"}
    parts = [words.format(measured[name]) for name, words in said.items() if name in measured]
    return f" ({', '.join(parts)})" if parts else ""


def _unmeasured(rows: list[tuple[Cell, ...]]) -> Section:
    columns = ("operations", "kernel", "kB per image", "million operations per image")
    return Section(
        "Launches",
        ("Memory traffic and operations of each launch; nothing has been measured yet.",),
        columns,
        tuple(rows),
    )
