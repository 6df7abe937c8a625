"""The anchors and the normalization of a detector's file, found by evaluating it, whatever it calls or computes them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import ModelError
from cmx4trt.graph.constants import evaluate_values, nodes_before, submodel
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.images.normalization import RGB
from cmx4trt.ir.model import DType, Model, Node, Tensor, ValueInfo, node_reads
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.base import wrong_model
from cmx4trt.networks.retinanet.body import Shape, shape_values
from cmx4trt.networks.retinanet.details import Normalization, detector_spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

NORMALIZATION_TOLERANCE = 1e-5
"""Largest accepted |file - (x - mean) / std| on noise: float32 rounding of numbers below 3 in any order of operations is
below 1e-6; a resize that is not the identity or a wrong channel order gives more than 0.1."""
_PROBE_SEED = 0
_DECIMALS = 6
"""Decimals kept of a mean or deviation that is no constant of the file; beyond them lies float32 noise."""


def find_anchors(
    model: Model,
    shapes: Mapping[str, Shape],
    heads: list[str],
    grids: list[tuple[int, int]],
    spec: ModelSpec,
    batch: int = 1,
) -> list[NDArray[Any]]:
    """The anchors of each level, [A * H * W, 4] float32 (x1, y1, x2, y2 in pixels), anchor index outermost.

    They are the values that do not depend on the image, are read by nodes that do, and hold one box for each anchor of a
    level, or of all levels; of a ``batch`` of images each may have its own, alike. Raises ModelError where there are none or
    several.
    """
    import numpy as np

    anchors = detector_spec(spec).anchors_per_location
    rows = [height * width * anchors for height, width in grids]
    known = shape_values(model, shapes, batch)
    names = _border_values(model, set(known), heads)
    computed = [name for name in names if name not in model.graph.initializers]
    values = evaluate_values(model, computed, DType.FLOAT, known) if computed else {}
    values |= {
        name: model.graph.initializers[name].numpy()
        for name in names
        if name in model.graph.initializers and model.graph.initializers[name].dtype is DType.FLOAT
    }
    tables = [value.reshape(-1, 4) for value in values.values() if value.shape[-1:] == (4,) and _are_boxes(value)]
    whole = _only([table for table in tables if len(table) == sum(rows)])
    if whole is not None:
        by_level = np.split(whole, np.cumsum(rows)[:-1])
    else:
        by_level = [level for count in rows if (level := _only([t for t in tables if len(t) == count])) is not None]
    if len(by_level) != len(rows):
        found = ", ".join(str(len(table)) for table in tables) or "none"
        raise wrong_model(
            spec, f"constant box tables of {found} rows", f"anchors: {sum(rows)} rows, or {rows} by level"
        )
    return [_anchor_outermost(t, grid, anchors, spec) for t, grid in zip(by_level, grids, strict=True)]


def _border_values(model: Model, known: set[str], heads: list[str]) -> list[str]:
    """Values behind the heads that do not depend on the image's content and are read by nodes that do."""
    graph = model.graph
    fixed = set(graph.initializers) | known
    head_inputs = {id(node) for node in nodes_before(graph, heads)}
    names: dict[str, None] = {}
    for node in graph.nodes:
        reads = list(node_reads(node))
        if all(name in fixed for name in reads):
            fixed.update(node.outputs)
        elif id(node) not in head_inputs:
            names.update((name, None) for name in reads if name in fixed)
    return list(names)


def _are_boxes(table: NDArray[Any]) -> bool:
    return bool((table[..., 2] > table[..., 0]).all() and (table[..., 3] > table[..., 1]).all())


def _only(tables: list[NDArray[Any]]) -> NDArray[Any] | None:
    """The table, if there is one or if all are equal."""
    if tables and all((table == tables[0]).all() for table in tables):
        return tables[0]
    return None


def _anchor_outermost(table: NDArray[Any], grid: tuple[int, int], anchors: int, spec: ModelSpec) -> NDArray[Any]:
    """[H * W * A, 4] -> [A * H * W, 4]; checks that the rows of one position share their center."""
    import numpy as np

    by_position = table.reshape(-1, anchors, 4)
    centers = (by_position[..., :2] + by_position[..., 2:]) / 2
    stride = spec.input_shape[1] / grid[0]
    spread = float(np.ptp(centers, axis=1).max())
    if spread > stride / 2:
        raise wrong_model(
            spec, f"anchors whose centers lie {spread:g} pixels apart at one position", f"at most {stride / 2:g}"
        )
    return np.ascontiguousarray(by_position.transpose(1, 0, 2).reshape(-1, 4), np.float32)


def probe_normalization(model: Model, source: str, image: str, spec: ModelSpec, batch: int = 1) -> Normalization:
    """What the file does with its input before the first convolution, measured on three batches of images.

    Raises ModelError unless that is (x - mean) / std per channel.
    """
    import numpy as np

    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    if source == image:
        return Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    dims = (batch, *spec.input_shape)
    inputs, outputs = [ValueInfo(source, DType.FLOAT, dims)], [ValueInfo(image, DType.FLOAT, None)]
    part = submodel(model, inputs, outputs)
    session = OnnxRuntimeSession.from_graph(encode_model(part))
    noise = np.random.default_rng(_PROBE_SEED).random(dims, dtype=np.float32)
    zero, one, result = (session.run({source: x})[image] for x in (np.zeros_like(noise), np.ones_like(noise), noise))
    if not (zero.shape == one.shape == result.shape == dims):
        raise wrong_model(spec, f"images resized from {dims} to {result.shape}", "images that keep their size")
    slope = (one - zero).mean(axis=(0, 2, 3), dtype=np.float64)
    if not (np.isfinite(slope).all() and (slope > 0).all()):
        raise wrong_model(spec, "a first convolution that does not see the image", "a normalized image")
    std = 1 / slope
    mean = -zero.mean(axis=(0, 2, 3), dtype=np.float64) * std
    constants = [t for n in part.graph.nodes for t in _constants_of(part, n) if t.dtype is DType.FLOAT and t.size == 3]
    found = Normalization(_snapped(mean, constants), _snapped(std, constants))
    mean32, std32 = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (found.mean, found.std))
    error = float(np.abs(result - (noise - mean32) / std32).max())
    if not error <= NORMALIZATION_TOLERANCE:
        raise ModelError(
            f"the preprocessing in {spec.title} is not (x - mean) / std per channel: with mean {found.mean} and std {found.std} "
            f"it is off by {error:g} (limit {NORMALIZATION_TOLERANCE:g}); export the model without resizing or cropping"
        )
    return found


def _constants_of(model: Model, node: Node) -> list[Tensor]:
    return [model.graph.initializers[name] for name in node.inputs if name in model.graph.initializers]


def _snapped(measured: NDArray[Any], constants: list[Tensor]) -> RGB:
    """The file's own constant if one is that close to what was measured, else the measured values, rounded."""
    import numpy as np

    for tensor in constants:
        values = tensor.numpy().reshape(-1).astype(np.float64)
        if np.allclose(values, measured, rtol=NORMALIZATION_TOLERANCE, atol=NORMALIZATION_TOLERANCE):
            return (float(values[0]), float(values[1]), float(values[2]))
    rounded = [round(float(v), _DECIMALS) for v in measured]
    return (rounded[0], rounded[1], rounded[2])
