"""The forms that exporters, optimisers and quantizers give to one and the same classifier; each edits a plain float32 model.

After: torch.onnx.export with ``dynamo=True, optimize=False``, also of a channels-last model (torch 2.14); tf2onnx; ONNX Runtime's
extended optimisation and its QDQ quantizer (asymmetric, ReLU left out); Model Optimizer's symmetric pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cmx4trt.graph.constants import nodes_before
from cmx4trt.graph.precision import cast_tensor
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession


def keep(graph: Graph, name: str, values: object, dtype: type = np.int64) -> str:
    """A constant; returns its name."""
    graph.initializers[name] = Tensor.from_numpy(name, np.array(values, dtype))
    return name


def in_precision(model: Model, dtype: DType) -> None:
    """All of it in float16 or bfloat16, input and output too."""
    graph = model.graph
    for name, tensor in graph.initializers.items():
        if tensor.dtype is DType.FLOAT:
            graph.initializers[name] = cast_tensor(tensor, dtype, name)
    for info in (*graph.inputs, *graph.outputs):
        info.dtype = dtype
    if dtype is DType.BFLOAT16:
        model.opsets[""], model.ir_version = 22, 10


def float16(model: Model) -> None:
    """torch's ``model.half()``."""
    in_precision(model, DType.FLOAT16)


def float16_inside(model: Model) -> None:
    """onnxconverter-common's float16 with ``keep_io_types``: Casts at both ends."""
    graph = model.graph
    in_precision(model, DType.FLOAT16)
    image, logits = graph.inputs[0], graph.outputs[0]
    image.dtype = logits.dtype = DType.FLOAT
    first, last = graph.nodes[0], graph.nodes[-1]
    first.inputs[0], last.outputs[0] = "image_half", "logits_half"
    graph.nodes.insert(0, Node("Cast", [image.name], ["image_half"], {"to": int(DType.FLOAT16)}, "in"))
    graph.nodes.append(Node("Cast", ["logits_half"], [logits.name], {"to": int(DType.FLOAT)}, "out"))


def detector_in(model: Model, dtype: DType) -> None:
    """A detector in float16 or bfloat16; what ONNX defines as float32 (suppression, Resize's scales) stays it."""
    graph, exact = model.graph, dict(model.graph.initializers)
    in_precision(model, dtype)
    for info in graph.outputs:
        info.dtype = DType.INT64 if info.name.startswith("labels") else dtype
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op_type == "Cast" and node.attributes["to"] == DType.FLOAT:
            node.attributes["to"] = int(dtype)
        for place in {"NonMaxSuppression": (0, 1, 3), "Resize": (2,)}.get(node.op_type, ()):
            name, wide = node.inputs[place], f"{node.inputs[place]}_float"
            if name in exact:
                keep(graph, wide, exact[name].numpy(), np.float32)
            else:
                nodes.append(Node("Cast", [name], [wide], {"to": int(DType.FLOAT)}, wide))
            node.inputs[place] = wide
        nodes.append(node)
    graph.nodes = nodes


def detector_of_batch(model: Model, images: int, separate: bool = False) -> None:
    """A detector that takes ``images`` at a time, with post-processing for each; ``separate``: each in an input of its own."""
    graph = model.graph
    source, behind = graph.inputs[0], {node.outputs[0] for node in graph.nodes if node.op_type == "Conv"}
    followed = {
        node.outputs[0] for node in nodes_before(graph, [n.inputs[0] for n in graph.nodes if n.op_type == "Conv"])
    }
    heads = sorted(behind - followed)
    body = nodes_before(graph, heads)
    rest = [node for node in graph.nodes if node not in body]
    source.dims = (images, *(source.dims or ())[1:])
    graph.nodes, results = list(body), list(graph.outputs)
    graph.outputs = []
    keep(graph, "batch_axis", [0])
    for image in range(images):
        names = {name: f"{name}_{image}" for node in rest for name in node.outputs} | {h: f"{h}_{image}" for h in heads}
        for end, place in (("start", image), ("end", image + 1)):
            keep(graph, f"{end}_{image}", [place])
        for head in heads:
            inputs = [head, f"start_{image}", f"end_{image}", "batch_axis"]
            graph.nodes.append(Node("Slice", inputs, [names[head]], {}, names[head]))
        for node in rest:
            inputs, outputs = ([names.get(name, name) for name in side] for side in (node.inputs, node.outputs))
            graph.nodes.append(Node(node.op_type, inputs, outputs, node.attributes, f"{node.name}_{image}"))
        graph.outputs += [ValueInfo(names[info.name], info.dtype, info.dims) for info in results]
    if separate:
        single = [f"{source.name}_{image}" for image in range(images)]
        graph.inputs = [ValueInfo(name, source.dtype, (source.dims or ())[1:]) for name in single]
        rows = [Node("Unsqueeze", [name, "batch_axis"], [f"{name}_row"], {}, f"{name}_row") for name in single]
        graph.nodes[:0] = [*rows, Node("Concat", [row.outputs[0] for row in rows], [source.name], {"axis": 0}, "batch")]


