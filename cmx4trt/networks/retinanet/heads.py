"""Finds the class and box heads and the first convolution of a RetinaNet by structure; names play no part."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Graph, Node, node_reads
from cmx4trt.networks.base import wrong_model
from cmx4trt.networks.retinanet.details import detector_spec

_SHAPE_ONLY = {"Shape", "Size"}
"""Operators whose result says nothing of their input's elements."""
_COLORS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """The last convolutions before post-processing, in the file's order, how many classes there are, and the value that the first
    convolution reads."""

    classes: tuple[Node, ...]
    boxes: tuple[Node, ...]
    class_count: int
    image: str


def find_heads(graph: Graph, spec: ModelSpec, quantized: bool = False) -> Heads:
    """The heads of a RetinaNet. Raises ModelError, saying what was looked for and what was found.

    Requires: constants are initializers, equal ones shared. The heads are the convolutions that no other convolution
    follows; each head's convolutions share one weight, one on every level; a Sigmoid follows the class head only. In a file that
    was ``quantized`` each level's constants may be rounded in another way, and only the Sigmoid tells the heads apart.
    """
    _check_weights(graph, spec)
    groups = _last_convolutions(graph, quantized)
    levels = detector_spec(spec).levels
    shared = [group for group in groups.values() if len(group) == levels]
    if len(shared) != 2 or len(groups) != 2:
        sizes = ", ".join(str(len(group)) for group in groups.values()) or "none"
        raise wrong_model(
            spec,
            f"last convolutions in {len(groups)} groups with shared weights (sizes: {sizes})",
            f"two heads of {levels} convolutions with shared weights",
        )
    with_sigmoid = _leads_to(graph, {"Sigmoid"})
    scored = [group for group in shared if all(node.outputs[0] in with_sigmoid for node in group)]
    if len(scored) != 1:
        found = "no Sigmoid after either head" if not scored else "a Sigmoid after both heads"
        raise wrong_model(spec, found, "one after the class head")
    boxes = next(group for group in shared if group is not scored[0])
    count = _class_count(graph, spec, scored[0][0], boxes[0])
    return Heads(tuple(scored[0]), tuple(boxes), count, _image_value(graph, spec))


def _check_weights(graph: Graph, spec: ModelSpec) -> None:
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    if not convolutions:
        raise wrong_model(spec, "no convolution", "a convolutional network")
    for node in convolutions:
        for name in node.inputs[1:]:
            tensor = graph.initializers.get(name)
            if name and (tensor is None or tensor.dtype is not DType.FLOAT):
                kind = "computed" if tensor is None else tensor.dtype.name.lower()
                raise wrong_model(spec, f"{node.label()} with {kind} weights", "constant float32 weights")


def _leads_to(graph: Graph, operators: set[str]) -> set[str]:
    """The values whose elements reach a node of one of the operators."""
    leading: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type in _SHAPE_ONLY:
            continue
        if node.op_type in operators or any(name in leading for name in node.outputs):
            leading.update(node_reads(node))
    return leading


def _last_convolutions(graph: Graph, by_sigmoid: bool) -> dict[tuple[str, ...], list[Node]]:
    """The convolutions that no other follows, by their weight and bias, or by whether a Sigmoid follows."""
    followed, scored = _leads_to(graph, {"Conv"}), _leads_to(graph, {"Sigmoid"}) if by_sigmoid else set()
    groups: dict[tuple[str, ...], list[Node]] = {}
    for node in graph.nodes:
        if node.op_type == "Conv" and node.outputs[0] not in followed:
            key = (str(node.outputs[0] in scored),) if by_sigmoid else tuple(node.inputs[1:])
            groups.setdefault(key, []).append(node)
    return groups


def _class_count(graph: Graph, spec: ModelSpec, class_head: Node, box_head: Node) -> int:
    """Classes of each anchor. Raises ModelError on another number of anchors."""
    classes, boxes = (graph.initializers[node.inputs[1]].dims[0] for node in (class_head, box_head))
    anchors = detector_spec(spec).anchors_per_location
    if boxes != 4 * anchors or not classes or classes % anchors:
        per_anchor = f"{classes / (boxes / 4):g} classes" if boxes else "no boxes"
        need = f"{anchors} with a whole number of classes"
        raise wrong_model(spec, f"{boxes / 4:g} anchors per location with {per_anchor}", need)
    return classes // anchors


def _image_value(graph: Graph, spec: ModelSpec) -> str:
    """What the only convolution without a convolution before it reads: normalized images."""
    behind: set[str] = set()
    first: list[Node] = []
    for node in graph.nodes:
        is_behind = any(name in behind for name in node_reads(node))
        if node.op_type == "Conv" and not is_behind:
            first.append(node)
        if (is_behind or node.op_type == "Conv") and node.op_type not in _SHAPE_ONLY:
            behind.update(node.outputs)
    if len(first) != 1 or graph.initializers[first[0].inputs[1]].dims[1] != _COLORS:
        channels = ", ".join(str(graph.initializers[node.inputs[1]].dims[1]) for node in first)
        raise wrong_model(
            spec, f"{len(first)} first convolutions (input channels: {channels})", f"one that reads {_COLORS} channels"
        )
    return first[0].inputs[0]
