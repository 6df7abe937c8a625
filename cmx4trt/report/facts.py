"""What is known about a published engine: its manifest, its file, and LoadGen results, as typed facts."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cmx4trt.backends import find_backend
from cmx4trt.backends.base import Backend
from cmx4trt.backends.facts import PRECISIONS, Measurement
from cmx4trt.base.damage import MALFORMED, reason, shortened
from cmx4trt.base.files import open_text
from cmx4trt.devices.gpus import GPUS, Gpu, gpu_of_device
from cmx4trt.errors import ModelError
from cmx4trt.graph.layers import Layer
from cmx4trt.quantize.record import QuantizationRecord
from cmx4trt.store import folder as store
from cmx4trt.store.manifest import Manifest
from cmx4trt.store.results import RESULT_NAME, BenchResult


@dataclass(frozen=True, slots=True)
class LoadGenRun:
    """The result of a LoadGen run found in ``folder``. ``of_this_engine``: whether it ran this very file."""

    folder: str
    result: BenchResult
    of_this_engine: bool


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine. ``doubt``: why the file is not the one that was published, or empty; ``layers`` is empty, and
    ``constant_bytes`` None, if they were not recorded."""

    engine: str
    manifest_path: str
    manifest: Manifest
    doubt: str
    title: str
    network: str
    precision: str
    builder: str
    version: str
    target: str
    scenario: str
    batch: int
    bytes: int
    layers: tuple[Layer, ...]
    constant_bytes: int | None
    uncounted: Mapping[str, int]
    stages: Mapping[str, float]
    runs: tuple[LoadGenRun, ...]
    unreadable_runs: tuple[str, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def name(self) -> str:
        """The engine in a line: network, precision, batch."""
        return f"{self.title} · {self.precision.upper()} · batch {self.batch}"

    @property
    def left_out(self) -> str:
        """The operators that belong to no layer, counted by type, most frequent first; empty if there are none."""
        if not self.uncounted:
            return ""
        frequent = sorted(self.uncounted.items(), key=lambda item: -item[1])
        named = ", ".join(f"{count} {name}" for name, count in frequent[:_NAMED_OPERATORS])
        rest = ", …" if len(frequent) > _NAMED_OPERATORS else ""
        return f"{sum(self.uncounted.values())} operators ({named}{rest})"

    @property
    def gpu_that_ran(self) -> Gpu | None:
        """The GPU in the table that ran the engine, or otherwise the one it was built on; None if neither is known."""
        built_on = self.manifest.builder.more.get("gpu")
        recorded = built_on.get("name", "") if isinstance(built_on, dict) else ""
        return gpu_of_device(self.manifest.execution.device or str(recorded))

    @property
    def ran_on_device(self) -> bool:
        """Whether this very engine file has run on a device: when it was built, or under LoadGen since."""
        return self.manifest.ran_on_a_device or any(run.of_this_engine and run.result.ran_engine for run in self.runs)

    @property
    def measurement(self) -> Measurement | None:
        """What the backend measured when it built the engine, on the device that ran it."""
        return self.manifest.execution.measured

    @property
    def backend(self) -> Backend | None:
        """The backend that built the engine; None if this installation does not have it."""
        return find_backend(self.builder)

    @property
    def gpus(self) -> Sequence[Gpu]:
        """The GPUs in the table that the engine may be intended for."""
        return gpus_of_engine(self.backend, self.target, self.gpu_that_ran)

    @property
    def quantization(self) -> QuantizationRecord | None:
        """What the manifest says about INT8; None for other engines."""
        record = self.manifest.graph.quantization
        return QuantizationRecord.from_dict(record, "graph.quantization") if record else None

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON types."""
        manifest = self.manifest
        return {
            "engine": self.engine,
            "manifest": self.manifest_path,
            "engine_file": self.doubt or "unchanged since it was published",
            **{name: getattr(self, name) for name in _SHOWN},
            "sha256": manifest.engine.sha256,
            "created": manifest.created,
            "source": manifest.source.to_dict(),
            "stages_seconds": dict(self.stages),
            "macs_per_image": self.macs if self.layers else None,
            "uncounted_operators": dict(self.uncounted),
            "layers": [layer.to_dict() for layer in self.layers],
            "quantization": dict(manifest.graph.quantization or {}),
            "verification": manifest.verification.to_dict(),
            "execution": manifest.execution.to_dict(),
            "loadgen": [{"of_this_engine": run.of_this_engine, **run.result.to_dict()} for run in self.runs],
        }


_SHOWN = (
    *("title", "network", "precision", "builder", "version", "target", "scenario", "batch"),
    *("bytes", "constant_bytes"),
)
_OF_ONE_GPU = ("current", "same_compute_capability")
"""Targets that mean the GPU an engine was built on, or GPUs like it."""
_NAMED_OPERATORS = 6
"""Number of operator types that a sentence names."""


def facts_of_engine(path: str) -> EngineFacts:
    """The facts of an engine, given its own path or its manifest's. Raises ModelError if the manifest is unusable."""
    manifest_path, manifest = store.read_published_manifest(path)
    with showing(manifest_path):
        return _facts(manifest_path, manifest)


def gpus_of_engine(backend: Backend | None, target: str, ran: Gpu | None = None) -> Sequence[Gpu]:
    """The GPUs in the table that an engine may be intended for; ``ran``: the one that ran it, or on which it was built.

    An engine made for the GPU it was built on is intended for GPUs like it; if that GPU is not known, for any its backend knows.
    """
    if ran is not None and target in _OF_ONE_GPU:
        return [gpu for gpu in GPUS if gpu.sm == ran.sm]
    return [gpu for gpu in GPUS if backend is None or backend.fits(target, gpu.sm) or gpu == ran]


def order_of_precision(precision: str) -> tuple[int, str]:
    """Sort key of precisions: in the order of the options; others (types of data that are only moved) follow by name."""
    return PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS), precision


