"""NVRTC, NVIDIA's CUDA C++ compiler as a library, through its C interface: needs no GPU, no driver and no CUDA toolkit.

The library is in the wheel ``nvidia-cuda-nvrtc-cu12`` (or ``nvidia-cuda-nvrtc``, CUDA 13). It is called through
ctypes rather than ``cuda.bindings.nvrtc``, so that the compiler's version, which determines which drivers load its cubins,
is independent of that of the bindings. ctypes releases the interpreter lock, so threads compile in parallel.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from glob import glob

from cmx4trt.base.digests import sha256_of_file
from cmx4trt.base.install import pip_line
from cmx4trt.errors import BuildError, MissingSoftwareError

_PLACES = ("cuda_nvrtc/lib", "cu13/lib")
"""Where the wheels of CUDA 12 and 13 install the library, below the namespace package ``nvidia``; the first usable one is taken:
cubins of CUDA 12 load with drivers from 525 on, those of CUDA 13 from 580 on."""
LEAST_VERSION = (12, 9)
"""12.4 to 12.8 serialize the kernels' wgmma (C7515), and 12.0 does not support all of its types."""
_LOG_LINES = 12
"""Number of lines of a compiler log shown in an error."""
_SUCCESS = 0


@dataclass(frozen=True, slots=True)
class Program:
    """One translation unit: its source and the headers it includes, by name; all in memory."""

    name: str
    source: str
    headers: Mapping[str, str]


class Nvrtc:
    """A loaded NVRTC."""

    def __init__(self, path: str) -> None:
        """Load the library at ``path``. Raises MissingSoftwareError if it is not usable."""
        try:
            _load_builtins(path)
            self._library = ctypes.CDLL(path)
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            major, minor = ctypes.c_int(), ctypes.c_int()
            self._check("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        except (OSError, AttributeError) as error:
            raise MissingSoftwareError(
                f"NVRTC at {path} cannot be loaded ({error}); reinstall it: {pip_line('hopper')}"
            ) from error
        self.version = (major.value, minor.value)
        self._path = path

    @cached_property
    def identity(self) -> str:
        """Distinguishes builds of the library, whose version has no third number. Raises MissingSoftwareError."""
        try:
            return sha256_of_file(self._path)
        except OSError as error:
            raise MissingSoftwareError(
                f"NVRTC at {self._path} cannot be read: {error.strerror}; {pip_line('hopper')}"
            ) from error

    def compile(self, program: Program, options: Sequence[str]) -> tuple[bytes, str]:
        """The cubin of a program and the compiler's log. Raises BuildError with the log, shortened."""
        handle = ctypes.c_void_p()
        names, texts = _strings(list(program.headers)), _strings(list(program.headers.values()))
        self._check(
            "nvrtcCreateProgram",
            ctypes.byref(handle),
            program.source.encode(),
            program.name.encode(),
            ctypes.c_int(len(program.headers)),
            texts,
            names,
        )
        try:
            status = self._library.nvrtcCompileProgram(handle, ctypes.c_int(len(options)), _strings(options))
            log = self._read(handle, "nvrtcGetProgramLog").rstrip(b"\0").decode(errors="replace")
            if status != _SUCCESS:
                reason = shortened(log) or self._reason(status)
                raise BuildError(f"NVRTC {self._words()} could not compile {program.name}: {reason}")
            return self._read(handle, "nvrtcGetCUBIN"), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(handle))

    def _read(self, handle: ctypes.c_void_p, getter: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(f"{getter}Size", handle, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getter, handle, buffer)
        return buffer.raw

    def _check(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != _SUCCESS:
            raise BuildError(f"NVRTC's {function} failed: {self._reason(status)}")

    def _reason(self, status: int) -> str:
        text: bytes = self._library.nvrtcGetErrorString(ctypes.c_int(status))
        return text.decode(errors="replace")

    def _words(self) -> str:
        return "{}.{}".format(*self.version)


def find_nvrtc() -> list[str]:
    """The paths of the NVRTC libraries installed by pip, the preferred one first."""
    namespace = importlib.util.find_spec("nvidia")
    folders = list(namespace.submodule_search_locations or ()) if namespace is not None else []
    found = [sorted(glob(os.path.join(folder, place, "libnvrtc.so.*"))) for place in _PLACES for folder in folders]
    return [path for paths in found for path in paths]


@lru_cache(maxsize=1)
def open_nvrtc() -> Nvrtc:
    """The installed NVRTC. Raises MissingSoftwareError."""
    return usable_nvrtc(find_nvrtc())


def usable_nvrtc(paths: Sequence[str], load: Callable[[str], Nvrtc] = Nvrtc) -> Nvrtc:
    """The first of the libraries at ``paths`` that is new enough. Raises MissingSoftwareError."""
    for path in paths:
        library = load(path)
        if library.version >= LEAST_VERSION:
            return library
    found = f"only older versions: {', '.join(paths)}" if paths else "none"
    raise MissingSoftwareError(
        f"NVRTC {'.'.join(map(str, LEAST_VERSION))} or newer, which compiles the kernels, is not installed "
        f"(found: {found}); {pip_line('hopper')}"
    )


def _load_builtins(path: str) -> None:
    """Load NVRTC's second library first: CUDA 13.0's NVRTC does not search its own folder (it has no RPATH)."""
    for builtins in glob(os.path.join(os.path.dirname(path), "libnvrtc-builtins.so.*")):
        ctypes.CDLL(builtins)


def shortened(log: str) -> str:
    """A compiler log condensed into one sentence: its errors, or its first lines."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines
    more = len(errors) - _LOG_LINES
    return "; ".join(errors[:_LOG_LINES]) + (f"; and {more} lines more" if more > 0 else "")


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
