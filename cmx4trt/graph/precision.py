"""Casts a graph to float16 or bfloat16: the only way to choose a precision in a strongly typed network.

The graph's inputs and outputs keep their types; Cast nodes stand at the border. In a quantized graph the scales follow, and
QuantizeLinear's integers stay what they are.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import ModelError
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo, fresh_name
from cmx4trt.ir.tensor import Buffer

if TYPE_CHECKING:
    import numpy as np

_HALF_EXPONENT = 0x7C
"""The exponent's bits in the upper byte of a float16; all are set in infinities and NaN."""
_NOT_FINITE = bytes(byte for byte in range(256) if byte & _HALF_EXPONENT == _HALF_EXPONENT)
_PIECE = 1 << 18
"""Bytes, an even number, that stay in the processor's second cache."""
FLOAT16_MAX = 65504.0
"""Largest finite float16 (IEEE 754-2008, binary16)."""
BFLOAT16_OPSET, BFLOAT16_IR_VERSION = 22, 10
"""First operator set whose Conv and MaxPool take bfloat16, and its IR version (onnx/docs/Changelog.md, Versioning.md)."""

DTYPES = {"fp32": DType.FLOAT, "fp16": DType.FLOAT16, "bf16": DType.BFLOAT16, "int8": DType.FLOAT16}
"""Precision -> type of what is not quantized; beside INT8 layers the rest of an engine computes in float16."""

_REDUCED = (DType.FLOAT16, DType.BFLOAT16)
FLOATS = (DType.FLOAT, *_REDUCED)
_KEEPS_FLOAT_INPUT = {"Resize": (1, 2)}
"""Inputs that ONNX defines as float32 whatever the data: Resize's roi and scales."""
NO_FLOAT_OUTPUT = {
    "Shape",
    "Size",
    "ArgMax",
    "ArgMin",
    "NonZero",
    "QuantizeLinear",
    "Not",
    "And",
    "Or",
    "Equal",
    "Less",
}
"""Operators whose results are integers or truth values, whatever they read."""


def cast_floats(model: Model, dtype: DType, keep: Collection[str] = (), unchecked: list[Tensor] | None = None) -> int:
    """Let every node compute in ``dtype`` except those named in ``keep``; returns the number of Cast nodes inserted.

    ``unchecked``: gets the weights whose float16 bytes stay as they are, for ``check_finite``; without it they are checked here.
    Requires: no subgraphs; no Cast that yields a float. Raises ModelError where a weight does not fit float16.
    """
    if dtype is DType.FLOAT and not _has_reduced_floats(model.graph):
        return 0
    if dtype is DType.BFLOAT16:
        model.opsets[""] = max(model.opset, BFLOAT16_OPSET)
        model.ir_version = max(model.ir_version, BFLOAT16_IR_VERSION)
    caster = _Caster(model.graph, dtype, set(keep))
    inserted = caster.run()
    if unchecked is None:
        check_finite(caster.taken_over)
    else:
        unchecked += caster.taken_over
    return inserted


def _has_reduced_floats(graph: Graph) -> bool:
    types = {info.dtype for info in graph.inputs + graph.outputs} | {t.dtype for t in graph.initializers.values()}
    return not types.isdisjoint(_REDUCED)


class _Caster:
    """Walks the nodes in order, knowing of every float value the type it has by now."""

    def __init__(self, graph: Graph, dtype: DType, keep: set[str]) -> None:
        self._graph = graph
        self._dtype = dtype
        self._keep = keep
        self._used = graph.names()
        typed: list[ValueInfo | Tensor] = [*graph.inputs, *graph.initializers.values()]
        self._types = {item.name: item.dtype for item in typed if item.dtype in FLOATS}
        self._cast: dict[tuple[str, DType], str] = {}
        self._nodes: list[Node] = []
        self._inserted = 0
        self.taken_over: list[Tensor] = []
        """Constants that are float16 already."""

    def run(self) -> int:
        for node in self._graph.nodes:
            wanted = DType.FLOAT if node.name in self._keep else self._dtype
            fixed = _KEEPS_FLOAT_INPUT.get(node.op_type, ())
            is_float = any(name in self._types for i, name in enumerate(node.inputs) if i not in fixed)
            if is_float:
                node.inputs = [
                    self._as_type(name, wanted) if name in self._types and i not in fixed else name
                    for i, name in enumerate(node.inputs)
                ]
            self._nodes.append(node)
            if is_float and node.op_type not in NO_FLOAT_OUTPUT and node.op_type != "Cast":
                self._types.update({name: wanted for name in node.outputs if name})
        for info in self._graph.outputs:
            if info.name in self._types and self._types[info.name] is not info.dtype:
                self._restore_output(info)
        self._graph.nodes = self._nodes
        self._graph.prune()
        return self._inserted

    def _as_type(self, name: str, wanted: DType) -> str:
        if self._types[name] is wanted:
            return name
        if (name, wanted) not in self._cast:
            cast = fresh_name(f"{name}_{wanted.name.lower()}", self._used)
            if name in self._graph.initializers:
                self._graph.initializers[cast] = self._constant(self._graph.initializers[name], wanted, cast)
            else:
                self._insert(name, cast, wanted)
            self._types[cast] = wanted
            self._cast[name, wanted] = cast
        return self._cast[name, wanted]

    def _constant(self, tensor: Tensor, wanted: DType, name: str) -> Tensor:
        if wanted is DType.FLOAT16 and tensor.compact.dtype is wanted:
            self.taken_over.append(tensor.compact.renamed(tensor.name))
            return tensor.compact.renamed(name)
        return cast_tensor(tensor, wanted, name)

    def _restore_output(self, info: ValueInfo) -> None:
        """The computed value takes another name, a Cast makes the output of the promised type."""
        computed = fresh_name(f"{info.name}_{self._types[info.name].name.lower()}", self._used)
        for node in self._nodes:
            node.outputs = [computed if name == info.name else name for name in node.outputs]
            node.inputs = [computed if name == info.name else name for name in node.inputs]
        self._insert(computed, info.name, info.dtype)

    def _insert(self, source: str, target: str, dtype: DType) -> None:
        # Nodes need names of their own: ONNX Runtime refuses two of one name.
        name = fresh_name(f"{target}_cast", self._used)
        self._nodes.append(Node("Cast", [source], [target], {"to": int(dtype)}, name))
        self._inserted += 1