def bfloat16(model: Model) -> None:
    """torch's ``model.bfloat16()``."""
    in_precision(model, DType.BFLOAT16)


def nhwc_input(model: Model) -> None:
    """tf2onnx: one Transpose behind the input."""
    graph, image = model.graph, model.graph.inputs[0]
    n, c, h, w = image.dims or ()
    image.dims = (n, h, w, c)
    graph.nodes[0].inputs[0] = "image_nchw"
    graph.nodes.insert(0, Node("Transpose", [image.name], ["image_nchw"], {"perm": [0, 3, 1, 2]}, "to_nchw"))


def nhwc_everywhere(model: Model) -> None:
    """tf2onnx without its optimiser: every window between two Transposes, biases added in NHWC, the mean over axes 1 and 2."""
    graph, image = model.graph, model.graph.inputs[0]
    n, c, h, w = image.dims or ()
    image.dims = (n, h, w, c)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op_type == "GlobalAveragePool":
            node.op_type, node.attributes = "ReduceMean", {"axes": [1, 2], "keepdims": 0}
        if node.op_type not in ("Conv", "MaxPool"):
            nodes += [node] if node.op_type != "Flatten" else []
            continue
        inside, outside, result = f"{node.name}_in", f"{node.name}_out", node.outputs[0]
        nodes.append(Node("Transpose", [node.inputs[0]], [inside], {"perm": [0, 3, 1, 2]}, inside))
        bias = node.inputs[2] if node.op_type == "Conv" else ""
        node.inputs, node.outputs = [inside, *node.inputs[1:2]], [outside]
        nodes.append(node)
        turned = f"{node.name}_nhwc" if bias else result
        nodes.append(Node("Transpose", [outside], [turned], {"perm": [0, 2, 3, 1]}, f"{node.name}_back"))
        if bias:
            nodes.append(Node("Add", [turned, bias], [result], {}, f"{node.name}_bias"))
    next(node for node in nodes if node.op_type == "Gemm").inputs[0] = "mean"
    graph.nodes = nodes


def auto_pad(model: Model) -> None:
    """Windows whose amounts are left to the reader; another network where SAME is not symmetric, but the same layers."""
    for node in model.graph.nodes:
        if node.attributes.pop("pads", None):
            node.attributes["auto_pad"] = "SAME_UPPER"


def fused(model: Model) -> None:
    """ONNX Runtime's extended level: ReLU in the convolution, and the addition too."""
    graph = model.graph
    model.opsets["com.microsoft"] = 1
    readers = graph.consumers()
    gone: list[Node] = []
    for node in [n for n in graph.nodes if n.op_type == "Conv"]:
        after = readers[node.outputs[0]][0]
        if after.op_type == "Add" and after.inputs[0] == node.outputs[0]:
            node.inputs.append(after.inputs[1])
            gone.append(after)
            after = readers[after.outputs[0]][0]
        if after.op_type == "Relu":
            node.op_type, node.domain = "FusedConv", "com.microsoft"
            node.attributes["activation"] = "Relu"
            node.outputs = list(after.outputs)
            gone.append(after)
    graph.nodes = [node for node in graph.nodes if node not in gone]


def unoptimised(model: Model) -> None:
    """torch.export without its optimiser: zero biases expanded from scalars, axes and shapes computed, batch normalisation."""
    graph = model.graph
    model.opsets[""], model.ir_version = 20, 10
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op_type == "GlobalAveragePool":
            nodes += _unoptimised_mean(graph, node)
        elif node.op_type == "Flatten":
            nodes += _channels_last_view(graph, node)
        elif node.op_type == "Conv":
            nodes += _unoptimised_conv(graph, node)
        else:
            nodes.append(node)
    graph.nodes = nodes


