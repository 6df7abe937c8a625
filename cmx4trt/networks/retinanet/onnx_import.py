"""RetinaNet: from the files people have to the canonical network of ten head tensors."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from cmx4trt.errors import ModelError
from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.graph.constants import share_equal_constants, submodel
from cmx4trt.graph.network import BATCH, IR_VERSION, OPSET, CanonicalGraph
from cmx4trt.graph.options import GraphOptions
from cmx4trt.graph.own_quantization import OwnQuantization
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
from cmx4trt.networks.retinanet.image_inputs import INPUT, image_input, stack_inputs
from cmx4trt.networks.retinanet.options import PIXELS, RAW, RetinaNetOptions
from cmx4trt.networks.retinanet.own_scales import check_alike, count_behind, own_of_body
from cmx4trt.networks.retinanet.parameters import read_parameters, values_behind

_FOLDED = ("Conv", "BatchNormalization")
"""Operators whose operands some exporters compute in the graph; those of frozen batch normalization follow later."""


def network_from_detector(model: Model, spec: ModelSpec, request: GraphOptions) -> CanonicalGraph:
    """The canonical network of a RetinaNet file. Edits ``model``. Raises ModelError on any other network.

    Ensures: input ``input`` [N, 3, H, W] float32, normalized unless the request keeps the file's normalization; outputs
    ``cls_<l>`` [N, A * K, H, W] and ``box_<l>`` [N, A * 4, H, W] of the levels l, finest first; ``details`` is a Detector.
    """
    graph, range_ = model.graph, RetinaNetOptions.of(request).input_range
    _check_heads_are_floats(graph)
    results = tuple(info.name for info in graph.outputs)
    notes = {"source_opset": str(model.opset), **_counted(image_inputs_stacked=stack_inputs(graph, spec))}
    form = normalize(model, spec, _FOLDED, sink=False)
    source, batch = image_input(graph, spec)
    notes |= {**form.notes, **_counted(images_at_a_time=batch if batch > 1 else 0)}
    notes["constants_shared"] = str(share_equal_constants(graph))
    heads = find_heads(graph, spec, quantized=form.own is not None)
    spec = _as_in_file(model, heads, spec, request)
    names = [node.outputs[0] for node in (*heads.classes, *heads.boxes)]
    notes["constants_evaluated"] = str(fold_weight_expressions(model, heads.image, names))
    shapes = fix_shapes(model, heads.image, names, spec, batch)
    pairs = _by_level(heads, shapes, spec)
    grids = [(shapes[value][1], shapes[value][2]) for value, _ in pairs]
    anchors = find_anchors(model, shapes, names, grids, spec, batch)
    detector = Detector(
        spec=detector_spec(spec),
        image_height=spec.input_shape[1],
        image_width=spec.input_shape[2],
        levels=tuple(Level(*grid, table) for grid, table in zip(grids, anchors, strict=True)),
        normalization=probe_normalization(model, source, heads.image, spec, batch),
        file_heads=tuple(name for pair in pairs for name in pair),
        file_results=results,
        source_precision=form.precision,
        file_batch=batch,
        rounded_behind=count_behind(form.own, values_behind(graph, names)),
    )
    body = _cut(model, heads.image, pairs, shapes)
    own = _canonical(body, heads.image, detector, spec, form.own, notes)
    notes |= {
        "normalization": json.dumps(asdict(detector.normalization)),
        "input_range": range_,
        "postprocessing": json.dumps(parameters_of(detector.spec)),
    }
    if range_ == PIXELS:
        normal = _keep_normalization(body, detector.normalization, spec)
        own = own and own.renamed({INPUT: normal})
    return CanonicalGraph(Model(body, {"": OPSET}, IR_VERSION), spec, detector, notes, own)


def _check_heads_are_floats(graph: Graph) -> None:
    if integers := sorted({node.op_type for node in graph.nodes if node.op_type.startswith("QLinear")}):
        raise ModelError(
            f"the detector is quantized with operators on integers ({', '.join(integers)}), which give head tensors of 8 bits, "
            "expected floats, which an engine's can be compared with; quantize it in the QDQ format, or give the float model"
        )


def _counted(**counts: int) -> dict[str, str]:
    """Notes of what there was."""
    return {name: str(count) for name, count in counts.items() if count}


def _canonical(
    body: Graph,
    image: str,
    detector: Detector,
    spec: ModelSpec,
    own: OwnQuantization | None,
    notes: dict[str, str],
) -> OwnQuantization | None:
    """Fold, name and check the ``body`` layer by layer; returns what of the file's ``own`` scales is in it."""
    steps = dict(own.weights) if own else {}
    notes["batch_norm_folded"] = str(fold_batch_norm(body, steps))
    renamed = _rename(body, image, list(detector.file_heads))
    found = own and own_of_body(replace(own, weights=steps).renamed(renamed), body)
    places = find_layers(body, topology.layers(detector.spec, shared=own is None), spec)
    if found is not None:
        check_alike(body, places, spec)
        notes |= {"own_ranges": str(len(found.scales)), **_counted(own_ranges_left_out=detector.rounded_behind)}
    return found


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


def _rename(graph: Graph, image: str, heads: list[str]) -> dict[str, str]:
    """Canonical names for input and outputs; other values with such names get out of their way. Returns all that changed."""
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
    return names


def _keep_normalization(graph: Graph, normalization: Normalization, spec: ModelSpec) -> str:
    """Put (x - mean) / std in front, as the file had it; returns what its result is called."""
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
    return normal