@contextmanager
def showing(manifest_path: str) -> Iterator[None]:
    """Turn the consequences of malformed manifest values into one sentence. Raises ModelError."""
    try:
        yield
    except MALFORMED as error:
        raise ModelError(
            f"manifest {manifest_path} has a value that a report cannot show ({shortened(repr(error))}); "
            "build the engine again"
        ) from error


def _facts(manifest_path: str, manifest: Manifest) -> EngineFacts:
    request, graph = manifest.request, manifest.graph
    engine = store.engine_path_of(manifest_path, manifest)
    runs, unreadable = _runs(engine, manifest.engine.sha256)
    return EngineFacts(
        engine=engine,
        manifest_path=manifest_path,
        manifest=manifest,
        doubt=store.doubt_of_engine(manifest_path, manifest),
        title=manifest.network.title,
        version=manifest.builder.version,
        network=request.network,
        precision=request.precision,
        builder=request.builder,
        target=request.target,
        scenario=request.scenario,
        batch=request.batch_size,
        bytes=manifest.engine.bytes,
        layers=tuple(Layer.from_dict(one, "graph.layers") for one in graph.layers or ()),
        constant_bytes=graph.constant_bytes,
        uncounted=graph.uncounted_operators or {},
        stages=manifest.stages,
        runs=runs,
        unreadable_runs=unreadable,
    )


def _runs(engine: str, sha256: str) -> tuple[tuple[LoadGenRun, ...], tuple[str, ...]]:
    """The LoadGen runs below ``<engine stem>.results``, and the result files that cannot be read."""
    root = f"{os.path.splitext(engine)[0]}.results"
    if not os.path.isdir(root):
        return (), ()
    paths = sorted(glob.glob(os.path.join(glob.escape(root), "**", RESULT_NAME), recursive=True))
    found = [_run(path, sha256) for path in paths]
    return tuple(f for f in found if isinstance(f, LoadGenRun)), tuple(f for f in found if isinstance(f, str))


def _run(path: str, sha256: str) -> LoadGenRun | str:
    """The run whose result is at ``path``, or why it cannot be read."""
    try:
        with open_text(path) as stream:
            result = BenchResult.from_json(stream.read())
        return LoadGenRun(os.path.dirname(path), result, result.subject.sha256 == sha256)
    except (OSError, ValueError) as error:
        return f"{path} ({reason(error)})"
