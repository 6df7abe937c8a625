"""What runners are given, and what comes back: plain data, which travels to any process and node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cmx4trt.store.results import BenchResult
from cmx4trt.sweep.cells import Cell

BUILD, MEASURE = "build", "measure"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task takes: cores, memory in bytes, a kind of GPU or None, minutes at most."""

    cores: int
    memory: int
    minutes: int
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One engine to build, or one to measure: ``request`` is that of the build as a record, ``evaluations`` what is measured."""

    key: str
    kind: str
    name: str
    needs: Needs
    request: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    after: str = ""
    """The key of the build that must be finished before."""
    engine: str = ""
    """The path of that build's engine in the caller's store."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A file on its way from or to a node: its name below the folder of its engine, its bytes and their SHA-256."""

    name: str
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task. ``lost``: nobody knows, since its node or process is gone; else ``exit_code`` is the command's.

    ``engine``: its path; its name only where it was ``carried`` here. ``results``: LoadGen's, by mode. ``host``: where it ran.
    ``wants_engine``: the node does not see the caller's store, so the engine must be carried there first.
    """

    key: str
    exit_code: int = 0
    error: str = ""
    lost: bool = False
    wants_engine: bool = False
    engine: str = ""
    reused: bool = False
    results: Mapping[str, BenchResult] = field(default_factory=dict)
    carried: tuple[Carried, ...] = ()
    host: str = ""
    seconds: float = 0.0


def tasks_of_cells(cells: list[Cell], options: Mapping[str, Any]) -> Iterator[Task]:
    """The builds and measurements of all cells, each once; ``options``: those of the file's section tasks."""
    seen: set[str] = set()

    def needs(gpu: str | None) -> Needs:
        return Needs(options["cores"], options["memory"], options["minutes"], gpu)

    for cell in cells:
        request = cell.request.to_dict()
        if cell.build not in seen:
            yield Task(cell.build, BUILD, cell.name, needs(cell.build_gpu), request)
        if cell.measure and cell.measure not in seen:
            yield Task(cell.measure, MEASURE, cell.name, needs(cell.gpu), request, cell.evaluations, cell.build)
        seen |= {cell.build, cell.measure}
