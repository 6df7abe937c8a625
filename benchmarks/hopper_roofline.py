"""What fusion saves, and what bounds each stage: counted from ResNet-50's shapes, with measured times if available.

    python benchmarks/hopper_roofline.py [--measured FOLDER/hopper.json] [--pictures FOLDER]

CPU only. ``hopper.json`` is written by hopper.py; with --pictures, the two pictures of docs/explanation/hopper.md are drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hopper_bench import random_network

from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.backends.hopper.network import Classifier, Convolution, Network, Operation, Projection, Residual
from cmx4trt.backends.hopper.plan import Launch
from cmx4trt.backends.hopper.schedule import Types, schedule
from cmx4trt.backends.hopper.sections import BANDWIDTH, PEAK_OPERATIONS
from cmx4trt.backends.hopper.work import launch_records, weight_bytes

BATCH = 1024
STAGES = {112: "stem", 56: "stage 2", 28: "stage 3", 14: "stage 4", 7: "stage 5", 1: "head"}
"""Height of an operation's output -> stage of the network."""
COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


@dataclass
class Stage:
    """Bytes and operations of one stage for a batch: with one kernel per layer, and as launched."""

    layers: int = 0
    launches: int = 0
    apart: float = 0.0
    launched: float = 0.0
    operations: float = 0.0
    milliseconds: float = 0.0

    @property
    def memory(self) -> float:
        """Milliseconds for its memory traffic."""
        return 1e3 * self.launched / BANDWIDTH["H100"]

    @property
    def arithmetic(self) -> float:
        """Milliseconds for its operations."""
        return 1e3 * self.operations / PEAK_OPERATIONS


def stages_of(network: Network, times: list[float] | None) -> dict[str, Stage]:
    program = schedule(network, BATCH, Types("int8"), shipped_choices()).plan.program(BATCH)
    records = launch_records(network, program)
    named = {operation.name: operation for operation in network.operations}
    found = {name: Stage() for name in STAGES.values()}
    for number, (launch, record) in enumerate(zip(program.launches, records, strict=True)):
        stage = found[_stage(network, launch, named)]
        stage.launches += 1
        stage.launched += record["image_bytes"] * BATCH + record["weight_bytes"]
        stage.operations += record["image_operations"] * BATCH
        stage.milliseconds += times[number] if times else 0.0
        for operation in (named[name] for name in launch.operations if name in named):
            stage.layers += 1 + isinstance(getattr(operation, "addend", None), Projection)
            stage.apart += _apart(network, operation)
    return found


def _stage(network: Network, launch: Launch, named: dict[str, Operation]) -> str:
    first = named.get(launch.operations[0])
    height = network.activations[first.output].height if first is not None and not isinstance(first, Classifier) else 1
    return STAGES[height]


def _apart(network: Network, operation: Operation) -> float:
    """Bytes for a batch if every layer were a kernel that reads its inputs and writes its output; likewise for projections."""

    def size(name: str) -> int:
        a = network.activations[name]
        return a.height * a.width * a.channels

    if isinstance(operation, Classifier):
        return BATCH * (size(operation.input) + 4 * len(operation.weights)) + weight_bytes(operation)
    total = size(operation.input) + size(operation.output)
    addend = operation.addend if isinstance(operation, Convolution) else None
    if isinstance(addend, Residual):
        total += size(addend.input)
    if isinstance(addend, Projection):
        total += size(addend.input) // addend.stride**2 + 2 * size(operation.output)
    return BATCH * total + weight_bytes(operation)


def print_stages(stages: dict[str, Stage], measured: bool) -> None:
    head = ["", "layers", "launches", "GB, one kernel per layer", "GB as launched", "memory, ms", "arithmetic, ms"]
    if measured:
        head += ["measured, ms"]
    print(
        f"batch {BATCH}, H100: {BANDWIDTH['H100'] / 1e12:.2f} TB/s, {PEAK_OPERATIONS / 1e12:,.0f} 10^12 operations/s\n"
    )
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, stage in (*stages.items(), ("all", _total(stages))):
        cells = [
            name,
            str(stage.layers),
            str(stage.launches),
            f"{stage.apart / 1e9:.2f}",
            f"{stage.launched / 1e9:.2f}",
        ]
        cells += [f"{stage.memory:.2f}", f"{stage.arithmetic:.2f}"]
        print("| " + " | ".join(cells + ([f"{stage.milliseconds:.2f}"] if measured else [])) + " |")


def _total(stages: dict[str, Stage]) -> Stage:
    total = Stage()
    for stage in stages.values():
        for name in ("layers", "launches", "apart", "launched", "operations", "milliseconds"):
            setattr(total, name, getattr(total, name) + getattr(stage, name))
    return total


def draw_roofline(stages: dict[str, Stage], path: Path) -> None:
    """Every stage twice: with one kernel per layer, and as launched; an arrow from one to the other."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    ridge = PEAK_OPERATIONS / BANDWIDTH["H100"]
    axes.plot(
        [10, ridge, 5000],
        [10 * BANDWIDTH["H100"] / 1e12, PEAK_OPERATIONS / 1e12, PEAK_OPERATIONS / 1e12],
        color="black",
    )
    for (name, stage), color in zip(list(stages.items())[:5], COLORS, strict=False):
        points = [_point(stage, total) for total in (stage.apart, stage.launched)]
        axes.annotate("", points[1], points[0], arrowprops={"arrowstyle": "->", "color": color})
        axes.plot(*points[0], "o", color=color, fillstyle="none")
        axes.plot(*points[1], "o", color=color, label=name)
        if stage.milliseconds:
            reached = stage.operations / stage.milliseconds * 1e3 / 1e12
            axes.plot(points[1][0], reached, "x", color=color)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="10¹² operations per second")
    marks = "\N{WHITE CIRCLE} one kernel per layer\n\N{BLACK CIRCLE} as launched\n\N{MULTIPLICATION SIGN} measured"
    axes.legend(title=marks, fontsize="small", title_fontsize="small")
    _save(figure, path)


def _point(stage: Stage, total: float) -> tuple[float, float]:
    intensity = stage.operations / total
    return intensity, min(intensity * BANDWIDTH["H100"], PEAK_OPERATIONS) / 1e12


def draw_launches(rows: list[list[Any]], path: Path) -> None:
    """Kinds of launches: measured time as bars, each with a mark for its bound."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 0.28 * len(rows) + 1))
    names = list(_shortened(rows))
    positions = range(len(rows))
    axes.barh(positions, [row[4] for row in rows], color=COLORS[0], label="measured")
    axes.barh(positions, [row[3] for row in rows], color="none", edgecolor="black", label="bound")
    axes.set_yticks(list(positions), names, fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xlabel(f"ms for a batch of {BATCH}, launches of the same kind added up")
    axes.legend()
    _save(figure, path)


def _shortened(rows: list[list[Any]]) -> Iterator[str]:
    for row in rows:
        layers = row[0].split(" + ")
        text = layers[0] if len(layers) == 1 else f"{layers[0]} … {layers[-1]} ({len(layers)} layers)"
        yield f"{text} \N{MULTIPLICATION SIGN} {row[2]:.0f}"


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "cmx4trt", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        network = random_network()
    table = json.loads(options.measured.read_text())[f"table {BATCH}"] if options.measured else None
    stages = stages_of(network, table and table["launches"])
    print_stages(stages, table is not None)
    if options.pictures:
        draw_roofline(stages, options.pictures / "hopper-roofline.svg")
        if table:
            draw_launches(table["rows"], options.pictures / "hopper-launches.svg")


if __name__ == "__main__":
    main()
