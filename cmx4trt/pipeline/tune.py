"""Which kernels are the fastest for an engine: measured on the GPU at hand, into a table that later builds choose by."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cmx4trt.backends.facts import Tuning
from cmx4trt.base.files import check_file, write_atomic
from cmx4trt.base.progress import CHECK_ENGINE, Progress, Silent
from cmx4trt.base.values import parse_path
from cmx4trt.pipeline.published import EngineGraph, read_published

SUFFIX = ".kernels.json"
"""Of the table beside the engine."""
_SETTING = "--save"


@dataclass(frozen=True, slots=True)
class Tuned:
    """The table's path, the option that takes it, and what was measured, for people."""

    path: str
    option: str
    rows: tuple[tuple[str, str], ...]


def tune_engine(
    engine: str, save: str | None = None, model: str | None = None, progress: Progress | None = None
) -> Tuned:
    """Measure for the published ``engine``, and write the table to ``save``, or beside the engine.

    ``model``: where its ONNX file is now, if it was moved. Raises UnsupportedError where its backend has no choice of kernels,
    DeviceError or MissingSoftwareError without the GPU, ModelError, OutputError.
    """
    progress = progress or Silent()
    moved = None if model is None else parse_path("model", model)
    with progress.stage(CHECK_ENGINE):
        published = read_published(parse_path("engine", engine)).asked_as(None, moved)
    path = f"{os.path.splitext(published.path)[0]}{SUFFIX}" if save is None else parse_path("save", save)
    check_file(path, _SETTING)
    subject = EngineGraph(published, progress)
    found: Tuning = published.backend.tune(lambda: subject.graph.prepared.graph, published.request, progress)
    write_atomic(path, found.content.encode(), _SETTING)
    return Tuned(path, found.option, found.rows)
