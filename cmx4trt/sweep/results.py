"""What became of every cell, for people, for programs (CSV and JSON) and for the next script."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cmx4trt.requests.evaluation_options import ACCURACY, PERFORMANCE
from cmx4trt.store.folder import manifest_path_of, read_manifest, report_path_of
from cmx4trt.sweep.cells import Cell
from cmx4trt.sweep.status import DONE, FAILED, INVALID, Measured, TaskRecord

SCHEMA = "cmx4trt-sweep/1"
UNFINISHED = "unfinished"
THROUGHPUTS = ("Offline", "Server")
"""Scenarios that MLPerf ranks by samples a second; the others by latency."""


@dataclass(frozen=True, slots=True)
class Row:
    """A cell with its outcome. Sizes in bytes, latencies in milliseconds, throughput in samples a second; None for what is not
    known. ``ran_on``: the GPU or 'CPU'; ``engine_ran``: the engine itself, not its graph.
    """

    cell: str
    state: str
    error: str
    network: str
    builder: str
    precision: str
    batch_size: int
    copy_streams: int
    target: str
    scenario: str
    gpu: str | None
    engine: str
    report: str
    bytes: int | None
    verified: str
    ran_on: str
    engine_ran: bool
    valid: bool | None
    samples_per_second: float | None
    latency_ms: float | None
    accuracy: float | None
    accuracy_metric: str
    host: str
    build_seconds: float | None
    measure_seconds: float | None
    build: str
    measure: str

    @property
    def label(self) -> str:
        """Builder, precision, batch and streams in a few words."""
        streams = f", {self.copy_streams} streams" if self.copy_streams > 1 else ""
        return f"{self.precision.upper()}, batch {self.batch_size}{streams}, {self.builder}"

    def better(self, other: Row | None) -> bool:
        """Whether this one ranks before ``other`` in their scenario; one whose engine ran before one whose graph did."""
        if other is None:
            return True
        if self.engine_ran != other.engine_ran:
            return self.engine_ran
        if self.scenario in THROUGHPUTS:
            return (self.samples_per_second or 0) > (other.samples_per_second or 0)
        return (self.latency_ms or float("inf")) < (other.latency_ms or float("inf"))


def rows_of_cells(cells: Sequence[Cell], records: Mapping[str, TaskRecord]) -> list[Row]:
    """A row for each cell, in their order."""
    engines: dict[str, tuple[int | None, str]] = {}
    return [_row(cell, records.get(cell.build), records.get(cell.measure), engines) for cell in cells]


def _row(
    cell: Cell, build: TaskRecord | None, measure: TaskRecord | None, engines: dict[str, tuple[int | None, str]]
) -> Row:
    state, error = _state(cell, build, measure)
    engine = build.engine if build and build.state != FAILED else ""
    if engine and engine not in engines:
        engines[engine] = _engine_facts(engine)
    size, verified = engines.get(engine, (None, ""))
    results = measure.results if measure else {}
    run, judged = results.get(PERFORMANCE), results.get(ACCURACY)
    accuracy = judged.accuracy if judged else None
    latest = measure or build
    report = report_path_of(engine) if engine else ""
    request = cell.request
    return Row(
        **{
            name: getattr(request, name)
            for name in ("network", "builder", "precision", "batch_size", "copy_streams", "target")
        },
        cell=cell.name,
        state=state,
        error=error,
        scenario=cell.scenario,
        gpu=cell.gpu,
        engine=engine,
        report=report if os.path.isfile(report) else "",
        bytes=size,
        verified=verified,
        ran_on=_device(run) if run else "",
        engine_ran=run is not None and run.ran_engine,
        valid=run.valid if run else None,
        samples_per_second=_throughput(run) if run else None,
        latency_ms=_latency(run) if run else None,
        accuracy=accuracy.value if accuracy else None,
        accuracy_metric=(accuracy.metric if accuracy else None) or "",
        host=latest.host if latest else "",
        build_seconds=build.seconds if build else None,
        measure_seconds=measure.seconds if measure else None,
        build=cell.build,
        measure=cell.measure,
    )


def _state(cell: Cell, build: TaskRecord | None, measure: TaskRecord | None) -> tuple[str, str]:
    if build is None:
        return UNFINISHED, ""
    if build.state == FAILED:
        return FAILED, build.error
    if not cell.measure:
        return DONE, ""
    if measure is None:
        return UNFINISHED, ""
    return measure.state, measure.error


def _engine_facts(engine: str) -> tuple[int | None, str]:
    """Size in bytes, and what verification found, as the manifest says."""
    try:
        manifest = read_manifest(manifest_path_of(engine))
    except (OSError, ValueError):
        return None, ""
    return manifest.engine.bytes, manifest.verification.verdict


def _device(run: Measured) -> str:
    """The GPU that the sentence names, where the engine ran ('the engine itself, by TensorRT on NVIDIA L4'); else the CPU."""
    if not run.ran_engine:
        return "CPU" if run.executed else ""
    return run.executed.partition(", by ")[2].rpartition(" on ")[2]


def _throughput(run: Measured) -> float | None:
    """Samples a second; where the scenario's figure is a latency, those of a query over that latency."""
    if run.metric is None:
        return None
    if run.metric.unit != "ns":
        return float(run.metric.value)
    return round(1e9 * (run.samples_per_query or 1) / run.metric.value, 6) if run.metric.value else None


def _latency(run: Measured) -> float | None:
    """The figure of the scenario where that is a latency; else the 99th percentile, in milliseconds."""
    is_metric = run.metric is not None and run.metric.unit == "ns"
    value = run.metric.value if run.metric is not None and is_metric else run.latency_ns.get("99.00")
    return None if value is None else round(value / 1e6, 6)


def best_rows(rows: Sequence[Row]) -> dict[tuple[str, str, str], Row]:
    """(network, scenario, device) -> the best valid cell; a graph on the CPU is compared with its like only."""
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if row.state == DONE and row.samples_per_second is not None:
            place = row.network, row.scenario, row.ran_on
            if row.better(best.get(place)):
                best[place] = row
    return dict(sorted(best.items()))


def failures(rows: Sequence[Row]) -> list[Row]:
    """The cells that failed or whose measurement is not valid."""
    return [row for row in rows if row.state in (FAILED, INVALID)]


def rows_to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """All rows, and the best, as JSON types."""
    best = [{"network": n, "scenario": s, "ran_on": d, **asdict(row)} for (n, s, d), row in best_rows(rows).items()]
    return {"schema": SCHEMA, "cells": [asdict(row) for row in rows], "best": best}


def rows_to_csv(rows: Sequence[Row]) -> str:
    """All rows, with a head."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=Row.__slots__, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def exports_of_rows(rows: Sequence[Row], page: str) -> dict[str, str]:
    """For the next script: the page, counts, and of each scenario the best engine, on what runs it best."""
    exports = {
        "PAGE_WITH_PATH": page,
        "CELLS": str(len(rows)),
        "FAILED": str(len(failures(rows))),
    }
    chosen: dict[str, Row] = {}
    for (_, scenario, _), row in best_rows(rows).items():
        if row.better(chosen.get(scenario)):
            chosen[scenario] = row
    for scenario, row in chosen.items():
        exports[f"BEST_{scenario.upper()}_WITH_PATH"] = row.engine
    return exports
