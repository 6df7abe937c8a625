"""What all kinds of attacked files share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo


class Kind(ABC):
    """A kind of file; ``path`` is rewritten for every case."""

    slowness = 1
    """The number of cases is divided by this."""
    path: Path

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """Write the valid file below ``folder``."""

    @abstractmethod
    def read(self) -> Any:
        """Read the file like the package. Raises CmxError."""

    @abstractmethod
    def check(self, content: bytes, value: Any) -> None:
        """Raises if ``value`` differs from an independent reading of ``content``."""

    def names_file(self, sentence: str) -> bool:
        """Whether an error names the file."""
        return str(self.path) in sentence


def small_model() -> Model:
    """Convolution, batch normalization, Relu, pooling, matrix product on x [N, 3, 8, 8]."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "scale": (4,), "offset": (4,), "mean": (4,), "fc": (5, 4)}
    constants = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    constants["variance"] = rng.uniform(0.5, 1.5, 4).astype(np.float32)
    nodes = [
        Node("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]}, "conv"),
        Node("BatchNormalization", ["c", "scale", "offset", "mean", "variance"], ["b"], {"epsilon": 1e-5}, "norm"),
        Node("Relu", ["b"], ["r"], {}, "relu"),
        Node("GlobalAveragePool", ["r"], ["g"], {}, "pool"),
        Node("Flatten", ["g"], ["f"], {}, "flatten"),
        Node("Gemm", ["f", "fc"], ["y"], {"transB": 1}, "product"),
    ]
    tensors = {name: Tensor.from_numpy(name, values) for name, values in constants.items()}
    inputs, outputs = [ValueInfo("x", DType.FLOAT, ("N", 3, 8, 8))], [ValueInfo("y", DType.FLOAT, ("N", 5))]
    return Model(Graph("small", nodes, tensors, inputs, outputs), {"": 19}, 9)


def sha256_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
