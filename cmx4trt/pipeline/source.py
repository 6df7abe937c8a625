"""Where a network comes from: a model file, or a seed."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.backends import backend_of
from cmx4trt.base.background import Background
from cmx4trt.base.damage import MALFORMED
from cmx4trt.base.digests import blake3_of, blake3_of_file, blake3_of_files
from cmx4trt.errors import ModelError, RequestError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.fingerprint import source_of_digest, source_of_record, source_of_seed

if TYPE_CHECKING:
    from cmx4trt.ir.model import Model, Tensor
    from cmx4trt.ir.onnx_file import EncodedGraph


class Source(Protocol):
    """A network's origin; cheap until ``model`` is called."""

    def part(self) -> str:
        """The source part of the fingerprint."""

    def start_reading(self) -> None:
        """Begin to fetch what ``model`` needs, in the background."""

    def model(self) -> Model:
        """The network as it comes, decoded or generated anew."""

    def message(self, output: str) -> EncodedGraph:
        """The network as it comes, serialized, with ``output`` among its outputs."""

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
    return FileSource(request.model, is_onnx=backend_of(request.builder).takes_graph)


class SeedSource:
    """The exact topology with random weights."""

    def __init__(self, network: str, seed: int) -> None:
        self._network = network
        self._seed = seed

    def part(self) -> str:
        """The seed."""
        return source_of_seed(self._seed)

    def start_reading(self) -> None:
        """Nothing to fetch."""

    def model(self) -> Model:
        """A newly drawn network."""
        from cmx4trt.networks import model_from_seed

        return model_from_seed(self._network, self._seed)

    def message(self, output: str) -> EncodedGraph:
        """The network drawn again and encoded whole."""
        from cmx4trt.ir.onnx_file import EncodedGraph, encode_model

        return EncodedGraph(_with_output(encode_model(self.model(), inline_bytes=None).message, output), {})

    def record(self) -> dict[str, Any]:
        """That the weights are random, and their seed."""
        return {"kind": "random-weights", "seed": self._seed}


class FileSource:
    """A model file and the files its external data are in.

    What is built is read once; the digests, computed in the background, are of the very bytes that are built and compared with.
    """

    def __init__(self, path: str, is_onnx: bool = True) -> None:
        self._path = path
        self._is_onnx = is_onnx
        _check_file(path)
        self._file: _HashedFile | None = None
        self._others: dict[str, _HashedFile] = {}
        self._external: dict[str, Tensor] | None = None

    def part(self) -> str:
        """The digests of the model file and of all files its constants are in. Raises ModelError.

        Of what ``model`` has read, where it has; before that nothing is kept, and no weights are decoded.
        """
        if self._file is not None:
            others = {name: file.blake3() for name, file in self._external_files()}
            return source_of_digest("blake3", self._file.blake3(), others)
        try:
            others = self._external_digests() if self._is_onnx else {}
            return source_of_digest("blake3", blake3_of_file(self._path), others)
        except (OSError, *MALFORMED):
            return source_of_record(self.record(), "blake3")  # which says what is wrong

    def _external_digests(self) -> dict[str, str]:
        """Digests of the files with external data, by their names in the model. Raises OSError, ValueError."""
        from cmx4trt.ir.external import external_files

        names, folder = external_files(self._path), os.path.dirname(self._path)
        return dict(zip(names, blake3_of_files([os.path.join(folder, name) for name in names]), strict=True))

    def start_reading(self) -> None:
        """Read the file, and then compute its digest, while others work."""
        if self._file is None:
            self._file = _HashedFile(self._path)

    def model(self) -> Model:
        """The file's model. Raises ModelError."""
        from cmx4trt.ir.decoding import ExternalData
        from cmx4trt.ir.onnx_file import decode_model

        external = ExternalData(os.path.dirname(self._path), self._read_external)
        model = decode_model(self._read().content(), external, f"model file {self._path}")
        self._external = external.constants
        return model

    def message(self, output: str) -> EncodedGraph:
        """The file's own bytes, and one output more; its external data as they were read for ``model``."""
        from cmx4trt.ir.onnx_file import EncodedGraph

        constants = self._external_constants()
        return EncodedGraph(_with_output(self._read().content(), output), constants)

    def record(self) -> dict[str, Any]:
        """Path, size and digests of the file, and of those with its external data (named as in the model)."""
        external = [{"file": name, **file.record()} for name, file in self._external_files()]
        own = {"kind": "file", "path": self._path, **self._read().record()}
        return {**own, "external": external} if external else own

    def _read(self) -> _HashedFile:
        self.start_reading()
        assert self._file is not None
        return self._file

    def _read_external(self, path: str) -> memoryview:
        if path not in self._others:
            self._others[path] = _HashedFile(path)
        return self._others[path].content()

    def _external_constants(self) -> dict[str, Tensor]:
        if self._external is None:
            self.model()
        assert self._external is not None
        return self._external

    def _external_files(self) -> list[tuple[str, _HashedFile]]:
        """The files with external data, by their names in the model; a file of another kind than ONNX has none."""
        if not self._is_onnx:
            return []
        self._external_constants()
        folder = os.path.dirname(self._path)
        return sorted((os.path.relpath(path, folder), file) for path, file in self._others.items())


class _HashedFile:
    """A file being read, and then hashed, in the background: by BLAKE3, which keys need. What only manifests have is computed
    when it is first asked for.

    It is read at once: a thread that reads in pieces waits after each for Python's lock.
    """

    def __init__(self, path: str) -> None:
        from cmx4trt.ir.onnx_file import read_bytes

        content = Background(lambda: read_bytes(path))
        self._content = content
        self._blake3 = Background(lambda: blake3_of(content.result()))
        self._sha256 = ""
        self._hashing = threading.Lock()

    def content(self) -> memoryview:
        """Its bytes. Raises ModelError."""
        return self._content.result()

    def record(self) -> dict[str, Any]:
        """Size and digests. Raises ModelError."""
        content = self.content()
        with self._hashing:
            self._sha256 = self._sha256 or hashlib.sha256(content).hexdigest()
        return {"bytes": len(content), "sha256": self._sha256, "blake3": self.blake3()}

    def blake3(self) -> str:
        """Its BLAKE3. Raises ModelError."""
        return self._blake3.result()


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
