"""What a file's post-processing does with its heads: thresholds and counts, read from its graph and built as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import ModelError
from cmx4trt.graph.constants import evaluate_values
from cmx4trt.graph.passes import drop_identities, lift_constants
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor
from cmx4trt.networks.retinanet.nms import MAX_TOP_K
from cmx4trt.networks.retinanet.spec import DetectorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_MANY = 2**30
"""Stands for the sizes that depend on the image: a smallest of it and a constant is the constant."""
_NO_LIMIT = 3e38
_IOU, _MOST = 3, 2
"""NonMaxSuppression's inputs: iou_threshold, max_output_boxes_per_class (onnx/docs/Operators.md)."""


def read_parameters(model: Model, boxes: Iterable[str], spec: ModelSpec, detector: DetectorSpec) -> DetectorSpec:
    """``detector`` with the file's thresholds and counts in place of MLPerf's.

    ``boxes``: the values of the box heads. Requires: constants of the main graph are initializers, floats are float32. Raises
    ModelError, naming what cannot be read or cannot be built.
    """
    found = _Reader(_flat(model), spec).read(set(boxes))
    for name in ("candidates", "detections"):
        if found[name] > MAX_TOP_K:
            raise ModelError(
                f"the post-processing of {spec.title} keeps {found[name]} {name}, expected at most {MAX_TOP_K}, the most that "
                "TensorRT's TopK takes; export the model with fewer, or build with --postprocess=none"
            )
    return replace(detector, **found)


def _flat(model: Model) -> Model:
    """A copy, to look at, whose subgraphs' nodes stand in the main graph; an If reads the results of both its branches."""
    graph = model.graph
    flat = Graph(graph.name, [], dict(graph.initializers), graph.inputs, graph.outputs)
    flat.nodes = list(_flat_nodes(model.copy().graph, flat.initializers))
    return Model(flat, model.opsets, model.ir_version)


def _flat_nodes(graph: Graph, constants: dict[str, Tensor]) -> Iterator[Node]:
    lift_constants(graph)
    drop_identities(graph)
    constants |= graph.initializers
    for node in graph.nodes:
        results: list[str] = []
        for body in node.subgraphs():
            yield from _flat_nodes(body, constants)
            results += [info.name for info in body.outputs]
        yield (
            Node(node.op_type, [*node.inputs, *results], node.outputs, node.attributes, node.name) if results else node
        )


