"""A network -> a plan: which launches compute it, in which buffers, for every range of batch sizes.

Fusions are found by shape; kernels are chosen from the candidates by a table of measurements (``choices.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cmx4trt.backends.hopper import gather, launches, packing
from cmx4trt.backends.hopper.candidates import (
    EXPAND_REDUCE,
    Candidate,
    candidates_of,
    classifier_candidates,
    classifier_signature,
    make,
    make_classifier,
    pair_signature,
    signature_of,
)
from cmx4trt.backends.hopper.choices import Choices, Table
from cmx4trt.backends.hopper.network import (
    AveragePool,
    Classifier,
    Convolution,
    MaxPool,
    Network,
    Operation,
    Projection,
    Residual,
)
from cmx4trt.backends.hopper.plan import Buffer, Kernel, Place, Plan, Program
from cmx4trt.backends.hopper.site import Made, Site
from cmx4trt.errors import UnsupportedError

INPUT, LOGITS, CLASS = "input", "logits", "class"
"""Names of the engine's input and outputs, the same as in the graph."""
QUANTIZED, EXACT_LOGITS = "int8_input", "float32_logits"
"""Buffers besides the network's activations: a quantized floating-point input, [N, C, H, W], and logits that leave the
engine as float16."""
DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
"""Values of options -> numpy names."""


@dataclass(frozen=True, slots=True)
class Types:
    """Element types of the engine's input ("float32", "float16" or "int8") and of its logits ("float32" or "float16")."""

    input: str = "float32"
    logits: str = "float32"


ALIGNMENT = 1024
"""Alignment of buffers in bytes: that of a swizzled tile, and more than TMA requires (CUDA driver API, cuTensorMapEncode)."""


def types_of(input_dtype: str, output_dtype: str) -> Types:
    """The types requested by options."""
    return Types(DTYPES[input_dtype], DTYPES[output_dtype])


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A plan with its weights."""

    plan: Plan
    weights: bytes


def schedule(network: Network, max_batch: int, types: Types, choices: Choices) -> Scheduled:
    """The plan of ``network`` for batches 1 to ``max_batch``; the input is [N, C, H, W].

    Raises UnsupportedError if no kernel computes an operation.
    """
    weights = packing.Weights()
    site = Site(network, weights)
    kernels: dict[str, Kernel] = {gather.KERNEL.name: gather.KERNEL}
    programs: list[Program] = []
    for first, last, table in choices.ranges(max_batch):
        launched = list(_launches(site, types, table))
        kernels.update((one.kernel.name, one.kernel) for one in launched)
        programs.append(Program(first, last, tuple(one.launch for one in launched)))
    buffers, arena = _place_buffers(network, programs, max_batch)
    a, classifier = network.input, network.classifier
    shape = [a.channels, a.height, a.width]
    plan = Plan(
        max_batch=max_batch,
        kernels=tuple(kernels.values()),
        buffers=buffers,
        programs=tuple(programs),
        arena_bytes=arena,
        inputs={INPUT: {"dtype": types.input, "shape": shape, "scale": a.scale}},
        outputs={
            LOGITS: {"dtype": types.logits, "shape": [len(classifier.weights)]},
            CLASS: {"dtype": "int32", "shape": []},
        },
    )
    return Scheduled(plan, weights.data())


def _launches(site: Site, types: Types, table: Table) -> Iterator[Made]:
    operations = list(site.network.operations)
    image = Place("input", INPUT)
    if types.input != "int8":
        image = Place("buffer", QUANTIZED)
        yield launches.quantize(site, Place("input", INPUT), image, types.input == "float16")
    done = 2
    first, pool = operations[:2]
    if not (isinstance(first, Convolution) and isinstance(pool, MaxPool) and first.weights.shape == (64, 7, 7, 3)):
        raise _unsupported(first)
    yield launches.stem(site, first, pool, image)
    while done < len(operations):
        made, count = _next(site, operations[done:], types, table)
        yield from made
        done += count


def _next(site: Site, operations: Sequence[Operation], types: Types, table: Table) -> tuple[list[Made], int]:
    """Launches for the first of ``operations``, and how many operations they compute."""
    first = operations[0]
    if isinstance(first, Convolution):
        if _is_bottleneck(site, operations[:3]):
            block = operations[: 4 if _is_next_reduction(operations[:4]) else 3]
            return [launches.bottleneck(site, *block)], len(block)  # type: ignore[arg-type]  # checked in the lines above
        if _is_expand_reduce(site, operations[:2]) and _pays(site, operations[:2], table):
            return [launches.expand_reduce(site, *operations[:2])], 2  # type: ignore[arg-type]
        return [make(site, first, _chosen(site, first, table))], 1
    if isinstance(first, AveragePool):
        return [launches.average(site, first)], 1
    if isinstance(first, Classifier):
        return _classifier(site, first, types, table), 1
    raise _unsupported(first)


def _classifier(site: Site, classifier: Classifier, types: Types, table: Table) -> list[Made]:
    chosen = table.choose(classifier_signature(classifier), classifier_candidates(classifier))
    classes, exact = len(classifier.weights), types.logits == "float32"
    logits = Place("output", LOGITS) if exact else Place("buffer", EXACT_LOGITS)
    made = [make_classifier(site, classifier, logits, chosen), launches.largest(classes, logits)]
    return made if exact else [*made, launches.narrow(classes, logits)]


def _chosen(site: Site, convolution: Convolution, table: Table) -> Candidate:
    options = candidates_of(site, convolution)
    if not options:
        raise _unsupported(convolution)
    return table.choose(signature_of(site, convolution), options)


def _pays(site: Site, pair: Sequence[Operation], table: Table) -> bool:
    """Whether one kernel for both is faster than two, which is assumed unless measurements of all show otherwise."""
    expand, reduce = (operation for operation in pair if isinstance(operation, Convolution))
    fused = table.time(pair_signature(site, expand, reduce), EXPAND_REDUCE)
    apart = [table.time(signature_of(site, one), _chosen(site, one, table).name) for one in (expand, reduce)]
    known = [time for time in apart if time is not None]
    return fused is None or len(known) < len(apart) or fused <= sum(known)


def _is_bottleneck(site: Site, operations: Sequence[Operation]) -> bool:
    """Whether these three are a block at 56x56: 1x1 to 64, 3x3, 1x1 to 256 with the first one's input as its shortcut."""
    if len(operations) < 3 or not all(isinstance(operation, Convolution) for operation in operations):
        return False
    reduce, middle, expand = (operation for operation in operations if isinstance(operation, Convolution))
    addend = expand.addend
    channels = site.activation(reduce.input).channels
    shapes = [c.weights.shape[:3] for c in (reduce, middle, expand)]
    fits = shapes == [(64, 1, 1), (64, 3, 3), (256, 1, 1)] and site.activation(expand.output).height == 56
    chained = middle.input == reduce.output and expand.input == middle.output and middle.stride == 1
    expected = Residual if channels == 256 else Projection if channels == 64 else None
    return fits and chained and expected is not None and isinstance(addend, expected) and addend.input == reduce.input


