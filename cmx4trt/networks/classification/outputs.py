"""A classifier's canonical graph, and the outputs of its engines."""

from __future__ import annotations

from cmx4trt.base.frozen import Frozen
from cmx4trt.graph.network import BATCH, CanonicalGraph
from cmx4trt.ir.model import DType, Node, ValueInfo, fresh_name

INPUT, LOGITS, CLASS = "input", "logits", "class"
"""Names of an engine's input and outputs, whatever the file called them."""


class ClassifierDetails(Frozen):
    """What verification needs to know of the file: the value that holds its logits [N, K], and its weights' precision."""

    reference_output: str
    source_precision: str


def attach_class(network: CanonicalGraph) -> None:
    """Add the output ``class`` [N] int32, the index of the largest logit (first of equals). Requires: ``logits`` is float."""
    graph = network.model.graph
    graph.make_room(CLASS)
    used = graph.names()
    index, cast = fresh_name("class_int64", used), fresh_name(CLASS, used)
    graph.nodes += [
        Node("ArgMax", [LOGITS], [index], {"axis": 1, "keepdims": 0}, index),
        Node("Cast", [index], [CLASS], {"to": int(DType.INT32)}, cast),
    ]
    graph.outputs.append(ValueInfo(CLASS, DType.INT32, (BATCH,)))
