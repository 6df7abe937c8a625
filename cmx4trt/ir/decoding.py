"""From protobuf messages to ``ir.model`` objects; the messages and field numbers are those of onnx.proto."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable

from cmx4trt.ir import wire
from cmx4trt.ir.model import Attribute, Buffer, DType, Graph, Model, Node, Tensor, ValueInfo

_TENSOR_TYPED_FIELDS = {4: "f", 5: "i", 7: "q", 10: "d", 11: "Q"}
"""TensorProto's typed payloads: field number -> array type code of one element on the wire."""


class ExternalData:
    """Constants stored in files beside the model, each file read once; ``constants`` are those found, by name."""

    def __init__(self, folder: str | None, read_bytes: Callable[[str], memoryview]) -> None:
        self._folder = folder
        self._read_bytes = read_bytes
        self._files: dict[str, memoryview] = {}
        self.constants: dict[str, Tensor] = {}

    def fill(self, tensor: Tensor, location: dict[str, str], size: int) -> None:
        """Assign to ``tensor`` its ``size`` bytes from the file that ``location`` names. Raises ValueError."""
        tensor.data = self._view(tensor.name, location, size)
        self.constants[tensor.name] = tensor.renamed(tensor.name)

    def _view(self, tensor: str, location: dict[str, str], size: int) -> memoryview:
        name = location.get("location", "")
        if self._folder is None or not name or os.path.isabs(name) or ".." in name.split("/"):
            raise ValueError(f"constant '{tensor}' points to the external file '{name}', outside the model's folder")
        if name not in self._files:
            self._files[name] = self._read_bytes(os.path.join(self._folder, name))
        offset = int(location.get("offset") or 0)
        length = int(location.get("length") or size)
        data = self._files[name][offset : offset + length]
        if len(data) != size:
            raise ValueError(f"constant '{tensor}' needs {size} bytes of '{name}', which has {len(data)} there")
        return data


class _NoExternalData(ExternalData):
    """For constants in operators: no exporter stores those in files."""

    def __init__(self) -> None:
        super().__init__(None, memoryview)  # type: ignore[arg-type]

    def fill(self, tensor: Tensor, location: dict[str, str], size: int) -> None:
        raise ValueError(
            f"constant '{tensor.name}' inside an operator is in the external file '{location.get('location', '')}', expected "
            "only the graph's own constants there; save the model in one file"
        )


def model_from_message(data: memoryview, external: ExternalData) -> Model:
    """The model of a ModelProto; constants are views of ``data``. Raises WireError, struct.error, ValueError."""
    graph: Graph | None = None
    opsets: dict[str, int] = {}
    ir_version = 0
    for number, value, payload in wire.read_fields(data):
        if number == 1:
            ir_version = value
        elif number == 7:
            graph = _decode_graph(payload, external, graph)
        elif number == 8:
            domain, version = "", 1
            for key, count, text in wire.read_fields(payload):
                domain, version = (wire.text(text), version) if key == 1 else (domain, count)
            opsets["" if domain == "ai.onnx" else domain] = version
        elif number == 25:
            raise ValueError("it contains model-local functions; export it with functions inlined")
    if graph is None:
        raise ValueError("it contains no graph")
    return Model(graph, opsets, ir_version)


def _decode_graph(data: memoryview, external: ExternalData, graph: Graph | None = None) -> Graph:
    """The graph of a GraphProto, appended to that of an earlier field (protobuf.dev, "Last One Wins")."""
    graph = graph or Graph("", [], {}, [], [])
    for number, _, payload in wire.read_fields(data):
        if number == 1:
            graph.nodes.append(decode_node(payload, _NoExternalData()))
        elif number == 2:
            graph.name = wire.text(payload)
        elif number == 5:
            tensor = _decode_tensor(payload, external)
            graph.initializers[tensor.name] = tensor
        elif number == 11:
            graph.inputs.append(_decode_value_info(payload))
        elif number == 12:
            graph.outputs.append(_decode_value_info(payload))
        elif number == 15:
            raise ValueError("it contains sparse constants; export it with dense ones")
    # Up to IR version 3 every constant is also listed as an input.
    graph.inputs = [info for info in graph.inputs if info.name not in graph.initializers]
    return graph


def decode_node(data: memoryview, external: ExternalData) -> Node:
    """The node of a NodeProto. Raises as model_from_message."""
    node = Node("", [], [])
    for number, _, payload in wire.read_fields(data):
        if number == 1:
            node.inputs.append(wire.text(payload))
        elif number == 2:
            node.outputs.append(wire.text(payload))
        elif number == 3:
            node.name = wire.text(payload)
        elif number == 4:
            node.op_type = wire.text(payload)
        elif number == 5:
            name, attribute = _decode_attribute(payload, external)
            node.attributes[name] = attribute
        elif number == 7:
            domain = wire.text(payload)
            node.domain = "" if domain == "ai.onnx" else domain
    return node


def _decode_attribute(data: memoryview, external: ExternalData) -> tuple[str, Attribute]:
    name, kind = "", 0
    items: list[Attribute] = []
    for number, value, payload in wire.read_fields(data):
        if number == 1:
            name = wire.text(payload)
        elif number == 20:
            kind = value
        elif number in _ATTRIBUTE_FIELDS:
            items += _ATTRIBUTE_FIELDS[number](value, payload, external)
        elif number != 13:
            raise ValueError(f"attribute '{name}' is of an unsupported kind (field {number})")
    if kind >= _FIRST_LIST_KIND or (kind == 0 and len(items) > 1):
        return name, items  # type: ignore[return-value]
    # proto3 omits zeros and empty strings.
    absent: Attribute = {1: 0.0, 3: ""}.get(kind, 0)  # type: ignore[assignment]
    return name, items[-1] if items else absent


