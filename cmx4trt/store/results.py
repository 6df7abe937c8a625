"""The result of a LoadGen run as it lies beside LoadGen's logs, docs/reference/result.schema.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cmx4trt.base.damage import parse_json
from cmx4trt.base.frozen import field
from cmx4trt.base.typed import Record, absent
from cmx4trt.store.manifest import ENGINE_ITSELF

SCHEMA = "cmx4trt-bench/1"
RESULT_NAME, TEXT_NAME = "cmx4trt_result.json", "cmx4trt_result.txt"
"""Our two files next to LoadGen's logs."""
COMPLETE, FAILED, INTERRUPTED = "complete", "failed", "interrupted"
"""Statuses of a run; the logs of the last two are partial."""


class Subject(Record):
    """What ran. ``engine``: path; ``network``: full name; ``sha256``: of the engine; ``batch``: the largest, in samples."""

    engine: str | None = absent()
    network: str | None = absent()
    precision: str | None = absent()
    sha256: str | None = absent("engine sha256")
    batch: int | None = absent("batch size")


class Metric(Record):
    """What MLPerf ranks a scenario by: a throughput in samples/s, or a latency in ns."""

    name: str
    value: float
    unit: str


class Departure(Record):
    """A setting that differs from MLPerf's."""

    used: Any
    mlperf: Any


class LoadGenFacts(Record):
    """LoadGen's version, the errors that it logged, and the number of its warnings."""

    version: str
    errors: Sequence[str]
    warnings: int


class SampleMemory(Record):
    """Samples in the host's memory; ``fetched_by_the_gpu``: page-locked, else the CPU gathers batches."""

    samples: int
    bytes: int
    fetched_by_the_gpu: bool


class GpuShare(Record):
    """What one GPU answered; ``share`` of all samples, 0 to 1; ``limits``: what NVML says that it could do."""

    index: int
    name: str
    samples: int
    share: float
    limits: Mapping[str, Any] = field(default_factory=dict)


class GpuCourse(Record):
    """Clock in MHz and power in W, second by second."""

    sm_clock_mhz: Sequence[int] = ()
    watts: Sequence[float] = ()


class Timeline(Record):
    """The run second by second: time since its beginning in s, samples answered per second, and the course of every GPU."""

    seconds: Sequence[float] = ()
    samples_per_second: Sequence[float] = ()
    gpus: Sequence[GpuCourse] = ()


class Accuracy(Record):
    """``value`` and ``target`` in percent of ``metric``; a ``verdict`` only for the complete validation set of a target.

    Where there is nothing to measure against, ``metric`` and ``value`` are None; ``note`` says why there is no verdict.
    """

    metric: str | None = absent()
    value: float | None = absent()
    target: float | None = absent()
    images: int = 0
    verdict: str = ""
    note: str | None = absent()


class BenchResult(Record):
    """One run. ``executed`` begins with what really ran; ``valid`` is LoadGen's verdict, None if there is none (accuracy mode).

    ``latency_ns``: percentiles (of queries in MultiStream). ``departures``: settings that differ from MLPerf's.
    ``batch_times_ms``: Server's table, by batch size. ``notes``: what reduced the performance.
    """

    executed: str
    status: str
    scenario: str
    mode: str
    folder: str
    subject: Subject = field(default_factory=Subject)
    data: str = ""
    valid: bool | None = None
    reason: str = ""
    metric: Metric | None = None
    latency_ns: Mapping[str, int] = field(default_factory=dict)
    queries: int = 0
    samples_per_query: int = 0
    departures: Mapping[str, Departure] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    loadgen: LoadGenFacts | None = None
    memory: SampleMemory | None = None
    batch_times_ms: Mapping[str, float] = field(default_factory=dict)
    gpus: Sequence[GpuShare] = ()
    timeline: Timeline | None = None
    notes: Sequence[str] = ()
    accuracy: Accuracy | None = None

    @property
    def ran_engine(self) -> bool:
        """Whether the engine itself ran, rather than its graph."""
        return self.executed.startswith(ENGINE_ITSELF)

    def to_json(self) -> str:
        """The result as indented JSON."""
        return json.dumps({"schema": SCHEMA, **self.to_dict()}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BenchResult:
        """The result that ``to_json`` wrote. Raises ValueError on anything else."""
        values = parse_json(text)
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ValueError(f"not a result of schema {SCHEMA}")
        return cls.from_dict(values)

    def exports(self) -> dict[str, str]:
        """The values for workflows, by upper-case name."""
        exports = {
            "STATUS": self.status,
            "SCENARIO": self.scenario,
            "MODE": self.mode,
            "LOG_PATH": self.folder,
            "FILE_WITH_PATH": os.path.join(self.folder, RESULT_NAME),
        }
        if self.valid is not None:
            exports["VALID"] = "yes" if self.valid else "no"
        if self.metric is not None:
            exports["METRIC"], exports["VALUE"] = self.metric.name, repr(self.metric.value)
        exports.update({f"P{float(name):g}_LATENCY_NS": str(value) for name, value in self.latency_ns.items()})
        measured = self.accuracy.to_dict() if self.accuracy is not None else {}
        exports.update({f"ACCURACY_{name.upper()}": str(value) for name, value in measured.items() if name != "note"})
        return {name.replace(".", "_"): value for name, value in exports.items()}
