"""Where a network comes from: a model file, or a seed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.background import Background
from cmx4trt.errors import ModelError, RequestError
from cmx4trt.files import Stamp, digest_if_changed
from cmx4trt.fingerprint import source_of_digest, source_of_seed
from cmx4trt.request import BuildRequest

if TYPE_CHECKING:
    from cmx4trt.ir.model import Model


class Source(Protocol):
    """A network's origin; cheap until ``model`` is called."""

    def part(self, known: Mapping[str, Any]) -> str:
        """The source part of the fingerprint; ``known`` is an earlier manifest's source record."""

    def start_reading(self) -> None:
        """Begin to fetch what ``model`` needs, in the background."""

    def model(self) -> Model:
        """The network as it comes, decoded or generated anew."""

    def message(self, output: str) -> tuple[bytes, str | None]:
        """The network as a serialized ModelProto with ``output`` among its outputs, and its external data's folder."""

    def record(self) -> dict[str, Any]:
        """What the manifest says of the source; waits for the digest."""


def source_of_request(request: BuildRequest) -> Source:
    """The request's source. Raises RequestError where it names none, ModelError where the file cannot be one."""
    if request.random_weights is not None:
        return SeedSource(request.network, request.random_weights)
    if request.model is None:
        raise RequestError(
            "no model: give --model=FILE.onnx, or --random_weights=SEED for the exact topology with random weights "
            "(through CM the MLPerf file comes from get,ml-model)"
        )
    return FileSource(request.model)


class SeedSource:
    """The exact topology with random weights."""

    def __init__(self, network: str, seed: int) -> None:
        self._network = network
        self._seed = seed

    def part(self, known: Mapping[str, Any]) -> str:
        """The seed."""
        return source_of_seed(self._seed)

    def start_reading(self) -> None:
        """Nothing to fetch."""

    def model(self) -> Model:
        """A newly drawn network."""
        from cmx4trt.models import model_from_seed

        return model_from_seed(self._network, self._seed)

    def message(self, output: str) -> tuple[bytes, str | None]:
        """The network drawn again and encoded whole."""
        from cmx4trt.ir.onnx_file import encode_model

        return _with_output(encode_model(self.model(), inline_bytes=None).message, output), None

    def record(self) -> dict[str, Any]:
        """That the weights are random, and their seed."""
        return {"kind": "random-weights", "seed": self._seed}


class FileSource:
    """An ONNX file, read once; its digest is computed in the background, over the very bytes that are built."""

    def __init__(self, path: str) -> None:
        self._path = path
        _check_file(path)
        self._stamp = Stamp.of(path)
        self._content: Background[memoryview] | None = None
        self._digest: Background[str] | None = None

    def part(self, known: Mapping[str, Any]) -> str:
        """The digest of the file, from ``known`` while the file is unchanged."""
        same_path = known.get("path") == self._path
        try:
            return source_of_digest(digest_if_changed(self._path, known if same_path else {}))
        except OSError as error:
            raise ModelError(f"cannot read model file {self._path}: {error.strerror}") from error

    def start_reading(self) -> None:
        """Read the file, and then compute its digest, while others work."""
        if self._content is None:
            from cmx4trt.ir.onnx_file import read_bytes

            content = Background(lambda: read_bytes(self._path))
            self._content = content
            self._digest = Background(lambda: hashlib.sha256(content.result()).hexdigest())

    def model(self) -> Model:
        """The file's model. Raises ModelError."""
        from cmx4trt.ir.onnx_file import decode_model

        return decode_model(self._read(), os.path.dirname(self._path), f"model file {self._path}")

    def message(self, output: str) -> tuple[bytes, str | None]:
        """The file's own bytes, and one output more."""
        return _with_output(self._read(), output), os.path.dirname(self._path)

    def record(self) -> dict[str, Any]:
        """Path, size, digest and file-system state."""
        content = self._read()
        assert self._digest is not None
        return {
            "kind": "file",
            "path": self._path,
            "bytes": len(content),
            "sha256": self._digest.result(),
            "stamp": self._stamp.to_dict(),
        }

    def _read(self) -> memoryview:
        self.start_reading()
        assert self._content is not None
        return self._content.result()


def _check_file(path: str) -> None:
    """Refuse at once what cannot be a model file. Raises ModelError."""
    if not os.path.lexists(path):
        raise ModelError(f"model file {path} does not exist; give a path to an ONNX file")
    if os.path.isdir(path):
        raise ModelError(f"model file {path} is a folder; give a path to an ONNX file")
    if not os.path.isfile(path):
        raise ModelError(f"model file {path} is not a regular file; give a path to an ONNX file")
    if os.path.getsize(path) == 0:
        raise ModelError(f"model file {path} is empty; give a path to an ONNX file")


def _with_output(message: bytes | memoryview, output: str) -> bytes:
    from cmx4trt.ir.onnx_file import with_output

    return with_output(message, output)
