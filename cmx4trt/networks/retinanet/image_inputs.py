"""How a detector's file takes its images: one or several at a time, in one input or each in one of its own.

torchvision's detectors take a list of images, and export with as many inputs [3, H, W] as the list had images; users wrap
them to take a batch [N, 3, H, W], which the file then takes apart: post-processing is written out for each image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Graph, Node, Tensor, ValueInfo, fresh_name
from cmx4trt.networks.base import unusable_file
from cmx4trt.sessions.batches import as_file_takes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

INPUT = "input"
"""Name of an engine's input, whatever the file called it."""
_SEPARATE = 3
"""Axes of an input that is one image."""


def stack_inputs(graph: Graph, spec: ModelSpec) -> int:
    """Inputs that are an image each, [3, H, W], become one [N, 3, H, W]; returns how many they were, 0 where there are none."""
    import numpy as np

    infos, image = graph.inputs, spec.input_shape
    if not infos or any(not _fits(info.dims, image) or info.dtype is not infos[0].dtype for info in infos):
        return 0
    used = graph.names()
    stacked = fresh_name("images", used)
    nodes = []
    for index, info in enumerate(infos):
        place = fresh_name(f"{info.name}_place", used)
        graph.initializers[place] = Tensor.from_numpy(place, np.array(index, np.int64))
        nodes.append(
            Node("Gather", [stacked, place], [info.name], {"axis": 0}, fresh_name(f"{info.name}_of_all", used))
        )
    graph.nodes[:0] = nodes
    graph.inputs = [ValueInfo(stacked, infos[0].dtype, (len(infos), *image))]
    return len(infos)


def _fits(dims: tuple[int | str | None, ...] | None, image: tuple[int, ...]) -> bool:
    free = dims is not None and len(dims) == len(image)
    return free and all(not isinstance(size, int) or size == want for size, want in zip(dims or (), image, strict=True))


def image_input(graph: Graph, spec: ModelSpec) -> tuple[str, int]:
    """The name of the file's only input, [N, 3, H, W] float32, and N, 1 where it is free. Raises ModelError on any other."""
    expected = (
        "images [N, " + ", ".join(map(str, spec.input_shape)) + "] of float32, in one input or each in one of its own"
    )
    if len(graph.inputs) != 1:
        raise unusable_file(spec, f"{len(graph.inputs)} inputs", expected)
    info = graph.inputs[0]
    dims = info.dims if info.dims is not None else (None,) * 4
    sizes = [size if isinstance(size, int) else None for size in dims]
    fits = len(sizes) == 4 and all(size in (None, want) for size, want in zip(sizes[1:], spec.input_shape, strict=True))
    if info.dtype is not DType.FLOAT or not fits or sizes[0] == 0:
        shown = ", ".join("?" if size is None else str(size) for size in dims)
        raise unusable_file(spec, f"input '{info.name}' [{shown}] of {info.dtype.name.lower()}", expected)
    return info.name, sizes[0] or 1


def feeds(session: OnnxRuntimeSession, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """``images`` [N, 3, H, W], as many as the file takes, as a session on it takes them."""
    typed = as_file_takes(session, images)
    if len(session.input_shape(session.inputs[0])) == _SEPARATE:
        return dict(zip(session.inputs, typed, strict=True))
    return {session.inputs[0]: typed}
