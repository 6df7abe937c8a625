"""RetinaNet: from the files people have to the canonical network of ten head tensors."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from cmx4trt.errors import ModelError
from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.graph.constants import share_equal_constants, submodel
from cmx4trt.graph.network import BATCH, IR_VERSION, OPSET, CanonicalGraph
from cmx4trt.graph.options import GraphOptions
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Graph, Model, Node, ValueInfo
from cmx4trt.ir.writer import GraphWriter
from cmx4trt.networks.base import wrong_model
from cmx4trt.networks.normal_form import normalize
from cmx4trt.networks.recognition import find_layers
from cmx4trt.networks.retinanet import topology
from cmx4trt.networks.retinanet.anchors import find_anchors, probe_normalization
from cmx4trt.networks.retinanet.body import Shape, fix_shapes, fold_weight_expressions
from cmx4trt.networks.retinanet.details import (
    Detector,
    Level,
    Normalization,
    detector_spec,
    head_names,
    parameters_of,
    with_detector,
)
from cmx4trt.networks.retinanet.heads import Heads, find_heads
from cmx4trt.networks.retinanet.image_inputs import image_input, stack_inputs
from cmx4trt.networks.retinanet.options import PIXELS, RAW, RetinaNetOptions
from cmx4trt.networks.retinanet.parameters import read_parameters

_FOLDED = ("Conv", "BatchNormalization")
"""Operators whose operands some exporters compute in the graph; those of frozen batch normalization follow later."""
INPUT = "input"
"""Name of an engine's input, whatever the file called it."""


def network_from_detector(model: Model, spec: ModelSpec, request: GraphOptions) -> CanonicalGraph:
    """The canonical network of a RetinaNet file. Edits ``model``. Raises ModelError on any other network.

    Ensures: input ``input`` [N, 3, H, W] float32, normalized unless the request keeps the file's normalization; outputs
    ``cls_<l>`` [N, A * K, H, W] and ``box_<l>`` [N, A * 4, H, W] of the levels l, finest first; ``details`` is a Detector.
    """
    graph, own = model.graph, RetinaNetOptions.of(request)
    source_opset = model.opset
    separate = stack_inputs(graph, spec)
    form = normalize(model, spec, _FOLDED, sink=False)
    if form.own is not None:
        raise ModelError(
            "the model is already quantized (Q/DQ), and only classifiers can be built from quantized models; "
            f"give {spec.title}'s float model"
        )
    source, batch = image_input(graph, spec)
    shared = share_equal_constants(graph)
    heads = find_heads(graph, spec)
    spec = _as_in_file(model, heads, spec, request)
    names = [node.outputs[0] for node in (*heads.classes, *heads.boxes)]
    computed = fold_weight_expressions(model, heads.image, names)
    shapes = fix_shapes(model, heads.image, names, spec, batch)
    pairs = _by_level(heads, shapes, spec)
    grids = [(shapes[value][1], shapes[value][2]) for value, _ in pairs]
    normalization = probe_normalization(model, source, heads.image, spec, batch)
    anchors = find_anchors(model, shapes, names, grids, spec, batch)
    levels = tuple(Level(*grid, table) for grid, table in zip(grids, anchors, strict=True))
    file_heads = [name for pair in pairs for name in pair]
    detector = Detector(
        spec=detector_spec(spec),
        image_height=spec.input_shape[1],
        image_width=spec.input_shape[2],
        levels=levels,
        normalization=normalization,
        file_heads=tuple(file_heads),
        file_results=tuple(info.name for info in graph.outputs),
        source_precision=form.precision,
        file_batch=batch,
    )
    body = _cut(model, heads.image, pairs, shapes)
    folded = fold_batch_norm(body)
    notes = {
        "source_opset": str(source_opset),
        **form.notes,
        "batch_norm_folded": str(folded),
        "constants_shared": str(shared),
        "constants_evaluated": str(computed),
        "normalization": json.dumps(asdict(normalization)),
        "input_range": own.input_range,
        "postprocessing": json.dumps(parameters_of(detector.spec)),
    }
    if batch > 1:
        notes["images_at_a_time"] = str(batch)
    if separate:
        notes["image_inputs_stacked"] = str(separate)
    _rename(body, heads.image, file_heads)
    find_layers(body, topology.layers(detector.spec), spec)
    if own.input_range == PIXELS:
        _keep_normalization(body, normalization, spec)
    return CanonicalGraph(Model(body, {"": OPSET}, IR_VERSION), spec, detector, notes)