def _is_next_reduction(operations: Sequence[Operation]) -> bool:
    """Whether the fourth is 256 -> 128 of the third's output, and its block has a residual."""
    if len(operations) < 4:
        return False
    expand, reduce = operations[2:4]
    return (
        isinstance(expand, Convolution)
        and isinstance(expand.addend, Residual)
        and isinstance(reduce, Convolution)
        and reduce.weights.shape == (128, 1, 1, 256)
        and (reduce.input, reduce.stride, reduce.addend) == (expand.output, 1, None)
    )


def _is_expand_reduce(site: Site, operations: Sequence[Operation]) -> bool:
    """Whether these two are 128 -> 512 with a residual, and 512 -> 128 of its output."""
    if len(operations) < 2 or not all(isinstance(operation, Convolution) for operation in operations):
        return False
    expand, reduce = (operation for operation in operations if isinstance(operation, Convolution))
    shapes = [c.weights.shape for c in (expand, reduce)]
    return (
        shapes == [(512, 1, 1, 128), (128, 1, 1, 512)]
        and isinstance(expand.addend, Residual)
        and reduce.addend is None
        and reduce.input == expand.output
        and expand.stride == reduce.stride == 1
    )


def _unsupported(operation: Operation) -> UnsupportedError:
    shape = getattr(getattr(operation, "weights", None), "shape", None)
    detail = f" with weights {list(shape)}" if shape else ""
    return UnsupportedError(
        f"builder hopper has no kernel for {operation.name} ({type(operation).__name__}{detail}): "
        "it builds ResNet-50 v1.5 at 224x224"
    )


def _place_buffers(network: Network, programs: Sequence[Program], max_batch: int) -> tuple[tuple[Buffer, ...], int]:
    """Offsets in one arena: buffers that are live at the same time in any program do not overlap. Largest first, lowest gap."""
    sizes = {a.name: a.height * a.width * a.channels for a in network.activations.values()}
    sizes[QUANTIZED] = sizes.pop(network.input.name)
    sizes[EXACT_LOGITS] = 4 * len(network.classifier.weights)
    lives: dict[str, list[tuple[int, int, int]]] = {}
    for number, program in enumerate(programs):
        for index, launch in enumerate(program.launches):
            for name in (*launch.reads, *launch.writes):
                if name in sizes:
                    spans = lives.setdefault(name, [])
                    if spans and spans[-1][0] == number:
                        spans[-1] = (number, spans[-1][1], index)
                    else:
                        spans.append((number, index, index))
    placed: list[Buffer] = []
    for name in sorted(lives, key=lambda name: -sizes[name]):
        room = -(-sizes[name] * max_batch // ALIGNMENT) * ALIGNMENT
        taken = sorted(
            (other.offset, other.offset + -(-sizes[other.name] * max_batch // ALIGNMENT) * ALIGNMENT)
            for other in placed
            if _overlap(lives[name], lives[other.name])
        )
        offset = 0
        for start, end in taken:
            if offset + room <= start:
                break
            offset = max(offset, end)
        placed.append(Buffer(name, sizes[name], offset=offset))
    arena = max((b.offset + b.bytes_per_image * max_batch for b in placed), default=0)
    return tuple(placed), -(-arena // ALIGNMENT) * ALIGNMENT


def _overlap(a: list[tuple[int, int, int]], b: list[tuple[int, int, int]]) -> bool:
    return any(x[0] == y[0] and x[1] <= y[2] and y[1] <= x[2] for x in a for y in b)