def _ints(value: int, payload: memoryview) -> list[int]:
    """A repeated integer field, packed or not."""
    return list(wire.read_varints(payload)) if payload else [wire.signed(value)]


_FIRST_LIST_KIND = 6
"""AttributeProto.AttributeType: FLOATS and the other lists follow the scalars."""

_ATTRIBUTE_FIELDS: dict[int, Callable[[int, memoryview, ExternalData], list[Attribute]]] = {
    2: lambda value, payload, external: [float(struct.unpack("<f", payload)[0])],
    3: lambda value, payload, external: [wire.signed(value)],
    4: lambda value, payload, external: [wire.text(payload)],
    5: lambda value, payload, external: [_decode_tensor(payload, external)],
    6: lambda value, payload, external: [_decode_graph(payload, external)],
    7: lambda value, payload, external: [v for (v,) in struct.iter_unpack("<f", payload)],
    8: lambda value, payload, external: [*_ints(value, payload)],
    9: lambda value, payload, external: [wire.text(payload)],
    10: lambda value, payload, external: [_decode_tensor(payload, external)],
    11: lambda value, payload, external: [_decode_graph(payload, external)],
}
"""AttributeProto's value fields: f, i, s, t, g, floats, ints, strings, tensors, graphs."""


class _TensorFields:
    """A TensorProto's fields as they arrive; ``typed`` are the payloads of the type-specific fields."""

    __slots__ = ("code", "dims", "is_external", "location", "name", "raw", "typed")

    def __init__(self) -> None:
        self.name = ""
        self.code = 0
        self.dims: list[int] = []
        self.raw: Buffer | None = None
        self.typed: dict[int, list[memoryview | int]] = {}
        self.location: dict[str, str] = {}
        self.is_external = False

    def take(self, number: int, value: int, payload: memoryview) -> None:
        """Keep one field."""
        if number == 1:
            self.dims += _ints(value, payload)
        elif number == 2:
            self.code = value
        elif number == 8:
            self.name = wire.text(payload)
        elif number == 9:
            self.raw = payload
        elif number == 13:
            pair = {key: wire.text(text) for key, _, text in wire.read_fields(payload)}
            self.location[pair.get(1, "")] = pair.get(2, "")
        elif number == 14:
            self.is_external = value == 1
        elif number in _TENSOR_TYPED_FIELDS:
            self.typed.setdefault(number, []).append(payload if payload else value)


def _decode_tensor(data: memoryview, external: ExternalData) -> Tensor:
    fields = _TensorFields()
    for number, value, payload in wire.read_fields(data):
        fields.take(number, value, payload)
    if fields.code not in DType._value2member_map_ or fields.code == DType.STRING:
        raise ValueError(f"constant '{fields.name}' has element type {fields.code}, which is not supported")
    tensor = Tensor(fields.name, DType(fields.code), tuple(fields.dims), b"")
    size = tensor.size * tensor.dtype.itemsize
    if fields.is_external:
        external.fill(tensor, fields.location, size)
    else:
        tensor.data = fields.raw if fields.raw is not None else _raw_from_typed(tensor.dtype, fields.typed)
    if len(tensor.data) != size:
        raise ValueError(
            f"constant '{tensor.name}' of shape {tensor.dims} has {len(tensor.data)} bytes instead of {size}"
        )
    return tensor


def _raw_from_typed(dtype: DType, typed: dict[int, list[memoryview | int]]) -> Buffer:
    """The raw bytes of a constant stored in a type-specific field, as older exporters do."""
    if not typed:
        return b""
    number, chunks = next(iter(typed.items()))
    code = _TENSOR_TYPED_FIELDS[number]
    if code in "fd":
        views = [chunk for chunk in chunks if not isinstance(chunk, int)]
        return views[0] if len(views) == 1 else b"".join(views)
    values: list[int] = []
    for chunk in chunks:
        values.extend([wire.signed(chunk)] if isinstance(chunk, int) else wire.read_varints(chunk))
    mask = (1 << 8 * dtype.itemsize) - 1
    element = {1: "B", 2: "H", 4: "I", 8: "Q"}[dtype.itemsize]
    return array(element, [value & mask for value in values]).tobytes()


def _decode_value_info(data: memoryview) -> ValueInfo:
    name, dtype, dims = "", DType.FLOAT, None
    for number, _, payload in wire.read_fields(data):
        if number == 1:
            name = wire.text(payload)
        elif number == 2:
            dtype, dims = _decode_type(payload, name)
    return ValueInfo(name, dtype, dims)


def _decode_type(data: memoryview, name: str) -> tuple[DType, tuple[int | str | None, ...] | None]:
    for number, _, tensor_type in wire.read_fields(data):
        if number == 1:
            dtype, dims = DType.FLOAT, None
            for key, value, payload in wire.read_fields(tensor_type):
                if key == 1:
                    dtype = DType(value)
                elif key == 2:
                    dims = tuple(_decode_dim(dim) for k, _, dim in wire.read_fields(payload) if k == 1)
            return dtype, dims
    raise ValueError(f"'{name}' is not a tensor (sequences, maps and optionals are not supported)")


def _decode_dim(data: memoryview) -> int | str | None:
    for number, value, payload in wire.read_fields(data):
        if number == 1:
            return wire.signed(value)
        if number == 2:
            return wire.text(payload) or None
    return None
