"""The engine file: a fixed head, a JSON header, then cubins and packed weights in sections aligned to 256 bytes.

    0   magic (8 bytes), format version (u32), bytes of the header (u32), bytes of the file (u64), zero (u64)
    32  SHA-256 of the header
    64  header: JSON with the plan, the minimum driver, the provenance of the engine, and the list of sections
    …   sections in the header's order, each at the next multiple of 256, zeros between them

All numbers are little-endian. The same engine gives the same bytes. Reading trusts nothing: a file is an engine only if
every byte of it is accounted for, and no allocation is based on a size that the file merely claims.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cmx4trt.backends.hopper.cubin import LEAST, elf_abi
from cmx4trt.backends.hopper.engine import CAPABILITY, Engine
from cmx4trt.backends.hopper.plan import Plan
from cmx4trt.backends.hopper.plan_checks import check_plan
from cmx4trt.backends.hopper.plan_json import plan_from_json, plan_to_json
from cmx4trt.backends.hopper.strict_json import Fields, fields, integer, parse, text
from cmx4trt.errors import ModelError

MAGIC = b"CMXHOPR\n"
VERSION = 1
"""Version of the format; every change of it or of the plan's meaning increments it."""
_HEAD = struct.Struct("<8sIIQQ32s")
_ALIGNMENT = 256
_HEADER_LIMIT = 4 << 20
"""Maximum size of a header in bytes; that of ResNet-50 has about 100,000."""
_BYTES_PER_VALUE = 128
"""Generous estimate of a parsed JSON value's memory: limits the number of values in a header by the file's size."""
_COPY_STREAMS_LIMIT = 64
_SECTION_LIMIT = 1024
_WEIGHTS = "weights"
_SHA256 = re.compile("[0-9a-f]{64}")
_KEY = re.compile("[a-z0-9_]{1,40}")
_WORDS = re.compile(r"[^\x00-\x1f\x7f]{0,300}")
_KIND = re.compile("cubin|weights")
_SECTION_NAME = re.compile(r"\w{0,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Section:
    kind: str
    name: str
    offset: int
    size: int
    sha256: str


def write_engine(engine: Engine) -> bytes:
    """The file of an engine. Raises ValueError for one that ``read_engine`` would reject."""
    check_plan(engine.plan, memoryview(engine.weights).nbytes)
    parts = [("cubin", kernel.name, engine.cubins[kernel.name]) for kernel in engine.plan.kernels]
    parts.append((_WEIGHTS, "", engine.weights))
    sections = [_Section(kind, name, 0, len(data), hashlib.sha256(data).hexdigest()) for kind, name, data in parts]
    header = _encoded(engine, sections, _HEAD.size)
    # Offsets are numbers in the header and affect its length: repeat until the length is stable.
    while (placed := _encoded(engine, sections, _HEAD.size + len(header))) != header:
        header = placed
    offsets = list(_offsets(sections, _HEAD.size + len(header)))
    size = offsets[-1] + sections[-1].size
    head = _HEAD.pack(MAGIC, VERSION, len(header), size, 0, hashlib.sha256(header).digest())
    file = bytearray(head + header)
    for offset, (_, _, data) in zip(offsets, parts, strict=True):
        file += bytes(offset - len(file))
        file += data
    return bytes(file)


def read_engine(data: Any, path: str) -> Engine:
    """The engine in the bytes of a file (or a memory map); cubins and weights are views of them.

    ``path`` names it in errors. Raises ModelError for anything but an intact engine of this release.
    """
    view = memoryview(data).cast("B")
    try:
        header = _read_header(view)
        engine, sections = _engine_of(parse(header), view)
        _check_sections(view, sections, _HEAD.size + len(header))
        check_plan(engine.plan, len(engine.weights))
    except ValueError as error:
        raise ModelError(f"{path} is not a usable Hopper engine: {error}; build it again") from error
    return engine


def _encoded(engine: Engine, sections: Sequence[_Section], start: int) -> bytes:
    """The header, with sections that begin after ``start``."""
    offsets = _offsets(sections, start)
    header = {
        "capability": list(CAPABILITY),
        "least_cuda": engine.least.cuda,
        "copy_streams": engine.copy_streams,
        "origin": dict(sorted(engine.origin.items())),
        "plan": plan_to_json(engine.plan),
        "sections": [
            [section.kind, section.name, offset, section.size, section.sha256]
            for section, offset in zip(sections, offsets, strict=True)
        ],
    }
    return json.dumps(header, separators=(",", ":"), allow_nan=False).encode()


def _offsets(sections: Sequence[_Section], start: int) -> Iterator[int]:
    for section in sections:
        start = -(-start // _ALIGNMENT) * _ALIGNMENT
        yield start
        start += section.size


def _read_header(view: memoryview) -> bytes:
    """The header's bytes, after checking the head against them and the file."""
    if len(view) < _HEAD.size or bytes(view[: len(MAGIC)]) != MAGIC:
        raise ValueError("it does not start with an engine's signature")
    _, version, header_bytes, file_bytes, zero, digest = _HEAD.unpack(view[: _HEAD.size])
    if version != VERSION:
        raise ValueError(f"it has format version {version}, expected {VERSION}")
    if file_bytes != len(view):
        raise ValueError(f"it has {len(view)} bytes, expected {file_bytes} (truncated or edited)")
    if zero or not 0 < header_bytes <= min(_HEADER_LIMIT, len(view) - _HEAD.size):
        raise ValueError(
            f"its header has {header_bytes} bytes, expected up to {min(_HEADER_LIMIT, len(view) - _HEAD.size)}"
        )
    header = view[_HEAD.size : _HEAD.size + header_bytes]
    if hashlib.sha256(header).digest() != digest:
        raise ValueError("its header was edited (SHA-256)")
    content = bytes(header)
    if (values := sum(content.count(mark) for mark in (b",", b"[", b"{"))) * _BYTES_PER_VALUE > len(view):
        raise ValueError(
            f"its header has {values} values, expected up to {len(view) // _BYTES_PER_VALUE} in a file of its size"
        )
    return content


def _engine_of(value: Any, view: memoryview) -> tuple[Engine, tuple[_Section, ...]]:
    with fields(value, "header") as header:
        _check_capability(header)
        least_cuda = header.integer("least_cuda", 0, 1 << 31)
        copy_streams = header.integer("copy_streams", 1, _COPY_STREAMS_LIMIT)
        origin = header.mapping("origin", _KEY, lambda words, at: text(words, at, _WORDS), 16)
        plan = header.part("plan", lambda part, _: plan_from_json(part))
        sections = header.items("sections", _section, 1, _SECTION_LIMIT)
    contents = {(one.kind, one.name): view[one.offset : one.offset + one.size] for one in sections}
    expected = [*(("cubin", kernel.name) for kernel in plan.kernels), (_WEIGHTS, "")]
    if [(one.kind, one.name) for one in sections] != expected:
        raise ValueError("its sections are not the plan's kernels and the weights")
    cubins = {kernel.name: contents["cubin", kernel.name] for kernel in plan.kernels}
    engine = Engine(plan, cubins, contents[_WEIGHTS, ""], copy_streams, origin)
    _check_cubins(plan, engine, least_cuda)
    return engine, sections


def _check_capability(header: Fields) -> None:
    capability = header.items("capability", lambda part, at: integer(part, at, 0, 1000), 2, 2)
    if capability != CAPABILITY:
        found, expected = (f"{major}.{minor}" for major, minor in (capability, CAPABILITY))
        raise ValueError(f"it is for compute capability {found}, expected {expected}")


def _check_cubins(plan: Plan, engine: Engine, least_cuda: int) -> None:
    for kernel in plan.kernels:
        if elf_abi(engine.cubins[kernel.name]) is None:
            known = ", ".join(map(str, LEAST))
            raise ValueError(f"its kernel {kernel.name} is not a cubin of ELF ABI {known}")
    if engine.least.cuda != least_cuda:
        raise ValueError(f"its header requires CUDA {least_cuda}, its kernels {engine.least.cuda}")


def _check_sections(view: memoryview, sections: Sequence[_Section], start: int) -> None:
    """Every byte after the header belongs to an unmodified section, or is a zero between two sections."""
    end = start
    for section, offset in zip(sections, _offsets(sections, start), strict=True):
        words = f"its section {section.kind} {section.name}".rstrip()
        if section.offset != offset or section.size > len(view) - offset:
            raise ValueError(
                f"{words} has bytes {section.offset} to {section.offset + section.size}, expected {offset} to {len(view)} at most"
            )
        if any(view[end:offset]):
            raise ValueError(f"there is something before {words.removeprefix('its ')} (edited)")
        end = offset + section.size
        if hashlib.sha256(view[offset:end]).hexdigest() != section.sha256:
            raise ValueError(f"{words} was edited (SHA-256)")
    if end != len(view):
        raise ValueError(f"{len(view) - end} bytes follow its last section")


def _section(value: Any, path: str) -> _Section:
    if not isinstance(value, list) or len(value) != 5:
        raise ValueError(f"{path} is not a list of 5")
    kind, name, offset, size, digest = value
    return _Section(
        text(kind, f"{path}.kind", _KIND),
        text(name, f"{path}.name", _SECTION_NAME),
        integer(offset, f"{path}.offset", 0, 1 << 40),
        integer(size, f"{path}.size", 0, 1 << 40),
        text(digest, f"{path}.sha256", _SHA256),
    )
