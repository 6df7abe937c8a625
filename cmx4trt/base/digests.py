"""Digests of content: BLAKE3 in keys, which is fast, and beside it SHA-256, which people and registries compare.

Files are read in pieces, not mapped into memory: of a mapped file that somebody shortens, the rest is a bus error.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from io import FileIO
from typing import Any, Protocol

from cmx4trt.base.background import in_threads
from cmx4trt.base.files import open_file
from cmx4trt.errors import MissingSoftwareError

_CHUNK = 1 << 18
"""Stays in the processor's second cache between reading and hashing."""
_LARGE_CHUNK = 1 << 20
"""For BLAKE3, which shares pieces of a megabyte and more among the processors."""


class Hasher(Protocol):
    """What hashes in pieces: a ``hashlib`` object, or one of blake3."""

    def update(self, data: Any, /) -> object:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """Of all bytes so far."""

    def hexdigest(self) -> str:
        """The same in hexadecimal."""


def new_blake3() -> Hasher:
    """A hasher of BLAKE3, which uses all processors for large pieces. Raises MissingSoftwareError."""
    try:
        from blake3 import blake3
    except ImportError as error:
        raise MissingSoftwareError("blake3 is not installed in this Python; pip install 'blake3>=1.0.1'") from error
    hasher: Hasher = blake3(max_threads=blake3.AUTO)
    return hasher


def sha256_of_file(path: str) -> str:
    """The SHA-256 of a regular file's bytes, in hexadecimal. Raises OSError."""
    return _hash_file(path, hashlib.sha256())


def blake3_of_file(path: str) -> str:
    """The BLAKE3 of a regular file's bytes, in hexadecimal. Raises OSError, MissingSoftwareError."""
    return _hash_file(path, new_blake3(), _LARGE_CHUNK)


def blake3_of_files(paths: Sequence[str]) -> list[str]:
    """The same of each file, by as many threads as there are processors."""
    return in_threads([partial(blake3_of_file, path) for path in paths])


def digests_of(content: Any) -> dict[str, str]:
    """Both digests of bytes in memory, by the names they have in a manifest, at once. Raises MissingSoftwareError."""
    sha256, blake3 = in_threads([lambda: hashlib.sha256(content).hexdigest(), lambda: blake3_of(content)])
    return {"sha256": sha256, "blake3": blake3}


def blake3_of(content: Any) -> str:
    """The BLAKE3 of bytes in memory, in hexadecimal. Raises MissingSoftwareError."""
    hasher = new_blake3()
    hasher.update(memoryview(content).cast("B"))  # blake3 takes bytes only, TensorRT gives signed ones
    return hasher.hexdigest()


def hash_stream(stream: FileIO, hasher: Hasher, size: int | None = None, chunk: int = _CHUNK) -> int:
    """Take in ``size`` bytes of ``stream``, or all, in pieces of ``chunk``; the number of bytes read. Raises OSError."""
    view, done = memoryview(bytearray(chunk)), 0
    while size is None or done < size:
        wanted = view if size is None else view[: size - done]
        count = stream.readinto(wanted)
        if not count:
            break
        hasher.update(view[:count])
        done += count
    return done


def _hash_file(path: str, hasher: Hasher, chunk: int = _CHUNK) -> str:
    with open_file(path) as stream:
        hash_stream(stream, hasher, chunk=max(_CHUNK, min(chunk, os.fstat(stream.fileno()).st_size)))
    return hasher.hexdigest()
