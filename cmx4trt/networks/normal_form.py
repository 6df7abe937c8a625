"""What every import does first: a file, however it was exported, optimized or quantized, as one float32 graph without detours."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cmx4trt.base.frozen import Frozen, field
from cmx4trt.errors import ModelError
from cmx4trt.graph.constants import fold_constants
from cmx4trt.graph.fused import DOMAIN, split_fused
from cmx4trt.graph.integer_operators import is_integer_operator, split_integers
from cmx4trt.graph.layout import TO_NHWC, sink_transposes
from cmx4trt.graph.own_quantization import OwnQuantization, take_apart
from cmx4trt.graph.padding import resolve_auto_pad
from cmx4trt.graph.passes import drop_float_casts, drop_identities, lift_constants
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.graph.widening import widen_floats
from cmx4trt.ir.model import Graph, Model, Node, fresh_name

_TRAINED_OUTPUTS = 14
"""From this operator set on BatchNormalization says by ``training_mode`` what before more than one result said."""


class FileForm(Frozen):
    """What a file was: ``precision`` that it computes in, ``own`` quantization, ``notes`` for the manifest."""

    precision: str
    own: OwnQuantization | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def normalize(model: Model, spec: ModelSpec, folded: Collection[str], sink: bool = True) -> FileForm:
    """Bring ``model`` to its normal form; ``folded``: operators whose operands may be computed from constants.

    Ensures: constants are initializers; all floats are float32; no Q/DQ, no fused operators, no Identity; the input is NCHW
    and, with ``sink``, no Transpose is left that need not be; ``auto_pad`` is written out. Raises ModelError with the true
    reason where a file cannot be built, whatever network it is.
    """
    graph = model.graph
    lift_constants(graph)
    notes = {"integer_operators_split": split_integers(graph)}
    _check_usable(graph, model.opset)
    precision = widen_floats(graph)
    drop_identities(graph)
    drop_float_casts(graph)
    notes["fused_operators_split"] = split_fused(graph)
    own = take_apart(graph)
    notes["constants_computed"] = fold_constants(model, folded)
    notes["channels_last_input"] = _take_channels_first(graph, spec)
    notes["transposes_cancelled"] = sink_transposes(graph) if sink else 0
    if graph.inputs:
        notes["auto_pad_resolved"] = resolve_auto_pad(graph, (1, *spec.input_shape))
    if own is not None:
        notes |= {"own_ranges": len(own.scales), "own_ranges_made_symmetric": own.converted}
    return FileForm("int8" if own else precision, own, {name: str(count) for name, count in notes.items() if count})


def _check_usable(graph: Graph, opset: int) -> None:
    """Refuse what no network's file can be built from."""
    if integer := sorted({node.op_type for node in graph.nodes if is_integer_operator(node)}):
        raise ModelError(
            f"the model is quantized with integer operators ({', '.join(integer)}), which have no form as Q/DQ pairs here, "
            "expected a float model or Q/DQ pairs; give the float model, or quantize it in the QDQ format"
        )
    for node in graph.nodes:
        if node.op_type == "BatchNormalization" and _is_training(node, opset):
            raise ModelError(
                f"{node.label()} is in training mode: it normalizes with each batch's own statistics, so an image's "
                "result depends on the rest of its batch; export the model in evaluation mode (model.eval())"
            )
    foreign = sorted({node.domain for node in graph.nodes if node.domain and not _is_fused(node)})
    if foreign:
        names = sorted({node.op_type for node in graph.nodes if node.domain == foreign[0]})
        raise ModelError(
            f"the model has operators of the domain {foreign[0]} ({', '.join(names)}), expected ONNX's own; export it again, or "
            "optimize it with ONNX Runtime's extended level at most"
        )


def _is_fused(node: Node) -> bool:
    return node.domain == DOMAIN and node.op_type.startswith("Fused")


def _is_training(node: Node, opset: int) -> bool:
    if node.attributes.get("training_mode", 0):
        return True
    return opset < _TRAINED_OUTPUTS and len([name for name in node.outputs if name]) > 1


def _take_channels_first(graph: Graph, spec: ModelSpec) -> int:
    """A graph whose only input is [N, H, W, C] gets [N, C, H, W] and a Transpose behind it; returns 1 where that was so."""
    channels, height, width = spec.input_shape
    if len(graph.inputs) != 1 or (graph.inputs[0].dims or ())[1:] != (height, width, channels):
        return 0
    info = graph.inputs[0]
    name = fresh_name(f"{info.name}_nchw", graph.names())
    graph.nodes.insert(0, Node("Transpose", [name], [info.name], {"perm": list(TO_NHWC)}, f"{name}_order"))
    info.name, info.dims = name, ((info.dims or (None,))[0], channels, height, width)
    return 1
