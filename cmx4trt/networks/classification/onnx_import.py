"""Classifiers: from the files people have to one canonical graph.

The body (convolutions, Relu, Add, MaxPool) is kept as it is; the tail, which every exporter writes differently (mean over
H and W, one matrix product, Softmax, ArgMax), is recognized and written anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from cmx4trt.base.frozen import Frozen, replace
from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.graph.network import BATCH, IR_VERSION, OPSET, CanonicalGraph
from cmx4trt.graph.passes import absorb_padding
from cmx4trt.graph.precision import FLOATS
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo, fresh_name
from cmx4trt.networks.base import unusable_file, wrong_model
from cmx4trt.networks.classification.outputs import INPUT, LOGITS, ClassifierDetails
from cmx4trt.networks.normal_form import normalize

_BODY = {"Conv", "Relu", "Add", "MaxPool"}
_TAIL = {"GlobalAveragePool", "Flatten", "Gemm"}
_RESHAPING = {"Flatten", "Reshape", "Squeeze", "Identity", "Dropout", "Transpose"}
"""Between pooling and matrix product; all they can do to [N, F, 1, 1] is move or drop the two ones."""
_FOLDED = {"Conv", "BatchNormalization", "Gemm", "MatMul", "Add", "Mul", "Sub", "Div", "ReduceMean", "Pad", "Gather"}
"""Operators whose operands some exporters compute in the graph."""


class _Tail(Frozen):
    """The last feature map [N, F, H, W] and the fully connected layer: weight [F, K] or (transposed) [K, F]."""

    features: str
    weight: str
    transposed: bool
    bias: str | None
    classes: int
    logits: str


class ClassifierForm(Frozen):
    """What a classifier's file must look like: ``features`` in front of its last layer, one of ``classes`` numbers of classes
    behind it, ``convolutions`` in all; ``grid``: height and width of the last feature map.

    ``check_body`` refuses what else is wrong with the layers before the pooled features, with a ModelError.
    """

    features: int
    classes: Collection[int]
    convolutions: int
    grid: tuple[int, int]
    check_body: Callable[[Graph], None]


def import_classifier(model: Model, spec: ModelSpec, form: ClassifierForm) -> CanonicalGraph:
    """The canonical graph of a classifier's file. Edits ``model``. Raises ModelError on any other network.

    Ensures: input ``input`` [N, C, H, W], output ``logits`` [N, K].
    """
    graph = model.graph
    source = normalize(model, spec, _FOLDED)
    _check_operators(model, spec, form)
    _check_input(graph, spec)
    padded = absorb_padding(graph)
    tail = _find_tail(graph, spec, form)
    others = _other_outputs(graph, tail)
    _rewrite_tail(graph, tail)
    steps = dict(source.own.weights) if source.own else {}
    folded = fold_batch_norm(graph, steps) if _has_factors(graph) else 0
    form.check_body(graph)
    _check_operators_of_body(graph, spec)
    own = source.own and replace(source.own, weights=steps).renamed({graph.inputs[0].name: INPUT})
    graph.claim_name(graph.inputs[0].name, INPUT)
    graph.claim_name(graph.outputs[0].name, LOGITS)
    graph.inputs = [ValueInfo(INPUT, DType.FLOAT, (BATCH, *spec.input_shape))]
    graph.outputs = [ValueInfo(LOGITS, DType.FLOAT, (BATCH, tail.classes))]
    notes = {"source_opset": str(model.opset), "classes": str(tail.classes), **source.notes}
    if others:
        notes["outputs_left_out"] = ", ".join(others)
    if folded:
        notes["batch_norm_folded"] = str(folded)
    if padded:
        notes["padding_absorbed"] = str(padded)
    details = ClassifierDetails(tail.logits, source.precision)
    return CanonicalGraph(Model(graph, {"": OPSET}, IR_VERSION), spec, details, notes, own)


def _check_operators(model: Model, spec: ModelSpec, form: ClassifierForm) -> None:
    operators = Counter(node.op_type for node in model.graph.nodes)
    detector = {"NonMaxSuppression", "NonZero", "Loop"} & operators.keys()
    if detector:
        raise wrong_model(spec, f"detection operators ({', '.join(sorted(detector))})", "an image classifier")
    if operators["Conv"] == 0:
        raise wrong_model(spec, "no convolution", f"{form.convolutions} convolutions")


def _check_input(graph: Graph, spec: ModelSpec) -> None:
    if len(graph.inputs) != 1:
        names = ", ".join(info.name for info in graph.inputs) or "none"
        raise unusable_file(spec, f"{len(graph.inputs)} inputs ({names})", "one image input")
    info, (channels, height, width) = graph.inputs[0], spec.input_shape
    if info.dtype not in FLOATS:
        raise unusable_file(spec, f"input '{info.name}' of type {info.dtype.name.lower()}", "float input")
    dims = info.dims
    if dims is None:
        return
    free = [None if isinstance(dim, str) else dim for dim in dims]
    if len(dims) != 4 or any(f not in (None, want) for f, want in zip(free[1:], spec.input_shape, strict=True)):
        raise unusable_file(spec, f"input '{info.name}' of shape {_shape(dims)}", f"[N, {channels}, {height}, {width}]")


def _shape(dims: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in dims) + "]"


def _find_tail(graph: Graph, spec: ModelSpec, form: ClassifierForm) -> _Tail:
    """The fully connected layer behind the pooled features, from the only Gemm or MatMul of the graph."""
    products = [node for node in graph.nodes if node.op_type in ("Gemm", "MatMul")]
    if len(products) != 1:
        raise wrong_model(spec, f"{len(products)} matrix products", "one fully connected layer")
    product, producers = products[0], graph.producers()
    weight = graph.initializers.get(product.inputs[1])
    transposed = bool(product.attributes.get("transB", 0))
    if weight is None or len(weight.dims) != 2:
        raise wrong_model(
            spec, f"{product.label()} without a constant matrix", "a fully connected layer with a constant weight"
        )
    features, classes = weight.dims[::-1] if transposed else weight.dims
    if features != form.features or classes not in form.classes:
        need = f"{form.features} features and {_shown_sizes(form.classes)} classes"
        raise wrong_model(spec, f"a fully connected layer of {features} features and {classes} classes", need)
    if product.attributes.get("transA", 0) or any(product.attributes.get(k, 1.0) != 1.0 for k in ("alpha", "beta")):
        raise wrong_model(spec, f"{product.label()} with transA, alpha or beta", "a plain matrix product")
    pooled = _skip_reshapes(product.inputs[0], graph)
    pool = producers.get(pooled)
    if pool is None or not _is_global_mean(pool, graph, form.grid):
        raise wrong_model(
            spec, f"{pool.label() if pool else 'nothing'} in front of {product.label()}", "the mean over H and W"
        )
    logits, bias = product.outputs[0], product.inputs[2] if len(product.inputs) > 2 else None
    if bias is None and (added := _added_bias(graph, product, classes)) is not None:
        adder, bias = added
        logits = adder.outputs[0]
    return _Tail(pool.inputs[0], product.inputs[1], transposed, bias, classes, logits)


def _other_outputs(graph: Graph, tail: _Tail) -> list[str]:
    """The file's outputs that say more than its logits: not those that are made of the logits alone."""
    behind = {tail.logits}
    for node in graph.nodes:
        if any(name in behind for name in node.inputs):
            behind.update(node.outputs)
    return [info.name for info in graph.outputs if info.name not in behind]


