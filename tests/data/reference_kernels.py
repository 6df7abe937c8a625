"""Kernels of the stand-in GPU for any plan: each launch computes its operations with ``reference.py``, in device memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.network import Classifier, Network
from cmx4trt.backends.hopper.plan import Launch, Place, Plan, TiledMap, WindowMap
from cmx4trt.backends.hopper.schedule import EXACT_LOGITS, INPUT, LOGITS, QUANTIZED
from cmx4trt.devices.base import LaunchConfiguration


class ReferenceKernels:
    """Called by the stand-in for every launch; ``batch`` is to be set before."""

    def __init__(self, network: Network, plan: Plan) -> None:
        self.batch = 1
        self.computed: list[str] = []
        self._network = network
        self._plan = plan
        self._inputs = plan.inputs

    def __call__(self, gpu: Any, configuration: LaunchConfiguration) -> None:
        launches = {" + ".join(one.operations): one for one in self._plan.program(self.batch).launches}
        launch = launches[configuration.label]
        bases = _bases(gpu, launch, configuration)
        values = {name: self._read(gpu, name, bases) for name in launch.reads}
        if launch.operations == ("quantize",):
            quantized = reference.quantize_input(values[launch.reads[0]], self._network.input.scale)  # [N, H, W, C]
            values[launch.writes[0]] = quantized.transpose(0, 3, 1, 2)
        elif launch.operations == ("arg max",):
            values[launch.writes[0]] = values[launch.reads[0]].argmax(axis=1).astype(np.int32)
        elif launch.operations == ("round the logits",):
            values[launch.writes[0]] = values[launch.reads[0]].astype(np.float16)
        else:
            self._compute(launch, values)
        for name in launch.writes:
            content = np.ascontiguousarray(values[name]).reshape(-1).view(np.uint8)
            gpu.view(bases[name], content.nbytes)[:] = content
        self.computed.append(configuration.label)

    def _compute(self, launch: Launch, values: dict[str, Any]) -> None:
        for source in (INPUT, QUANTIZED):  # the stem's image, int8 [N, C, H, W]
            if source in values:
                values[self._network.input.name] = reference.quantize_input(values[source], self._network.input.scale)
        for operation in self._network.operations:
            if operation.name in launch.operations:
                name = launch.writes[0] if isinstance(operation, Classifier) else operation.output
                values[name] = reference.run_operation(self._network, operation, values)

    def _read(self, gpu: Any, name: str, bases: dict[str, int]) -> Any:
        if name in self._inputs:
            shape, dtype = tuple(self._inputs[name]["shape"]), np.dtype(self._inputs[name]["dtype"])  # type: ignore[arg-type, call-overload]
        elif name == QUANTIZED:
            a = self._network.input
            shape, dtype = (a.channels, a.height, a.width), np.dtype(np.int8)
        elif name in (LOGITS, EXACT_LOGITS):
            classes = len(self._network.classifier.weights)
            shape, dtype = (classes,), np.dtype(np.float32)
        else:
            a = self._network.activations[name]
            shape, dtype = (a.height, a.width, a.channels), np.dtype(np.int8 if a.signed else np.uint8)
        size = self.batch * int(np.prod(shape)) * dtype.itemsize
        return gpu.view(bases[name], size).copy().view(dtype).reshape(self.batch, *shape)


def _bases(gpu: Any, launch: Launch, configuration: LaunchConfiguration) -> dict[str, int]:
    """Where buffers, inputs and outputs of a launch begin, from its arguments."""
    bases = {}
    for argument, value in zip(launch.arguments, configuration.values, strict=True):
        if isinstance(argument, Place):
            bases[argument.name] = value - argument.offset
        elif isinstance(argument, (TiledMap, WindowMap)):
            bases[argument.place.name] = gpu.maps[value].address - argument.place.offset
    return bases