def cast_tensor(tensor: Tensor, dtype: DType, name: str) -> Tensor:
    """A floating-point constant as another type, rounded to nearest even. Raises ModelError beyond float16's range."""
    if tensor.compact.dtype is dtype:
        if dtype is DType.FLOAT16:
            check_finite([tensor.compact.renamed(tensor.name)])
        return tensor.compact.renamed(name)
    if dtype is DType.FLOAT:
        return WidenedTensor(name, tensor.compact)
    import numpy as np

    values = floats_from_tensor(tensor)
    if dtype is DType.BFLOAT16:
        return Tensor.from_numpy(name, bfloat16_bits(values), DType.BFLOAT16)
    with np.errstate(over="ignore", under="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise _beyond_float16(tensor.name, values)
    return Tensor.from_numpy(name, half)


def check_finite(constants: Iterable[Tensor]) -> None:
    """Refuse float16 constants with infinities or NaN. Raises ModelError.

    Without numpy, whose import takes longer than all of ResNet-50's do here. Meant to be called beside a library that builds:
    Python's lock is given up after each piece.
    """
    for tensor in constants:
        content = memoryview(tensor.data).cast("B")
        for start in range(0, len(content), _PIECE):
            upper = bytes(content[start : start + _PIECE])[1::2]
            if len(upper.translate(None, _NOT_FINITE)) < len(upper):
                raise _beyond_float16(tensor.name, floats_from_tensor(tensor))
            time.sleep(0)


def _beyond_float16(name: str, values: np.ndarray[Any, Any]) -> ModelError:
    import numpy as np

    largest = float(np.abs(values).max()) if values.size else 0.0
    return ModelError(
        f"weight '{name}' cannot be float16: its largest magnitude is {largest:g}, float16 ends at {FLOAT16_MAX:g}; build in "
        "bf16 or fp32"
    )


class WidenedTensor(Tensor):
    """A float32 constant with exactly the values of a narrower one; its own bytes are computed when they are first read.

    A float16 file built in fp16 never needs them.
    """

    __slots__ = ("_compact", "_wide")

    def __init__(self, name: str, compact: Tensor) -> None:
        self.name, self.dtype, self.dims = name, DType.FLOAT, compact.dims
        self._compact = compact
        self._wide: Buffer | None = None

    @property
    def data(self) -> Buffer:  # type: ignore[override]
        """The float32 values."""
        if self._wide is None:
            self._wide = Tensor.from_numpy(self.name, floats_from_tensor(self._compact)).data
        return self._wide

    @property
    def compact(self) -> Tensor:
        """The narrower constant."""
        return self._compact

    def renamed(self, name: str) -> Tensor:
        """The same constant under another name, still without bytes of its own."""
        return WidenedTensor(name, self._compact)


def floats_from_tensor(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The values of a float32, float16 or bfloat16 constant as float32."""
    import numpy as np

    if tensor.dtype is DType.BFLOAT16:
        return (tensor.numpy().astype(np.uint32) << np.uint32(16)).view(np.float32)
    return tensor.numpy().astype(np.float32, copy=False)


def bfloat16_bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float32 values rounded to nearest-even bfloat16, as their uint16 bits (infinities stay, NaN stays NaN)."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    is_nan = np.isnan(values)
    if is_nan.any():
        rounded = np.where(is_nan, (bits >> np.uint32(16)) | np.uint32(0x40), rounded)
    return rounded.astype(np.uint16).reshape(values.shape)
