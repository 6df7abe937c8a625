"""Writes nodes and constants into a graph: operators as method calls, values as their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.ir.model import Attribute, DType, Graph, Node, Tensor, fresh_name

if TYPE_CHECKING:
    from numpy.typing import NDArray


class GraphWriter:
    """Appends to ``graph``; new values are called ``<prefix><operator>_<number>``, equal small constants are stored once."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        self.graph = graph
        self._prefix = prefix
        self._used = graph.names()
        self._small: dict[tuple[DType, tuple[int, ...], bytes], str] = {}

    def op(self, op_type: str, *inputs: str, name: str = "", **attributes: Attribute) -> str:
        """Append a node with one result; returns the name of the result, ``name`` if given."""
        return self.ops(op_type, *inputs, names=(name,), **attributes)[0]

    def ops(self, op_type: str, *inputs: str, names: Sequence[str], **attributes: Attribute) -> list[str]:
        """Append a node with one result for each of ``names``; '' means a new name."""
        outputs = [name or fresh_name(f"{self._prefix}{op_type}_{len(self.graph.nodes)}", self._used) for name in names]
        self.graph.nodes.append(Node(op_type, list(inputs), outputs, dict(attributes), outputs[0]))
        return outputs

    def constant(self, array: NDArray[Any], name: str = "constant") -> str:
        """Store an array; an equal one of up to 256 bytes is reused."""
        tensor = Tensor.from_numpy("", array)
        key = (tensor.dtype, tensor.dims, bytes(tensor.data) if len(tensor.data) <= 256 else b"")
        if key[2] and key in self._small:
            return self._small[key]
        tensor.name = fresh_name(f"{self._prefix}{name}", self._used)
        self.graph.initializers[tensor.name] = tensor
        if key[2]:
            self._small[key] = tensor.name
        return tensor.name

    def ints(self, *values: int) -> str:
        """A vector of int64."""
        import numpy as np

        return self.constant(np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """A scalar of int64."""
        import numpy as np

        return self.constant(np.array(value, np.int64))

    def number(self, value: float) -> str:
        """A scalar of float32."""
        import numpy as np

        return self.constant(np.array(value, np.float32))

    def cast(self, value: str, dtype: DType, name: str = "") -> str:
        """``value`` as ``dtype``."""
        return self.op("Cast", value, name=name, to=int(dtype))

    def reshape(self, value: str, *dims: int) -> str:
        """``value`` reshaped to ``dims``; 0 keeps an axis, -1 is the remainder."""
        return self.op("Reshape", value, self.ints(*dims))

    def top_k(self, values: str, count: int) -> list[str]:
        """The largest ``count`` along the last axis, sorted: [values, indices (int64)]."""
        return self.ops("TopK", values, self.ints(count), names=("", ""), axis=-1, largest=1, sorted=1)
