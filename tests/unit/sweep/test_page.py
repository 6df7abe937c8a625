"""The page, and what is best."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.sweep.page import page_of_sweep, pareto_front
from cmx4trt.sweep.results import Row, best_rows

ROW = Row(
    cell="batch_size=1",
    state="done",
    error="",
    network="resnet50",
    builder="tensorrt-rtx",
    precision="fp16",
    batch_size=1,
    copy_streams=1,
    target="portable",
    scenario="Offline",
    gpu="sm89",
    engine="/e/a b.plan",
    report="/e/a b.report.html",
    bytes=52_000_000,
    verified="passed",
    ran_on="NVIDIA L4",
    engine_ran=True,
    valid=True,
    samples_per_second=1000.0,
    latency_ms=3.0,
    accuracy=76.4,
    accuracy_metric="top-1",
    host="n1",
    build_seconds=1.0,
    measure_seconds=2.0,
    build="b",
    measure="m",
)
INT8 = replace(
    ROW, precision="int8", batch_size=4, samples_per_second=5000.0, latency_ms=8.0, accuracy=75.9, bytes=27_000_000
)
ROWS = [
    ROW,
    replace(ROW, batch_size=4, samples_per_second=3000.0, latency_ms=9.0),
    INT8,
    replace(ROW, scenario="SingleStream", latency_ms=2.0, samples_per_second=500.0),
    replace(ROW, scenario="SingleStream", latency_ms=1.0, samples_per_second=1000.0, cell="best latency", batch_size=2),
    replace(ROW, ran_on="CPU", engine_ran=False, samples_per_second=90_000.0),
    replace(ROW, state="failed", error="no <space> left", samples_per_second=None, report=""),
]


def test_best_by_throughput_or_latency_and_graphs_apart() -> None:
    best = best_rows(ROWS)
    assert best["resnet50", "Offline", "NVIDIA L4"].precision == "int8"
    assert best["resnet50", "SingleStream", "NVIDIA L4"].cell == "best latency"
    assert best["resnet50", "Offline", "CPU"].samples_per_second == 90_000.0
    assert ROWS[0].better(ROWS[5]), "an engine that ran ranks before a graph"


def test_the_page_says_what_failed_and_links_to_reports() -> None:
    notes: list[str] = []
    page = page_of_sweep("round <5>", ROWS, "/e/state", notes.append)
    assert notes == []
    assert "round &lt;5&gt;" in page
    assert "no &lt;space&gt; left" in page
    assert 'href="../a%20b.report.html"' in page
    assert "CPU (graph)" in page
    assert "do not show the speed of an engine" in page
    assert page.count("<svg") == 4, "latency, accuracy and size of Offline on the L4, latency of SingleStream"
    assert "color-mix(in srgb,var(--bar) 55%,transparent)" in page


def test_a_sweep_that_has_only_begun_has_a_page() -> None:
    begun = replace(ROW, state="unfinished", samples_per_second=None, engine="", report="")
    assert "Nothing has been measured yet." in page_of_sweep("s", [begun], "/", print)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1), st.sampled_from([1, -1]))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int]], sign: int) -> None:
    front = set(pareto_front(points, sign))
    for x, y in points:
        beaten = any(sign * a >= sign * x and b >= y and (a, b) != (x, y) for a, b in points)
        assert ((x, y) in front) == (not beaten)
