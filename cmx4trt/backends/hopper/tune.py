"""Measures every kernel that can compute an operation, on the local GPU, for the table from which later builds choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cmx4trt.backends.facts import Tuning
from cmx4trt.backends.hopper.candidates import (
    EXPAND_REDUCE,
    candidates_of,
    classifier_candidates,
    classifier_signature,
    pair_signature,
    signature_of,
)
from cmx4trt.backends.hopper.choices import Choices, Table
from cmx4trt.backends.hopper.engine import Engine, check_capability
from cmx4trt.backends.hopper.images import random_images
from cmx4trt.backends.hopper.measure import repetitions
from cmx4trt.backends.hopper.network import Classifier, Convolution, Network
from cmx4trt.backends.hopper.packing import Weights
from cmx4trt.backends.hopper.schedule import Scheduled, Types, schedule
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.backends.hopper.site import Site

if TYPE_CHECKING:
    import numpy as np

    from cmx4trt.backends.hopper.compiler import Compiler
    from cmx4trt.backends.hopper.plan import Kernel
    from cmx4trt.backends.options import BuildOptions
    from cmx4trt.base.progress import Progress
    from cmx4trt.devices.base import ComputeDevice
    from cmx4trt.graph.network import PreparedGraph

BATCHES = (1, 8, 64, 256, 1024)
"""Batch sizes of the table: for latency, for a small server batch, and for filling the GPU."""

OPTION = "kernel_choices"
"""The option for the table."""
STAGE = "tune"

CompileAll = Callable[[Sequence["Kernel"]], Mapping[str, bytes]]
"""Kernels -> cubins by name."""


def tune(
    network: Network,
    device: ComputeDevice,
    compile_all: CompileAll,
    batches: Sequence[int] = BATCHES,
    note: Callable[[str], None] = lambda _: None,
) -> Choices:
    """Time every candidate of every operation at each of ``batches``, on random images. Raises DeviceError and BuildError."""
    images = random_images(0, max(batches), _shape(network), network.input.scale)
    tables = {}
    for batch in batches:
        times: dict[str, dict[str, float]] = {}
        for variant in variants(network):
            scheduled = schedule(network, batch, Types("int8"), Choices("", {batch: variant}))
            for signature, candidate, milliseconds in _measure(
                scheduled, network, device, compile_all, images[:batch], variant
            ):
                times.setdefault(signature, {})[candidate] = round(milliseconds, 5)
        note(f"batch {batch}: {sum(map(len, times.values()))} kernels of {len(times)} operations measured")
        tables[batch] = Table(times)
    return Choices(device.facts.name, tables)


def tune_graph(
    graph: Callable[[], PreparedGraph],
    request: BuildOptions,
    progress: Progress,
    device: ComputeDevice,
    new_compiler: Callable[[], Compiler],
) -> Tuning:
    """The table for engines of ``graph``, measured at those of BATCHES that the engine supports and at its largest batch."""
    from cmx4trt.backends.hopper.lowering import lower

    check_capability(device.facts)
    compiler = new_compiler()
    network = lower(graph().model)
    batches = sorted({*(batch for batch in BATCHES if batch < request.batch_size), request.batch_size})

    def compile_all(kernels: Sequence[Kernel]) -> dict[str, bytes]:
        return {name: one.cubin for name, one in compiler.compile_all(kernels).items()}

    done = iter(range(1, len(batches) + 1))
    with progress.stage(STAGE):
        choices = tune(network, device, compile_all, batches, lambda _: progress.step(STAGE, next(done), len(batches)))
    return Tuning(OPTION, choices.to_json(), (("measured on", choices.gpu), *_rows(choices)))


def _rows(choices: Choices) -> Iterator[tuple[str, str]]:
    for batch, table in choices.tables.items():
        times = [row for row in table.milliseconds.values() if row]
        yield f"batch {batch}", f"{sum(map(len, times))} kernels for {len(times)} operations"


def options_of(network: Network) -> dict[str, list[str]]:
    """Every signature in ``network`` with several candidates, and the candidates' names."""
    site = Site(network, Weights())
    options: dict[str, list[str]] = {}
    for operation in network.operations:
        if isinstance(operation, Convolution) and (found := candidates_of(site, operation)):
            options[signature_of(site, operation)] = [candidate.name for candidate in found]
        if isinstance(operation, Classifier):
            options[classifier_signature(operation)] = [
                candidate.name for candidate in classifier_candidates(operation)
            ]
    return options


def variants(network: Network) -> Iterator[Table]:
    """Tables that together select every candidate once; the first also fuses pairs, the others do not."""
    options = options_of(network)
    for index in range(max(map(len, options.values()))):
        forced = {signature: {names[min(index, len(names) - 1)]: 0.0} for signature, names in options.items()}
        pairs = {} if index == 0 else {key: {EXPAND_REDUCE: 1.0} for key in _pairs(network)}
        yield Table({**forced, **pairs})


def _pairs(network: Network) -> list[str]:
    """Signatures of all consecutive convolutions, including those that one kernel could compute."""
    site = Site(network, Weights())
    return [
        pair_signature(site, first, second)
        for first, second in zip(network.operations, network.operations[1:], strict=False)
        if isinstance(first, Convolution) and isinstance(second, Convolution)
    ]


def _measure(
    scheduled: Scheduled,
    network: Network,
    device: ComputeDevice,
    compile_all: CompileAll,
    images: np.ndarray[tuple[int, ...], np.dtype[np.int8]],
    variant: Table,
) -> Iterator[tuple[str, str, float]]:
    """Signature, candidate and milliseconds of every launch that the variant selected."""
    batch = len(images)
    cubins = compile_all(scheduled.plan.kernels)
    session = HopperSession(Engine(scheduled.plan, cubins, scheduled.weights), device)
    try:
        session.place({next(iter(session.inputs)): images})
        times = session.launch_times(batch, repetitions(batch))
    finally:
        session.close()
    named = _names(network)
    for launch, (_, milliseconds) in zip(scheduled.plan.program(batch).launches, times, strict=True):
        signature = ", ".join(named[name] for name in launch.operations if name in named)
        if launch.kernel.startswith(EXPAND_REDUCE):
            yield signature, EXPAND_REDUCE, milliseconds
        elif signature in variant.milliseconds:
            yield signature, next(iter(variant.milliseconds[signature])), milliseconds


def _names(network: Network) -> dict[str, str]:
    site = Site(network, Weights())
    return {
        operation.name: signature_of(site, operation)
        if isinstance(operation, Convolution)
        else classifier_signature(operation)
        for operation in network.operations
        if isinstance(operation, (Convolution, Classifier))
    }


def _shape(network: Network) -> tuple[int, int, int]:
    return network.input.channels, network.input.height, network.input.width
