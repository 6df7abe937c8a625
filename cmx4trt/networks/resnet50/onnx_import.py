"""ResNet-50: from the files people have to one canonical network, and from that to the engine's outputs.

The body (convolutions, Relu, Add, MaxPool) is kept as it is; the tail, which every exporter writes differently (mean over
H and W, one matrix product, Softmax, ArgMax), is recognised and written anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cmx4trt.errors import ModelError
from cmx4trt.graph.network import BATCH, IR_VERSION, OPSET, Network
from cmx4trt.graph.passes import absorb_padding, drop_float_casts, drop_identities, lift_constants
from cmx4trt.graph.precision import FLOATS, cast_floats
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo, fresh_name
from cmx4trt.networks.resnet50 import topology
from cmx4trt.networks.resnet50.topology import ConvShape

INPUT, LOGITS, CLASS = "input", "logits", "class"
"""Names of an engine's input and outputs, whatever the file called them."""

_BODY = {"Conv", "Relu", "Add", "MaxPool"}
_RESHAPING = {"Flatten", "Reshape", "Squeeze", "Identity", "Dropout"}
"""Between pooling and matrix product; all they can do to [N, 2048, 1, 1] is drop the two ones."""
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}


@dataclass(frozen=True, slots=True, eq=False)
class _Tail:
    """The last feature map [N, 2048, 7, 7] and the fully connected layer: weight [2048, K] or (transposed) [K, 2048]."""

    features: str
    weight: str
    transposed: bool
    bias: str | None
    classes: int
    logits: str


@dataclass(frozen=True, slots=True)
class ClassifierDetails:
    """What verification needs to know of the file: the value that holds its logits [N, K], and its weights' precision."""

    reference_output: str
    source_precision: str


def network_from_classifier(model: Model, spec: ModelSpec) -> Network:
    """The canonical network of a ResNet-50 file. Edits ``model``. Raises ModelError on any other network.

    Ensures: input ``input`` [N, 3, 224, 224], output ``logits`` [N, K] with K in (1000, 1001).
    """
    graph = model.graph
    _check_operators(model)
    _check_input(graph, spec)
    lift_constants(graph)
    drop_identities(graph)
    drop_float_casts(graph)
    padded = absorb_padding(graph)
    tail = _find_tail(graph)
    _rewrite_tail(graph, tail)
    precision = _weight_precision(graph)
    folded = _fold_batch_norm(model)
    _check_body(graph)
    graph.claim_name(graph.inputs[0].name, INPUT)
    graph.claim_name(graph.outputs[0].name, LOGITS)
    graph.inputs = [ValueInfo(INPUT, DType.FLOAT, (BATCH, *spec.input_shape))]
    graph.outputs = [ValueInfo(LOGITS, DType.FLOAT, (BATCH, tail.classes))]
    notes = {"source_opset": str(model.opset), "classes": str(tail.classes)}
    if folded:
        notes["batch_norm_folded"] = str(folded)
    if padded:
        notes["padding_absorbed"] = str(padded)
    details = ClassifierDetails(tail.logits, precision)
    return Network(Model(graph, {"": OPSET}, IR_VERSION), spec, details, notes)


def attach_class(network: Network) -> None:
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


def _wrong(found: str, need: str) -> ModelError:
    return ModelError(
        f"the model is not {topology.SPEC.title}: found {found}, need {need}; give the right file or --network"
    )


def _check_operators(model: Model) -> None:
    operators = Counter(node.op_type for node in model.graph.nodes)
    quantized = sorted(_QUANTIZED & operators.keys())
    if quantized:
        raise _wrong(f"the quantized operators {', '.join(quantized)}", "a float32 file")
    detector = {"NonMaxSuppression", "NonZero", "Loop"} & operators.keys()
    if detector:
        raise _wrong(f"detection operators ({', '.join(sorted(detector))})", "an image classifier")
    if operators["Conv"] == 0:
        raise _wrong("no convolution", f"{sum(topology.expected_convolutions().values())} convolutions")


def _check_input(graph: Graph, spec: ModelSpec) -> None:
    if len(graph.inputs) != 1:
        names = ", ".join(info.name for info in graph.inputs) or "none"
        raise _wrong(f"{len(graph.inputs)} inputs ({names})", "one image input")
    info, (channels, height, width) = graph.inputs[0], spec.input_shape
    if info.dtype not in FLOATS:
        raise _wrong(f"input '{info.name}' of type {info.dtype.name.lower()}", "float input")
    dims = info.dims
    if dims is None:
        return
    if len(dims) == 4 and dims[1:] == (height, width, channels):
        raise _wrong(f"input '{info.name}' in NHWC layout {_shape(dims)}", f"NCHW [N, {channels}, {height}, {width}]")
    free = [None if isinstance(dim, str) else dim for dim in dims]
    if len(dims) != 4 or any(f not in (None, want) for f, want in zip(free[1:], spec.input_shape, strict=True)):
        raise _wrong(f"input '{info.name}' of shape {_shape(dims)}", f"[N, {channels}, {height}, {width}]")


def _shape(dims: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in dims) + "]"