def _shown_sizes(sizes: Collection[int]) -> str:
    if isinstance(sizes, range):
        return f"{sizes[0]} to {sizes[-1]}"
    return " or ".join(map(str, sizes))


def _skip_reshapes(name: str, graph: Graph) -> str:
    producers = graph.producers()
    while (node := producers.get(name)) is not None and (node.op_type in _RESHAPING or _takes_all(node, graph)):
        name = node.inputs[0]
    return name


def _takes_all(node: Node, graph: Graph) -> bool:
    """Whether a Gather takes every element in order: what torch.export makes of a channels-last view."""
    indices = graph.initializers.get(node.inputs[1]) if node.op_type == "Gather" else None
    if indices is None or node.attributes.get("axis", 0) != 0:
        return False
    return [int(index) for index in indices.numpy().reshape(-1)] == list(range(indices.size))


def _is_global_mean(node: Node, graph: Graph, grid: tuple[int, int]) -> bool:
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type == "AveragePool":
        return node.ints("kernel_shape", []) == list(grid) and not any(node.ints("pads", [0]))
    if node.op_type != "ReduceMean":
        return False
    axes = node.ints("axes", [])
    if len(node.inputs) > 1 and node.inputs[1] in graph.initializers:  # an input from opset 18 on
        axes = [int(axis) for axis in graph.initializers[node.inputs[1]].numpy()]
    return sorted(axis % 4 for axis in axes) == [2, 3]


def _added_bias(graph: Graph, product: Node, classes: int) -> tuple[Node, str] | None:
    """The reader of a matrix product that adds a constant of one bias per class, and that constant."""
    for reader in graph.consumers().get(product.outputs[0], []):
        if reader.op_type == "Add":
            other = next((name for name in reader.inputs if name != product.outputs[0]), "")
            constant = graph.initializers.get(other)
            if constant is not None and constant.size == classes:
                return reader, other
    return None


def _rewrite_tail(graph: Graph, tail: _Tail) -> None:
    """Replace everything behind the features by GlobalAveragePool, Flatten, Gemm; what that leaves unread goes."""
    used = graph.names()
    pooled, flat, logits = (fresh_name(name, used) for name in ("pool5", "pool5_flat", "fc1000"))
    inputs = [flat, tail.weight]
    if tail.bias is not None:
        inputs.append(_vector(graph, tail.bias, used))
    graph.nodes += [
        Node("GlobalAveragePool", [tail.features], [pooled], {}, pooled),
        Node("Flatten", [pooled], [flat], {"axis": 1}, flat),
        Node("Gemm", inputs, [logits], {"transB": int(tail.transposed)}, logits),
    ]
    graph.outputs = [ValueInfo(logits, DType.FLOAT, None)]
    graph.prune()


def _vector(graph: Graph, name: str, used: set[str]) -> str:
    """A constant as a vector [K]; exporters also write [1, K]."""
    tensor = graph.initializers[name]
    if len(tensor.dims) == 1:
        return name
    flat = fresh_name(f"{name}_flat", used)
    graph.initializers[flat] = Tensor(flat, tensor.dtype, (tensor.size,), tensor.data)
    return flat


def _has_factors(graph: Graph) -> bool:
    """Whether there may be batch normalization, or an added bias; mostly not, and numpy stays unimported."""
    return any(
        node.op_type not in _BODY | _TAIL
        or (node.op_type == "Add" and any(name in graph.initializers for name in node.inputs))
        for node in graph.nodes
    )


def _check_operators_of_body(graph: Graph, spec: ModelSpec) -> None:
    """Only what the passes for classifiers know. Raises ModelError."""
    operators = {node.op_type for node in graph.nodes}
    foreign = sorted(operators - _BODY - _TAIL)
    if foreign:
        need = f"only {', '.join(sorted(_BODY))} before the pooled features"
        raise wrong_model(spec, f"the operators {', '.join(foreign)}", need)
