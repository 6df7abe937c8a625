"""Which drivers can load a cubin, from its ELF header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAGIC = b"\x7fELF"
_ABI_VERSION = 8
"""The offset of the ABI version (System V ABI, e_ident[EI_ABIVERSION])."""
_MACHINE = slice(18, 20)
_CUDA = (190).to_bytes(2, "little")
"""e_machine EM_CUDA."""
_HEADER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Least:
    """The oldest driver: the CUDA version that it must support, in the format of cuDriverGetVersion, and its own major
    version."""

    cuda: int
    driver: int


LEAST = {7: Least(12000, 525), 8: Least(13000, 580)}
"""ABI version -> the first driver that loads it (CUDA Toolkit release notes, minor version compatibility)."""


def elf_abi(cubin: Any) -> int | None:
    """The ABI version of a cubin, if it is a known one; None for anything else."""
    header = bytes(cubin[:_HEADER_BYTES])
    if len(header) < _HEADER_BYTES or header[:4] != MAGIC or header[_MACHINE] != _CUDA:
        return None
    abi = header[_ABI_VERSION]
    return abi if abi in LEAST else None
