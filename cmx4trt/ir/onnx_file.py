"""ONNX files and messages: bytes -> ir.Model -> bytes, without a copy of the weights.

Field numbers are those of onnx.proto. Documentation strings, metadata and intermediate value infos are dropped: nothing
that builds or runs a graph needs them. Why this is not the ``onnx`` package: docs/decisions/001-own-onnx-reader.md.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from contextlib import suppress

from cmx4trt.base.damage import MALFORMED, reason
from cmx4trt.base.files import open_file
from cmx4trt.base.frozen import Frozen
from cmx4trt.errors import ModelError
from cmx4trt.ir import wire
from cmx4trt.ir.decoding import ExternalData, model_from_message
from cmx4trt.ir.encoding import message_of_graph
from cmx4trt.ir.model import Buffer, Model, Tensor

INLINE_BYTES = 1024
"""Constants up to this size are inside the encoded graph; larger ones are passed separately, so that they are not copied."""


class EncodedGraph(Frozen):
    """A ModelProto whose large constants are external: their bytes are in ``constants``, by name, not in ``message``."""

    message: bytes
    constants: dict[str, Tensor]

    def sha256(self) -> str:
        """The digest of the whole graph: structure, names and all constants."""
        digest = hashlib.sha256(self.message)  # which contains the size of each external constant
        for tensor in self.constants.values():
            digest.update(tensor.data)
        return digest.hexdigest()


def read_bytes(path: str) -> memoryview:
    """The whole file in private memory (later changes of the file have no effect).

    Raises ModelError if the path is not a readable, non-empty regular file.
    """
    try:
        with open_file(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if not size:
                raise ModelError(f"model file {path} is empty; give a path to an ONNX file")
            content = memoryview(_private_memory(size))
            done = 0
            while done < size and (count := stream.readinto(content[done:])):
                done += count
            if done < size:
                raise ModelError(f"model file {path} shrank from {size} to {done} bytes while it was read; try again")
            return content
    except OSError as error:
        raise ModelError(f"cannot read model file {path}: {error.strerror}; give a path to an ONNX file") from error


def _private_memory(size: int) -> mmap.mmap:
    """Anonymous memory that is not explicitly zeroed first; in huge pages if the system has them (3 x faster to fill)."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without transparent huge pages: normal pages will do
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def decode_model(content: Buffer, external: ExternalData | str | None = None, where: str = "the model") -> Model:
    """The model of a serialized ModelProto; its constants are views of ``content``.

    ``external`` is the source of its external data: a folder, or a reader of their files. Raises ModelError if the bytes
    are not an ONNX model or use features that this package does not support (model-local functions, sparse constants).
    """
    if not isinstance(external, ExternalData):
        external = ExternalData(external, read_bytes)
    try:
        model = model_from_message(memoryview(content).cast("B"), external)
    except MALFORMED as error:
        raise ModelError(
            f"{where} is not a readable ONNX file ({reason(error)}); it may be truncated or in another format"
        ) from error
    if not model.graph.nodes or not model.opsets:
        raise ModelError(f"{where} is not an ONNX model: it contains no operators; give a path to an ONNX file")
    return model


def decode_encoded(graph: EncodedGraph) -> Model:
    """The model of an encoded graph, whose constants may be external. Raises ModelError."""
    return decode_model(graph.message, _GivenConstants(graph.constants))


class _GivenConstants(ExternalData):
    """External constants by name."""

    def __init__(self, constants: dict[str, Tensor]) -> None:
        super().__init__(None, memoryview)  # type: ignore[arg-type]
        self._given = constants

    def fill(self, tensor: Tensor, location: dict[str, str], size: int) -> None:
        """Assign to ``tensor`` its bytes. Raises ValueError."""
        if tensor.name not in self._given:
            raise ValueError(f"constant '{tensor.name}' is missing")
        tensor.data = self._given[tensor.name].data


def encode_model(model: Model, inline_bytes: int | None = INLINE_BYTES) -> EncodedGraph:
    """The model as a ModelProto; constants above ``inline_bytes`` stay external (None: everything inside)."""
    constants: dict[str, Tensor] = {}
    parts = [wire.int_field(1, model.ir_version), wire.text_field(2, "cmx4trt")]
    parts.append(wire.bytes_field(7, message_of_graph(model.graph, constants, inline_bytes)))
    for domain, version in model.opsets.items():
        parts.append(wire.bytes_field(8, wire.text_field(1, domain) + wire.int_field(2, version)))
    return EncodedGraph(b"".join(parts), constants)


def with_output(message: Buffer, name: str) -> bytes:
    """The ModelProto with value ``name`` among its graph outputs (the type is left to inference); otherwise byte for byte the
    same.

    Protobuf merges concatenated messages: a second ``graph`` field appends to the repeated fields of the first
    (protobuf.dev, encoding, "Last One Wins").
    """
    if name in _output_names(memoryview(message)):
        return bytes(message)
    return b"".join((message, wire.bytes_field(7, wire.bytes_field(12, wire.text_field(1, name)))))


def _output_names(message: memoryview) -> set[str]:
    names: set[str] = set()
    for number, _, graph in wire.read_fields(message):
        if number == 7:
            infos = [payload for key, _, payload in wire.read_fields(graph) if key == 12]
            names.update(wire.text(text) for info in infos for key, _, text in wire.read_fields(info) if key == 1)
    return names