def _unoptimised_conv(graph: Graph, node: Node) -> Iterator[Node]:
    name, image = node.name, graph.inputs[0].name
    yield Node("Shape", [node.inputs[1]], [f"{name}_s"], {"start": 0, "end": 1})
    yield Node("Constant", [], [f"{name}_0"], {"value": Tensor.from_numpy("", np.array(0, np.float32))})
    yield Node("CastLike", [f"{name}_0", image], [f"{name}_1"])
    yield Node("Expand", [f"{name}_1", f"{name}_s"], [f"{name}_zeros"])
    channels = graph.initializers[node.inputs[1]].dims[0]
    keep(graph, f"{name}_mean", np.zeros(channels), np.float32)
    keep(graph, f"{name}_ones", np.ones(channels), np.float32)
    bias, result = node.inputs[2], node.outputs[0]
    node.inputs[2], node.outputs = f"{name}_zeros", [f"{name}_raw"]
    node.attributes["auto_pad"] = "NOTSET"
    yield node
    statistics = [f"{name}_ones", bias, f"{name}_mean", f"{name}_ones"]
    yield Node(
        "BatchNormalization", [f"{name}_raw", *statistics], [result], {"epsilon": 0.0, "momentum": 0.9}, f"{name}_bn"
    )


def _unoptimised_mean(graph: Graph, node: Node) -> Iterator[Node]:
    yield Node("Constant", [], ["axes_0"], {"value_ints": [-1, -2]})
    yield Node("Constant", [], ["axes_shape"], {"value_ints": [-1]})
    yield Node("Reshape", ["axes_0", "axes_shape"], ["axes"], {"allowzero": 0})
    yield Node("ReduceMean", [node.inputs[0], "axes"], node.outputs, {"keepdims": 1}, node.name)


def _channels_last_view(graph: Graph, node: Node) -> Iterator[Node]:
    """What torch.export makes of ``flatten`` of a channels-last tensor of one image."""
    features = 16
    yield Node("Constant", [], ["flat_shape"], {"value_ints": [-1]})
    yield Node("Reshape", [node.inputs[0], "flat_shape"], ["elements"])
    keep(graph, "all_elements", np.arange(features).reshape(1, features, 1, 1))
    yield Node("Gather", ["elements", "all_elements"], ["as_strided"], {"axis": 0})
    yield Node("Constant", [], ["rows"], {"value_ints": [1]})
    yield Node("Constant", [], ["columns"], {"value_ints": [features]})
    yield Node("Concat", ["rows", "columns"], ["view_shape"], {"axis": 0})
    yield Node("Reshape", ["as_strided", "view_shape"], node.outputs)


def second_output(model: Model) -> None:
    """The pooled features beside the logits, and probabilities of the logits."""
    graph = model.graph
    graph.nodes.append(Node("Softmax", ["logits"], ["probabilities"], {"axis": 1}, "probabilities"))
    graph.outputs += [ValueInfo("flat", DType.FLOAT, (1, 16)), ValueInfo("probabilities", DType.FLOAT, (1, 10))]


def training_batch_norm(model: Model) -> None:
    """An export in training mode."""
    unoptimised(model)
    for node in model.graph.nodes:
        if node.op_type == "BatchNormalization":
            node.attributes["training_mode"] = 1
            node.outputs += [f"{node.name}_new_mean", f"{node.name}_new_variance"]


_SAME = (float16, float16_inside, bfloat16, nhwc_input, nhwc_everywhere, auto_pad, fused, unoptimised, second_output)
SAME_NETWORK = {form.__name__: form for form in _SAME}


def largest_values(model: Model, images: int = 8) -> dict[str, float]:
    """The largest magnitude of every activation on random images."""
    copy = model.copy()
    names = [name for node in copy.graph.nodes for name in node.outputs]
    copy.graph.outputs = [ValueInfo(name, DType.FLOAT, None) for name in names]
    session = OnnxRuntimeSession.from_graph(encode_model(copy))
    found = {copy.graph.inputs[0].name: 4.0}
    rng = np.random.default_rng(5)
    for _ in range(images):
        image = rng.standard_normal((1, 3, 32, 32), dtype=np.float32)
        for name, values in session.run({copy.graph.inputs[0].name: image}).items():
            found[name] = max(found.get(name, 0.0), float(np.abs(values).max()))
    return found