@dataclass(slots=True, eq=False)
class _Reader:
    model: Model
    spec: ModelSpec

    def read(self, boxes: set[str]) -> dict[str, Any]:
        graph = self.model.graph
        scores = values_behind(graph, {n.outputs[0] for n in graph.nodes if n.op_type == "Sigmoid"})
        suppressing = [node for node in graph.nodes if node.op_type == "NonMaxSuppression"]
        kept = values_behind(graph, {node.outputs[0] for node in suppressing})
        floats = {
            "score threshold": [self._compared(node, scores - kept) for node in graph.nodes],
            "IoU threshold": [_input(node, _IOU) for node in suppressing],
            "limit on the boxes' size": list(self._size_limits(values_behind(graph, boxes))),
        }
        counts = {
            "number of candidates per level": [
                node.inputs[1] for node in graph.nodes if node.op_type == "TopK" and node.inputs[0] in scores - kept
            ],
            "number of detections": [*self._cuts(kept), *(_input(node, _MOST) for node in suppressing)],
        }
        numbers = self._evaluated(floats, DType.FLOAT) | self._evaluated(counts, DType.INT64)
        limits = numbers["limit on the boxes' size"]
        return {
            "score_threshold": _decimal(self._only("score threshold", numbers)),
            "iou_threshold": _decimal(self._only("IoU threshold", numbers)),
            "max_log_ratio": _decimal(max(limits)) if limits else _NO_LIMIT,
            "candidates": int(self._only("number of candidates per level", numbers)),
            "detections": int(min(self._some("number of detections", numbers))),
        }

    def _compared(self, node: Node, scores: set[str]) -> str:
        """The constant float that ``node`` compares scores with."""
        if node.op_type not in _COMPARISONS or not scores.intersection(node.inputs):
            return ""
        other = next((name for name in node.inputs if name not in scores), "")
        tensor = self.model.graph.initializers.get(other)
        return other if tensor is None or tensor.dtype is DType.FLOAT else ""

    def _size_limits(self, behind: set[str]) -> Iterator[str]:
        """What Clip or Min holds the logarithms of sizes below."""
        graph, producers = self.model.graph, self.model.graph.producers()
        for node in graph.nodes:
            before = producers.get(node.inputs[0]) if node.op_type == "Exp" and node.inputs[0] in behind else None
            if before is not None and before.op_type == "Clip":
                yield _input(before, 2)
            elif before is not None and before.op_type == "Min":
                yield next((name for name in before.inputs if name not in behind), "")

    def _cuts(self, kept: set[str]) -> Iterator[str]:
        """Where lists of kept boxes end: the ends of slices that begin at their start."""
        constants = self.model.graph.initializers
        for node in self.model.graph.nodes:
            if node.op_type == "Slice" and node.inputs[0] in kept and len(node.inputs) > 2:
                start, axes = constants.get(node.inputs[1]), constants.get(_input(node, 3))
                from_start = start is not None and not start.numpy().any()
                if from_start and (axes is None or not axes.numpy().any()):
                    yield node.inputs[2]

    def _evaluated(self, wanted: Mapping[str, list[str]], dtype: DType) -> dict[str, list[float]]:
        """The numbers that the named values are, where they do not depend on what is in the image."""
        known = self._sizes()
        fixed = self._fixed(known)
        names = {name for values in wanted.values() for name in values if name in fixed}
        constants = self.model.graph.initializers
        computed = sorted(name for name in names if name not in constants)
        values: dict[str, NDArray[Any]] = {name: constants[name].numpy() for name in names - set(computed)}
        if computed:
            values |= evaluate_values(self.model, computed, dtype, known)
        return {
            kind: sorted({float(values[name].reshape(-1)[0]) for name in of_kind if name in values})
            for kind, of_kind in wanted.items()
        }

    def _sizes(self) -> dict[str, NDArray[Any]]:
        import numpy as np

        constants = self.model.graph.initializers
        shapes = {"Shape": np.array([_MANY], np.int64), "Size": np.array(_MANY, np.int64)}
        return {
            node.outputs[0]: shapes[node.op_type]
            for node in self.model.graph.nodes
            if node.op_type in shapes and node.inputs[0] not in constants
        }

    def _fixed(self, known: Mapping[str, Any]) -> set[str]:
        fixed = set(self.model.graph.initializers) | set(known)
        for node in self.model.graph.nodes:
            if node.inputs and all(name in fixed for name in node.inputs if name):
                fixed.update(node.outputs)
        return fixed

    def _some(self, kind: str, numbers: Mapping[str, list[float]]) -> list[float]:
        found = [number for number in numbers[kind] if number < _MANY]
        if not found:
            raise self._unreadable(kind, "none that is constant")
        return found

    def _only(self, kind: str, numbers: Mapping[str, list[float]]) -> float:
        found = self._some(kind, numbers)
        if len(found) > 1:
            raise self._unreadable(kind, " and ".join(f"{number:g}" for number in found))
        return found[0]

    def _unreadable(self, kind: str, found: str) -> ModelError:
        return ModelError(
            f"the {kind} in the post-processing of {self.spec.title} cannot be read: found {found}, expected one as in "
            "torchvision's export; export the model that way, or build with --postprocess=none"
        )


def values_behind(graph: Graph, values: Collection[str]) -> set[str]:
    """``values`` and all that depends on them."""
    behind = set(values)
    for node in graph.nodes:
        if node.op_type not in ("Shape", "Size") and behind.intersection(node.inputs):
            behind.update(node.outputs)
    return behind


def _input(node: Node, place: int) -> str:
    return node.inputs[place] if len(node.inputs) > place else ""


def _decimal(value: float) -> float:
    """The shortest decimal that float32 rounds to ``value``: 0.05, not 0.05000000074505806."""
    import numpy as np

    return float(str(np.float32(value)))
