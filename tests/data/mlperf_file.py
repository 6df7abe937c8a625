"""Writes a ResNet-50 as the MLPerf file (a TensorFlow network, converted by tf2onnx) is written."""

from __future__ import annotations

import numpy as np

from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo


def written_as_mlperfs(model: Model, opset: int = 11, batch: int | str = 1, batch_norm: bool = True) -> Model:
    """``model``, which is consumed and is as ``random_weights`` draws it, with TensorFlow's padding, batch normalization and
    tail: classes and probabilities of 1001."""
    graph = model.graph
    _pad_outside(graph, opset)
    if batch_norm:
        _unfold_batch_norm(graph)
    _tensorflow_tail(graph, opset, batch)
    graph.inputs[0].dims = (batch, *(graph.inputs[0].dims or ())[1:])
    return Model(graph, {"": opset}, 4)


def _pad_outside(graph: Graph, opset: int) -> None:
    """Every strided 3x3 or 7x7 convolution gets its padding from a Pad node in front of it."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op_type == "Conv" and node.ints("strides", []) == [2, 2] and max(node.ints("pads", [])) > 0:
            pads = [0, 0, *node.ints("pads", [])[:2], 0, 0, *node.ints("pads", [])[2:]]
            padded = f"{node.name}_pad"
            inputs, attributes = [node.inputs[0]], {"mode": "constant"}
            if opset >= 11:
                name = f"{padded}_amounts"
                graph.initializers[name] = Tensor.from_numpy(name, np.array(pads, np.int64))
                inputs.append(name)
            else:
                attributes |= {"pads": pads, "value": 0.0}
            nodes.append(Node("Pad", inputs, [padded], attributes, padded))
            node.inputs[0] = padded
            node.attributes["pads"] = [0, 0, 0, 0]
        nodes.append(node)
    graph.nodes = nodes


def _unfold_batch_norm(graph: Graph) -> None:
    """Every convolution loses its bias to a BatchNormalization with statistics drawn from a fixed seed."""
    generator = np.random.default_rng(5)
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(node)
        if node.op_type != "Conv":
            continue
        channels = graph.initializers[node.inputs[1]].dims[0]
        statistics = {
            "scale": generator.uniform(0.8, 1.2, channels),
            "offset": generator.normal(0, 0.1, channels),
            "mean": generator.normal(0, 0.1, channels),
            "var": generator.uniform(0.8, 1.2, channels),
        }
        names = []
        for kind, values in statistics.items():
            names.append(f"{node.name}_{kind}")
            graph.initializers[names[-1]] = Tensor.from_numpy(names[-1], values.astype(np.float32))
        result, node.outputs[0] = node.outputs[0], f"{node.name}_raw"
        node.inputs = node.inputs[:2]
        nodes.append(
            Node("BatchNormalization", [node.outputs[0], *names], [result], {"epsilon": 1e-5}, f"{node.name}_bn")
        )
    graph.nodes = nodes


def _tensorflow_tail(graph: Graph, opset: int, batch: int | str) -> None:
    """ReduceMean, Squeeze, MatMul, Add, Identity, Softmax and ArgMax in place of pooling, Flatten and Gemm."""
    features = next(node.inputs[0] for node in graph.nodes if node.op_type == "GlobalAveragePool")
    graph.nodes = [n for n in graph.nodes if n.op_type not in ("GlobalAveragePool", "Flatten", "Gemm")]
    squeeze_inputs, squeeze_attributes = ["mean"], {"axes": [2, 3]}
    if opset >= 13:
        graph.initializers["axes"] = Tensor.from_numpy("axes", np.array([2, 3], np.int64))
        squeeze_inputs, squeeze_attributes = ["mean", "axes"], {}
    graph.nodes += [
        Node("ReduceMean", [features], ["mean"], {"axes": [2, 3], "keepdims": 1}),
        Node("Squeeze", squeeze_inputs, ["squeezed"], squeeze_attributes),
        Node("MatMul", ["squeezed", "fc1000_weight"], ["product"]),
        Node("Add", ["product", "fc1000_bias"], ["dense"]),
        Node("Identity", ["dense"], ["final_dense"]),
        Node("Softmax", ["final_dense"], ["softmax_tensor:0"], {"axis": 1}),
        Node("ArgMax", ["final_dense"], ["ArgMax:0"], {"axis": 1, "keepdims": 0}),
    ]
    graph.outputs = [
        ValueInfo("ArgMax:0", DType.INT64, (batch,)),
        ValueInfo("softmax_tensor:0", DType.FLOAT, (batch, 1001)),
    ]
