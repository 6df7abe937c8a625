"""The sweep file: a matrix of option values, cells that are added and left out, and what a task needs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cmx4trt.base.options import SIZE, TEXT, Option, choice, whole
from cmx4trt.base.records import readable
from cmx4trt.errors import RequestError
from cmx4trt.sweep.located import Located, read_located
from cmx4trt.sweep.options import ACCURACY, BENCH, GPU, GPU_KIND, cell_options

MAX_CELLS = 100_000
TASK_OPTIONS: Mapping[str, Option] = {
    one.name: one
    for one in (
        Option("cores", whole(1, 1024), "cores of a task", 1),
        Option("memory", SIZE, "memory of a task, such as 4GiB", "4GiB"),
        Option(
            "retries",
            whole(0, 100),
            "retries of a task whose node was lost; refused requests are never retried",
            2,
        ),
        Option(
            "minutes",
            whole(1, 7 * 24 * 60),
            "time limit; a task that takes longer is ended and counts as failed",
            240,
        ),
    )
}
CLUSTERS = ("slurm", "local", "debug")
SLURM_OPTIONS: Mapping[str, Option] = {
    one.name: one
    for one in (
        Option(
            "cluster",
            choice(CLUSTERS),
            "submitit's executor: slurm, local (processes of this machine), debug (in this process)",
            "slurm",
        ),
        Option("partition", TEXT, "partition of the jobs"),
        Option("account", TEXT, "account of the jobs"),
        Option("parallel", whole(1, 10_000), "concurrent jobs of an array", 256),
    )
}
GPU_OPTIONS: Mapping[str, Option] = {
    one.name: one
    for one in (
        Option("constraint", TEXT, "constraint that selects nodes with this GPU"),
        Option("gres", TEXT, "generic resource to request of such a node (default: gpu:1)"),
        Option("partition", TEXT, "partition of such nodes"),
    )
}
LOCAL, RAY, SLURM = PLACES = ("local", "ray", "slurm")
PLACE_OPTIONS: Mapping[str, Option] = {
    one.name: one
    for one in (
        # Not "on", which YAML 1.1 reads as true.
        Option("run_on", choice(PLACES), "where tasks run: this machine, a Ray cluster, Slurm", LOCAL),
        Option("address", TEXT, "ray: address of the cluster (default: Ray on this machine)"),
    )
}
_GPU = Option(GPU, GPU_KIND, "a kind of GPU")
SECTIONS = ("defaults", "matrix", "include", "exclude", "store", *PLACE_OPTIONS, "tasks", "slurm")


@dataclass(frozen=True, slots=True)
class CellValues:
    """One cell as the file says it: parsed values by name, those that were varied, and the line to blame."""

    values: Mapping[str, Any]
    varied: tuple[str, ...]
    where: Located
    from_matrix: bool

    @property
    def name(self) -> str:
        """What tells it from others, in the file's words."""
        return ", ".join(f"{name}={readable(name, self.values[name])}" for name in self.varied) or "the one cell"


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep: its cells in the file's order; ``store``: the folder of the engines; ``place``, ``tasks``, ``slurm``: options by
    name; ``gpus``: kind of GPU -> its options on Slurm."""

    path: str
    cells: tuple[CellValues, ...]
    store: str
    place: Mapping[str, Any]
    tasks: Mapping[str, Any]
    slurm: Mapping[str, Any] = field(default_factory=dict)
    gpus: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_sweep(path: str) -> SweepFile:
    """The sweep in a YAML file. Raises RequestError with the line, MissingSoftwareError without PyYAML."""
    path = os.path.abspath(path)
    root = read_located(path)
    parts = dict(root.items(SECTIONS, "a sweep"))
    reader = _Cells(os.path.dirname(path))
    cells = tuple(reader.read(parts, root))
    store = parts["store"].plain("store") if "store" in parts else "engines"
    slurm, gpus = _slurm(parts.get("slurm"))
    return SweepFile(
        path,
        cells,
        os.path.join(os.path.dirname(path), os.path.expanduser(str(store))),
        {
            name: _parsed(one, parts[name]) if name in parts else one.value_of(None)
            for name, one in PLACE_OPTIONS.items()
        },
        _options(parts.get("tasks"), TASK_OPTIONS, "tasks"),
        slurm,
        gpus,
    )


def _options(section: Located | None, known: Mapping[str, Option], what: str) -> dict[str, Any]:
    """The values of a section, defaults included. Raises RequestError."""
    given = (
        {}
        if section is None
        else {name: _parsed(known[name], item) for name, item in section.items(tuple(known), what)}
    )
    return {name: one.value_of(None) for name, one in known.items()} | given


def _slurm(section: Located | None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    if section is None:
        return _options(None, SLURM_OPTIONS, "slurm"), {}
    parts = dict(section.items((*SLURM_OPTIONS, "gpus"), "slurm"))
    gpus = parts.pop("gpus", None)
    named = {} if gpus is None or not isinstance(gpus.value, dict) else gpus.value
    of_gpus = {
        str(_parsed(_GPU, Located(name, item.file, item.line))): _options(item, GPU_OPTIONS, f"slurm.gpus.{name}")
        for name, item in named.items()
    }
    return _options(Located(parts, section.file, section.line), SLURM_OPTIONS, "slurm"), of_gpus


def _parsed(option: Option, item: Located) -> Any:
    """The value of an option. Raises RequestError with its line."""
    value = item.plain(option.name)
    try:
        return None if value is None else option.parse(value)
    except RequestError as error:
        raise item.error(str(error)) from error


class _Cells:
    """Reads defaults, matrix, include and exclude; ``folder``: what relative paths are meant from."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._options = cell_options()

    def read(self, parts: Mapping[str, Located], root: Located) -> Iterator[CellValues]:
        """The cells: every combination that is not excluded, then those that are included. Raises RequestError."""
        defaults = self._values(parts["defaults"], "defaults") if "defaults" in parts else {}
        axes = self._axes(parts["matrix"]) if "matrix" in parts else {}
        excluded = [(self._values(item, "exclude"), item) for item in self._items(parts, "exclude")]
        included = self._items(parts, "include")
        self._check_size(axes, len(included), parts.get("matrix", root))
        self._check_excluded(excluded, axes)
        for chosen in itertools.product(*axes.values()) if axes else ():
            values = {**defaults, **dict(zip(axes, chosen, strict=True))}
            if not any(one.items() <= values.items() for one, _ in excluded):
                yield CellValues(
                    values, tuple(n for n, choices in axes.items() if len(choices) > 1), parts["matrix"], True
                )
        for item in included:
            own = self._values(item, "include")
            yield CellValues({**defaults, **own}, tuple(own), item, False)
        if not axes and not included:
            raise root.error("there are no cells; give a 'matrix' of values, or cells below 'include'")

    def _items(self, parts: Mapping[str, Located], name: str) -> list[Located]:
        return parts[name].list(name) if name in parts else []

    def _axes(self, section: Located) -> dict[str, list[Any]]:
        """Name -> the values of that axis, each once."""
        axes = {}
        for name, item in section.items(tuple(self._options), "matrix"):
            values = [self._value(name, one) for one in item.list(name)]
            if not values:
                raise item.error(f"{name} has no values; give one or more, or leave it out")
            axes[name] = list(dict.fromkeys(values))
        return axes

    def _values(self, section: Located, what: str) -> dict[str, Any]:
        """The values of one mapping; ``bench: {count: 8}`` is short for ``bench.count: 8``."""
        values: dict[str, Any] = {}
        for name, item in section.items((*self._options, ACCURACY), what):
            if name in (BENCH, ACCURACY) and isinstance(item.value, dict):
                known = tuple(option.partition(".")[2] for option in self._options if option.startswith(f"{name}."))
                inner = item.items(known, name)
                values.update({f"{name}.{own}": self._value(f"{name}.{own}", one) for own, one in inner})
            elif name == ACCURACY:
                raise item.error(
                    f"accuracy is {item.kind}, expected a mapping of options of cmx4trt verify, such as data"
                )
            else:
                values[name] = self._value(name, item)
        return values

    def _value(self, name: str, item: Located) -> Any:
        """The value of an option; relative paths are meant from the file's folder."""
        kind = self._options[name].kind
        if kind.is_path and isinstance(item.value, str) and item.value not in kind.words:
            item = Located(os.path.join(self._folder, os.path.expanduser(item.value)), item.file, item.line)
        return _parsed(self._options[name], item)

    def _check_size(self, axes: Mapping[str, list[Any]], included: int, where: Located) -> None:
        count = included + (1 if axes else 0)
        for values in axes.values():
            count *= len(values)
        if count > MAX_CELLS:
            raise where.error(f"these are {count:,} cells, expected at most {MAX_CELLS:,}; split the sweep")

    def _check_excluded(self, excluded: list[tuple[dict[str, Any], Located]], axes: Mapping[str, list[Any]]) -> None:
        """An exclusion that no cell can fit is a mistake in writing."""
        for values, item in excluded:
            for name, value in values.items():
                if name in axes and value not in axes[name]:
                    raise item.error(f"exclude has {name}={value}, which is not in the matrix; correct one of them")