def model_optimizer_pairs(model: Model) -> dict[str, float]:
    """Symmetric int8 in front of convolutions, the addition's shortcut and the mean; weights by channel, stored as floats.

    Returns the scales by activation.
    """
    graph, largest = model.graph, largest_values(model)
    model.opsets[""] = 19
    keep(graph, "zero", 0, np.int8)
    scales: dict[str, float] = {}
    pairs: list[Node] = []
    for node in graph.nodes:
        quantized = {"Conv": [0], "GlobalAveragePool": [0], "Add": [1]}.get(node.op_type, [])
        for place in quantized:
            tensor = node.inputs[place]
            if tensor not in scales:
                scales[tensor] = float(np.float16(largest[tensor] / 127))
                keep(graph, f"{tensor}_scale", scales[tensor], np.float32)
                pairs += _pair(tensor, [f"{tensor}_scale", "zero"])
            node.inputs[place] = f"{tensor}_dq"
        if node.op_type == "Conv":
            weight = graph.initializers[node.inputs[1]].numpy()
            steps = np.float16(np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
            steps[0] *= 2  # a channel that does not use all of int8
            keep(graph, f"{node.inputs[1]}_scale", steps, np.float32)
            keep(graph, f"{node.inputs[1]}_zero", np.zeros(len(steps)), np.int8)
            pairs += _pair(node.inputs[1], [f"{node.inputs[1]}_scale", f"{node.inputs[1]}_zero"], axis=0)
            node.inputs[1] = f"{node.inputs[1]}_dq"
    graph.nodes = list(_in_order(graph, pairs + graph.nodes))
    return scales


def onnxruntime_pairs(model: Model) -> None:
    """uint8 with a zero point everywhere, ReLU left to the clipping at zero, int8 weights and int32 biases."""
    graph, largest = model.graph, largest_values(model)
    keep(graph, "middle", 128, np.uint8)
    keep(graph, "lowest", 0, np.uint8)
    pairs: list[Node] = []
    for node in [n for n in graph.nodes if n.op_type == "Relu"]:
        graph.nodes.remove(node)
        graph.rename_reads(node.outputs[0], node.inputs[0])
        largest[node.inputs[0]] = -largest[node.outputs[0]]
    for tensor in [
        graph.inputs[0].name,
        *(n.outputs[0] for n in graph.nodes if n.op_type in ("Conv", "Add", "MaxPool")),
    ]:
        clipped = largest[tensor] < 0
        keep(graph, f"{tensor}_scale", abs(largest[tensor]) / (255 if clipped else 127), np.float32)
        graph.rename_reads(tensor, f"{tensor}_dq")
        pairs += _pair(tensor, [f"{tensor}_scale", "lowest" if clipped else "middle"])
    for node in [n for n in graph.nodes if n.op_type == "Conv"]:
        weight, bias = (graph.initializers.pop(name).numpy() for name in node.inputs[1:])
        step = np.float32(np.abs(weight).max() / 127)
        keep(graph, f"{node.name}_w_scale", step, np.float32)
        keep(graph, f"{node.name}_w_zero", 0, np.int8)
        keep(graph, f"{node.name}_b_scale", step / 1000, np.float32)
        keep(graph, f"{node.name}_b_zero", 0, np.int32)
        for kind, values, dtype in (("w", weight / step, np.int8), ("b", bias / (step / 1000), np.int32)):
            keep(graph, f"{node.name}_{kind}_q", np.rint(values), dtype)
            inputs = [f"{node.name}_{kind}_q", f"{node.name}_{kind}_scale", f"{node.name}_{kind}_zero"]
            pairs.append(Node("DequantizeLinear", inputs, [f"{node.name}_{kind}_dq"], {}, f"{node.name}_{kind}_dq"))
        node.inputs[1:] = [f"{node.name}_w_dq", f"{node.name}_b_dq"]
    graph.nodes = list(_in_order(graph, pairs + graph.nodes))


def _pair(tensor: str, parameters: list[str], **attributes: int) -> list[Node]:
    names = [f"{tensor}_q", f"{tensor}_dq"]
    return [
        Node("QuantizeLinear", [tensor, *parameters], [names[0]], dict(attributes), names[0]),
        Node("DequantizeLinear", [names[0], *parameters], [names[1]], dict(attributes), names[1]),
    ]


def _in_order(graph: Graph, nodes: list[Node]) -> Iterator[Node]:
    """The nodes, each behind those it reads."""
    known = {"", *graph.initializers, *(info.name for info in graph.inputs)}
    while nodes:
        ready = [node for node in nodes if known.issuperset(node.inputs)]
        assert ready, [node.label() for node in nodes]
        for node in ready:
            known.update(node.outputs)
            yield node
        nodes = [node for node in nodes if node not in ready]
