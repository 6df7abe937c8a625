"""Runs a float network over calibration images and collects what quantization needs: one pass, constant memory, resumable."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from cmx4trt.base.damage import MALFORMED
from cmx4trt.base.files import make_folder, open_file, write_atomic
from cmx4trt.base.progress import Progress
from cmx4trt.errors import OutputError
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.quantize.observers import (
    ExtremesObserver,
    HistogramObserver,
    MeansObserver,
    Observer,
    RangeObserver,
    half_name,
)
from cmx4trt.quantize.ranges import CACHE_SETTING
from cmx4trt.quantize.samples import Samples
from cmx4trt.quantize.thresholds import (
    LEVELS,
    PERCENTILE,
    UNSIGNED_LEVELS,
    entropy_threshold,
    percentile_threshold,
    squared_error_threshold,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.quantize.thresholds import Threshold

STAGE = "calibrate"
SAVE_SECONDS = 20.0
"""An interrupted run loses at most this much work; saving the largest state takes about half a second."""


class Method(str, Enum):
    """How a range is taken from what was observed."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"
    RELATIVE = "relative"
    BALANCED = "balanced"

    def description(self) -> str:
        """The method with the constants that decide its result."""
        return f"percentile {PERCENTILE}" if self is Method.PERCENTILE else self.value


_POWERS = {Method.RELATIVE: 1.0, Method.BALANCED: 0.5}
"""By which power of an image's energy its squared errors are divided: ``mse`` (0) serves the images with the largest activations,
``relative`` the typical image, ``balanced`` both (docs/decisions/022-calibration.md has the measurements)."""


def _threshold(method: Method, levels: int) -> Threshold:
    """How ``method`` chooses the magnitude that ``levels`` levels from 0 on shall cover."""
    if method is Method.PERCENTILE:
        return percentile_threshold
    return partial(entropy_threshold if method is Method.ENTROPY else squared_error_threshold, levels=levels)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to observe: ``tensors`` that need a range, ``channels`` (tensor [N, C, H, W] -> C) that need means, and the tensors
    that will be ``unsigned``; ``watched``: tensors whose largest magnitude is to be known whatever the method."""

    tensors: tuple[str, ...]
    channels: Mapping[str, int]
    unsigned: frozenset[str] = frozenset()
    watched: tuple[str, ...] = ()

    def extremes(self, method: Method) -> tuple[str, ...]:
        """The tensors of which the extremes are taken."""
        return tuple(dict.fromkeys((*self.watched, *(self.tensors if method is Method.MINMAX else ()))))


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """By tensor: the magnitude at the largest level, channel means, float32 [C], and the largest magnitude of those watched."""

    ranges: Mapping[str, float]
    means: Mapping[str, NDArray[np.float32]]
    largest: Mapping[str, float]


def observe(
    model: Model, wanted: Wanted, samples: Samples, method: Method, progress: Progress, state_file: str | None = None
) -> Observed:
    """Run the float32 ``model`` over all ``samples``.

    ``state_file`` is where an interrupted run leaves its statistics and the next one finds them; its name must stand for
    model, images and method. Raises DataError where a value is not finite.
    """
    extremes, means = ExtremesObserver(wanted.extremes(method)), MeansObserver(wanted.channels)
    extent = _range_observer(method, wanted, extremes)
    every: tuple[tuple[Observer, bool], ...] = (
        (extremes, bool(extremes.tensors)),
        (extent, extent is not extremes),
        (means, bool(wanted.channels)),
    )
    observers = tuple(observer for observer, needed in every if needed)
    done = _resume(observers, state_file)
    if done:
        progress.note(f"calibration continues at image {done + 1} of {len(samples)}")
    run = _open(observed_model(model, wanted, method))
    name, saved, whole = model.graph.inputs[0].name, time.monotonic(), True
    try:
        for index in range(done, len(samples)):
            observed = run({name: samples.read(index)})
            whole = False
            for observer in observers:
                observer.add(observed)
            done, whole = index + 1, True
            progress.step(STAGE, done, len(samples))
            if time.monotonic() - saved > SAVE_SECONDS:
                state_file = _save(observers, done, state_file, progress)
                saved = time.monotonic()
    except BaseException:
        if whole:  # Statistics that hold a part of an image cannot be continued.
            _save(observers, done, state_file, progress)
        raise
    ranges, largest = extent.ranges(), extremes.ranges()
    result = Observed(
        {tensor: ranges[tensor] for tensor in wanted.tensors},
        means.means() if wanted.channels else {},
        {tensor: largest[tensor] for tensor in wanted.watched},
    )
    if state_file is not None:
        with suppress(OSError):
            os.unlink(state_file)
    return result


def observed_model(model: Model, wanted: Wanted, method: Method) -> Model:
    """A copy of ``model`` for single images whose outputs are what the observers take."""
    copy = model.copy()
    graph = copy.graph
    graph.outputs = []
    for info in graph.inputs:
        # A fixed shape lets ONNX Runtime plan its memory once.
        info.dims = (1, *(info.dims or ())[1:])
    if extremes := wanted.extremes(method):
        # Only [3, T] numbers leave the graph: no activation has to be kept.
        reductions = [(op_type, tensor) for op_type in ("ReduceMax", "ReduceMin", "ReduceSum") for tensor in extremes]
        parts = [_reduced(graph, op_type, tensor, {"keepdims": 0}) for op_type, tensor in reductions]
        _join(graph, parts, ExtremesObserver.OUTPUT)
    if method is not Method.MINMAX:
        graph.nodes += [Node("Cast", [t], [half_name(t)], {"to": int(DType.FLOAT16)}) for t in wanted.tensors]
        graph.outputs += [ValueInfo(half_name(t), DType.FLOAT16, None) for t in wanted.tensors]
    if wanted.channels:
        _join(graph, [_reduced(graph, "GlobalAveragePool", t, {}) for t in wanted.channels], MeansObserver.OUTPUT)
    graph.prune()
    return copy


def _reduced(graph: Graph, op_type: str, tensor: str, attributes: dict[str, Any]) -> str:
    """``tensor`` reduced by ``op_type`` and flattened; returns the result's name."""
    import numpy as np

    shape, result = "observed_flat", f"{tensor}_observed_{op_type}"
    graph.initializers[shape] = Tensor.from_numpy(shape, np.array([-1], np.int64))
    graph.nodes += [
        Node(op_type, [tensor], [f"{result}_shaped"], dict(attributes)),
        Node("Reshape", [f"{result}_shaped", shape], [result]),
    ]
    return result


