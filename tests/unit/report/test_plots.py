"""Plots of reports."""

from __future__ import annotations

import re

import pytest

from cmx4trt.report.plots import plot_run, plot_throughput

pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install cmx4trt)")


def numbers_in(picture: object) -> list[str]:
    return re.findall(r">([\d,.]+)</text>", str(picture))


def test_no_two_ticks_of_a_slow_run_are_alike() -> None:
    """Half a sample per second apart, they were rounded to whole ones."""
    picture = plot_run("run", [1.0, 2.0, 3.0], [("samples/s", [[1.0, 2.5, 2.0]])])
    ticks = numbers_in(picture)
    assert "0.5" in ticks
    assert "2.5" in ticks


def test_large_figures_are_grouped() -> None:
    picture = plot_throughput("t", {"fp16": [(1, 1.2e6), (16, 4.8e6)]}, "L4")
    assert any(re.fullmatch(r"\d,\d00,000", tick) for tick in numbers_in(picture))
