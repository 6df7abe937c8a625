"""Model files: what a build starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference

from attacked.base import Kind, small_model
from cmx4trt.errors import VerificationError
from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.graph.passes import drop_identities, lift_constants
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks import model_from_seed, spec_of
from cmx4trt.networks.graphs import network_from_model, valid_graph
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

RESNET = spec_of("resnet50")


class OnnxFile(Kind):
    """A small network: decoded, folded, run and verified against its own bytes in ONNX Runtime, like in a build; accepted files
    are compared with ONNX's reference evaluator."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.onnx"
        self.path.write_bytes(encode_model(small_model(), None).message)
        self._image = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)

    def read(self) -> Any:
        request = BuildRequest.from_values({"model": str(self.path)})
        source = source_of_request(request)
        model = source.model()
        with valid_graph(request.graph_options()):
            lift_constants(model.graph)
            drop_identities(model.graph)
            fold_batch_norm(model.graph)
            original = OnnxRuntimeSession.from_bytes(self.path.read_bytes())
            prepared = OnnxRuntimeSession.from_graph(encode_model(model))
            expected, found = (session.run({session.inputs[0]: self._image}) for session in (original, prepared))
        if not all(_agree(expected[name], found.get(name)) for name in expected):
            raise VerificationError(f"the prepared graph of {self.path} disagrees with the original")
        return found

    def check(self, content: bytes, value: Any) -> None:
        model = onnx.load_model_from_string(content)
        with np.errstate(all="ignore"):
            reference = onnx.reference.ReferenceEvaluator(model)
            expected = reference.run(None, {model.graph.input[0].name: self._image})
        names = [info.name for info in model.graph.output]
        assert set(names) == value.keys()
        assert all(_agree(one, value[name]) for name, one in zip(names, expected, strict=True))


def _agree(one: Any, other: Any) -> bool:
    """Whether two arrays are equal up to rounding; NaN is never equal."""
    if other is None or one.shape != other.shape:
        return False
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-3 * float(np.abs(one).max(initial=0.0))))


class Resnet50File(Kind):
    """ResNet-50 with its weights in another file: every accepted file has the convolutions of ResNet-50."""

    slowness = 20

    def __init__(self, folder: Path) -> None:
        encoded = encode_model(model_from_seed("resnet50", 0), 1 << 16)
        self.path = folder / "resnet50.onnx"
        position, proto = 0, onnx.load_model_from_string(encoded.message)
        with (folder / "weights.bin").open("wb") as weights:
            for tensor in proto.graph.initializer:
                if tensor.name in encoded.constants:
                    data = encoded.constants[tensor.name].data
                    entries = {"location": "weights.bin", "offset": position, "length": len(data)}
                    del tensor.external_data[:]
                    for key, entry in entries.items():
                        tensor.external_data.add(key=key, value=str(entry))
                    position += weights.write(data)
        self.path.write_bytes(proto.SerializeToString())

    def read(self) -> Any:
        request = BuildRequest.from_values({"model": str(self.path)})
        return network_from_model(source_of_request(request).model(), RESNET, request.graph_options())

    def check(self, content: bytes, value: Any) -> None:
        onnx.load_model_from_string(content)
        assert sum(node.op_type == "Conv" for node in value.model.graph.nodes) == 53