def _join(graph: Graph, parts: Sequence[str], output: str) -> None:
    graph.nodes.append(Node("Concat", list(parts), [output], {"axis": 0}))
    graph.outputs.append(ValueInfo(output, DType.FLOAT, None))


def _range_observer(method: Method, wanted: Wanted, extremes: ExtremesObserver) -> RangeObserver:
    if method is Method.MINMAX:
        return extremes
    levels = [UNSIGNED_LEVELS if tensor in wanted.unsigned else LEVELS for tensor in wanted.tensors]
    thresholds = [_threshold(method, number) for number in levels]
    return HistogramObserver(wanted.tensors, thresholds, _POWERS.get(method, 0.0))


def _open(model: Model) -> Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]:
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession, fastest_providers

    return OnnxRuntimeSession.from_graph(encode_model(model), fastest_providers()).run


def _save(observers: Sequence[Observer], done: int, state_file: str | None, progress: Progress) -> str | None:
    """Write the statistics; returns where to write the next ones, None where that is impossible and has been said."""
    import io

    import numpy as np

    if state_file is None or done == 0:
        return state_file
    values = {name: array for observer in observers for name, array in observer.state().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, done=np.array(done), **values)
    content = buffer.getvalue()
    try:
        make_folder(os.path.dirname(state_file), CACHE_SETTING)
        write_atomic(state_file, hashlib.sha256(content).digest() + content, CACHE_SETTING)
    except OutputError as error:
        progress.note(f"an interrupted calibration will start over: {error}")
        return None
    return state_file


def _resume(observers: Sequence[Observer], state_file: str | None) -> int:
    """How many images the state in ``state_file`` stands for; one that is damaged in any bit counts as none."""
    import io
    import zipfile

    import numpy as np

    if state_file is None or not os.path.exists(state_file):
        return 0
    try:
        with open_file(state_file) as stream:
            digest, content = stream.read(hashlib.sha256().digest_size), stream.read()
        if hashlib.sha256(content).digest() != digest:
            return 0
        with np.load(io.BytesIO(content)) as state:
            values = {name: state[name] for name in state.files}
        fresh = {name: array for observer in observers for name, array in observer.state().items()}
        if any((values[name].shape, values[name].dtype) != (fresh[name].shape, fresh[name].dtype) for name in fresh):
            return 0
        done = int(values["done"])
    except (OSError, zipfile.BadZipFile, *MALFORMED):
        return 0
    for observer in observers:
        observer.restore(values)
    return done
