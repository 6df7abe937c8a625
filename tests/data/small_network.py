"""A residual classifier of images 3 x 32 x 32, small enough to be imported, quantized and run in hundredths of a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.networks.classification import Classifier
from cmx4trt.networks.recognition import IMAGE, Layer, Window, find_layers

if TYPE_CHECKING:
    from cmx4trt.graph.network import CanonicalGraph, GraphOptions

CLASSES, FEATURES = 10, 16
LAYERS = [
    Layer("conv1", "Conv", (IMAGE,), "the first convolution", Window(3, 1, 3, 8)),
    Layer("relu1", "Relu", ("conv1",), "the first ReLU"),
    Layer("pool1", "MaxPool", ("relu1",), "the max pool", Window(3, 2, same=True)),
    Layer("shortcut", "Conv", ("pool1",), "the shortcut", Window(1, 2, 8, FEATURES)),
    Layer("conv2", "Conv", ("pool1",), "the second convolution", Window(3, 2, 8, 8, same=True)),
    Layer("relu2", "Relu", ("conv2",), "the second ReLU"),
    Layer("conv3", "Conv", ("relu2",), "the third convolution", Window(1, 1, 8, FEATURES)),
    Layer("sum", "Add", ("conv3", "shortcut"), "the addition"),
    Layer("relu3", "Relu", ("sum",), "the last ReLU"),
    Layer("mean", "GlobalAveragePool", ("relu3",), "the mean"),
]
GRID = (8, 8)


class SmallNetwork(Classifier):
    """Recognised edge by edge, as ResNet-50 is."""

    spec = ModelSpec("small", "Small classifier", (3, 32, 32), largest_activation=8 * 32 * 32)
    classes = CLASSES

    def import_model(self, model: Model, options: GraphOptions) -> CanonicalGraph:
        """As ResNet-50's."""
        from cmx4trt.networks.classification.onnx_import import ClassifierForm, import_classifier

        form = ClassifierForm(FEATURES, (CLASSES,), 4, GRID, lambda graph: void(find_layers(graph, LAYERS, self.spec)))
        return import_classifier(model, self.spec, form)


def void(_: object) -> None:
    """Nothing of it."""


def small_model(seed: int = 0) -> Model:
    """The network with random weights, named after ``LAYERS``; batch 1."""
    rng = np.random.default_rng(seed)
    graph = Graph(
        "small",
        [],
        {},
        [ValueInfo("image", DType.FLOAT, (1, 3, 32, 32))],
        [ValueInfo("logits", DType.FLOAT, (1, CLASSES))],
    )

    def constant(name: str, *shape: int) -> str:
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        graph.initializers[name] = Tensor.from_numpy(name, (rng.standard_normal(shape) * scale).astype(np.float32))
        return name

    for layer in LAYERS:
        inputs, attributes = list(layer.reads), {}
        if layer.window is not None:
            w = layer.window
            attributes = {"kernel_shape": [w.kernel] * 2, "strides": [w.stride] * 2, "pads": [w.kernel // 2] * 4}
        if layer.kind == "Conv":
            inputs += [
                constant(f"{layer.name}.weight", w.outputs, w.inputs, w.kernel, w.kernel),
                constant(f"{layer.name}.bias", w.outputs),
            ]
        graph.nodes.append(Node(layer.kind, inputs, [layer.name], attributes, layer.name))
    graph.nodes.append(Node("Flatten", ["mean"], ["flat"], {"axis": 1}, "flat"))
    inputs = ["flat", constant("fc.weight", CLASSES, FEATURES), constant("fc.bias", CLASSES)]
    graph.nodes.append(Node("Gemm", inputs, ["logits"], {"transB": 1}, "fc"))
    return Model(graph, {"": 17}, 8)
