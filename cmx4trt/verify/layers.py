"""The table of worst layers: how far every layer of a quantized network is from the float32 one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cmx4trt.ir.model import DType, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.verify.quantization import Images
from cmx4trt.verify.tally import sqnr_db


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far one layer's output is from the float network's, all earlier layers' errors included, in dB SQNR."""

    layer: str
    sqnr_db: float | None


def layer_errors(
    reference: Model, quantized: Model, layers: Sequence[str], images: Images, count: int
) -> list[LayerError]:
    """The error of each layer's output in ``quantized``, the worst first; both are float32 networks of the same tensors.

    ``layers`` names the outputs to compare. Both graphs run side by side in one, which returns only energies.
    """
    import numpy as np

    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    session = OnnxRuntimeSession.from_graph(encode_model(_side_by_side(reference, quantized, layers)))
    energies = np.zeros((2, len(layers)))
    for index in range(min(count, len(images))):
        energies += session.run({session.inputs[0]: images.read(index)})["energies"].reshape(2, -1)
    errors = [LayerError(name, sqnr_db(float(s), float(n))) for name, s, n in zip(layers, *energies, strict=True)]
    return sorted(errors, key=lambda error: float("inf") if error.sqnr_db is None else error.sqnr_db)


def _side_by_side(reference: Model, quantized: Model, layers: Sequence[str]) -> Model:
    """One model with both graphs and the output ``energies`` [2 * L]: of the reference's layers, then of the errors."""
    import numpy as np

    joined, other = quantized.copy(), reference.copy().graph
    graph = joined.graph
    own = {info.name: info.name for info in graph.inputs}
    renamed = {name: own.get(name, f"reference/{name}") for name in other.names() if name}
    for node in other.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        node.outputs = [renamed.get(name, name) for name in node.outputs]
        node.name = ""
        graph.nodes.append(node)
    for tensor in other.initializers.values():
        name = renamed[tensor.name]
        graph.initializers[name] = tensor.renamed(name)
    graph.initializers["one_number"] = Tensor.from_numpy("one_number", np.array([1], np.int64))
    signals, noises = [], []
    for layer in layers:
        graph.nodes.append(Node("Sub", [layer, renamed[layer]], [f"error/{layer}"]))
        signals.append(_energy(graph.nodes, renamed[layer]))
        noises.append(_energy(graph.nodes, f"error/{layer}"))
    graph.nodes.append(Node("Concat", signals + noises, ["energies"], {"axis": 0}))
    graph.outputs = [ValueInfo("energies", DType.FLOAT, None)]
    graph.prune()
    return joined


def _energy(nodes: list[Node], value: str) -> str:
    """The sum of squares of ``value`` as one number [1]."""
    nodes += [
        Node("ReduceSumSquare", [value], [f"{value}/energy"], {"keepdims": 0}),
        Node("Reshape", [f"{value}/energy", "one_number"], [f"{value}/energy_flat"]),
    ]
    return f"{value}/energy_flat"