def _as_in_file(model: Model, heads: Heads, spec: ModelSpec, request: GraphOptions) -> ModelSpec:
    """``spec`` with the file's classes, thresholds and counts; for raw heads those that cannot be read stay MLPerf's."""
    detector = replace(detector_spec(spec), classes=heads.class_count)
    try:
        detector = read_parameters(model, [node.outputs[0] for node in heads.boxes], spec, detector)
    except ModelError:
        if RetinaNetOptions.of(request).postprocess != RAW:
            raise
    return with_detector(spec, detector)


def _by_level(heads: Heads, shapes: dict[str, Shape], spec: ModelSpec) -> list[tuple[str, str]]:
    """The (class, box) values of each level, finest grid first."""

    def ordered(nodes: tuple[Node, ...]) -> list[str]:
        values = [node.outputs[0] for node in nodes]
        return sorted(values, key=lambda value: -shapes[value][1] * shapes[value][2])

    pairs = list(zip(ordered(heads.classes), ordered(heads.boxes), strict=True))
    for classes, boxes in pairs:
        if shapes[classes][1:] != shapes[boxes][1:]:
            found = f"a class head on {list(shapes[classes][1:])} and a box head on {list(shapes[boxes][1:])} positions"
            raise wrong_model(spec, found, "both heads on the same grids")
    return pairs


def _cut(model: Model, image: str, pairs: list[tuple[str, str]], shapes: dict[str, Shape]) -> Graph:
    """The graph between the normalized image and the heads."""
    values = [value for column in zip(*pairs, strict=True) for value in column]
    outputs = [ValueInfo(value, DType.FLOAT, (BATCH, *shapes[value])) for value in values]
    return submodel(model, [ValueInfo(image, DType.FLOAT, (BATCH, *shapes[image]))], outputs).graph


def _rename(graph: Graph, image: str, heads: list[str]) -> None:
    """Canonical names for input and outputs; other values with such names get out of their way."""
    classes, boxes = head_names(len(heads) // 2)
    wanted = {image: INPUT} | dict(
        zip(heads, [n for pair in zip(classes, boxes, strict=True) for n in pair], strict=True)
    )
    taken = set(wanted.values())
    names = {name: f"{name}_of_file" for name in graph.names() if name in taken} | wanted
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.outputs = [names.get(name, name) for name in node.outputs]
        node.name = f"{node.name}_of_file" if node.name in taken else node.name
    graph.initializers = {names.get(name, name): tensor for name, tensor in graph.initializers.items()}
    for name, tensor in graph.initializers.items():
        tensor.name = name
    for info in (*graph.inputs, *graph.outputs):
        info.name = names.get(info.name, info.name)


def _keep_normalization(graph: Graph, normalization: Normalization, spec: ModelSpec) -> None:
    """Put (x - mean) / std in front, as the file had it."""
    import numpy as np

    if normalization.is_identity:
        raise wrong_model(spec, "no normalization in the file", "one to keep for --input_range=0-1")
    nodes, graph.nodes = graph.nodes, []
    write = GraphWriter(graph, "normalize_")
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (normalization.mean, normalization.std))
    centerd = write.op("Sub", INPUT, write.constant(mean, "mean"))
    normal = write.op("Div", centerd, write.constant(std, "std"))
    for node in nodes:
        node.inputs = [normal if name == INPUT else name for name in node.inputs]
    graph.nodes += nodes