def _find_tail(graph: Graph) -> _Tail:
    """The fully connected layer behind the pooled features, from the only Gemm or MatMul of the graph."""
    products = [node for node in graph.nodes if node.op_type in ("Gemm", "MatMul")]
    if len(products) != 1:
        raise _wrong(f"{len(products)} matrix products", "one fully connected layer")
    product, producers = products[0], graph.producers()
    weight = graph.initializers.get(product.inputs[1])
    transposed = bool(product.attributes.get("transB", 0))
    if weight is None or len(weight.dims) != 2:
        raise _wrong(f"{product.label()} without a constant matrix", "a fully connected layer with a constant weight")
    features, classes = weight.dims[::-1] if transposed else weight.dims
    if features != topology.FEATURES or classes not in topology.CLASSES:
        need = f"{topology.FEATURES} features and {' or '.join(map(str, topology.CLASSES))} classes"
        raise _wrong(f"a fully connected layer of {features} features and {classes} classes", need)
    if product.attributes.get("transA", 0) or any(product.attributes.get(k, 1.0) != 1.0 for k in ("alpha", "beta")):
        raise _wrong(f"{product.label()} with transA, alpha or beta", "a plain matrix product")
    pooled = _skip_reshapes(product.inputs[0], producers)
    pool = producers.get(pooled)
    if pool is None or not _is_global_mean(pool, graph):
        raise _wrong(f"{pool.label() if pool else 'nothing'} in front of {product.label()}", "the mean over H and W")
    logits, bias = product.outputs[0], product.inputs[2] if len(product.inputs) > 2 else None
    if bias is None and (added := _added_bias(graph, product, classes)) is not None:
        adder, bias = added
        logits = adder.outputs[0]
    return _Tail(pool.inputs[0], product.inputs[1], transposed, bias, classes, logits)


def _skip_reshapes(name: str, producers: Mapping[str, Node]) -> str:
    while (node := producers.get(name)) is not None and node.op_type in _RESHAPING:
        name = node.inputs[0]
    return name


def _is_global_mean(node: Node, graph: Graph) -> bool:
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type == "AveragePool":
        return node.ints("kernel_shape", []) == [7, 7] and not any(node.ints("pads", [0]))
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


def _fold_batch_norm(model: Model) -> int:
    graph = model.graph
    if all(node.op_type in _BODY or node.op_type in ("GlobalAveragePool", "Flatten", "Gemm") for node in graph.nodes):
        return 0  # the common case, and numpy stays unimported
    from cmx4trt.graph.batchnorm import fold_batch_norm

    cast_floats(model, DType.FLOAT)  # a float16 file's statistics are folded in float32
    return fold_batch_norm(graph)


def _check_body(graph: Graph) -> None:
    """The convolutions and additions of ResNet-50 v1.5, no more, no less."""
    operators = Counter(node.op_type for node in graph.nodes)
    foreign = sorted(operators.keys() - _BODY - {"GlobalAveragePool", "Flatten", "Gemm"})
    if foreign:
        raise _wrong(
            f"the operators {', '.join(foreign)}", f"only {', '.join(sorted(_BODY))} before the pooled features"
        )
    found = Counter(_conv_shape(graph, node) for node in graph.nodes if node.op_type == "Conv")
    expected = topology.expected_convolutions()
    if found != expected:
        raise _wrong(*_describe_difference(found, expected))
    if operators["Add"] != topology.RESIDUAL_ADDS or operators["MaxPool"] != 1:
        found_text = f"{operators['Add']} additions and {operators['MaxPool']} max-poolings"
        raise _wrong(found_text, f"{topology.RESIDUAL_ADDS} and 1")


def _weight_precision(graph: Graph) -> str:
    """The narrowest type among the weights, as a precision's name."""
    dtypes = {tensor.dtype for tensor in graph.initializers.values()}
    if DType.BFLOAT16 in dtypes:
        return "bf16"
    return "fp16" if DType.FLOAT16 in dtypes else "fp32"


def _describe_difference(found: Counter[ConvShape], expected: Counter[ConvShape]) -> tuple[str, str]:
    if found.total() != expected.total():
        return f"{found.total()} convolutions", str(expected.total())
    strided = [shape for shape in found if shape.stride == 2 and shape.kernel == 1 and shape.out_channels < 1024]
    if strided and not [s for s in found if s.stride == 2 and s.kernel == 3]:
        return "stride 2 in 1x1 convolutions (ResNet-50 v1)", "stride 2 in the 3x3 ones (v1.5)"
    extra, missing = found - expected, expected - found
    return f"the convolution {min(map(str, extra))}", f"{min(map(str, missing))} in its place"


def _conv_shape(graph: Graph, node: Node) -> ConvShape:
    weight = graph.initializers.get(node.inputs[1])
    if weight is None or len(weight.dims) != 4:
        raise _wrong(f"{node.label()} without a constant 4-D weight", "constant weights")
    if node.attributes.get("group", 1) != 1 or node.ints("dilations", [1, 1]) != [1, 1]:
        raise _wrong(f"{node.label()} with groups or dilation", "plain convolutions")
    if weight.dtype not in FLOATS:
        raise _wrong(f"{node.label()} with {weight.dtype.name.lower()} weights", "floating-point weights")
    strides = node.ints("strides", [1, 1])
    return ConvShape(weight.dims[0], weight.dims[1], weight.dims[2], strides[0])
