"""Kernels of a plan -> cubins for compute capability 9.0, on any CPU; compiled kernels are cached by content.

A kernel is a source file in ``kernels/`` with constants for its macros. The headers beside it (``*.cuh``) and the generated
``wgmma.cuh`` are passed in memory. The assembler's report (registers, spills, serialized wgmma) is kept with the cubin.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cmx4trt.backends.hopper import wgmma
from cmx4trt.backends.hopper.cubin import elf_abi
from cmx4trt.backends.hopper.nvrtc import Nvrtc, Program, open_nvrtc
from cmx4trt.base.files import make_folder, open_file, write_atomic
from cmx4trt.base.install import pip_line
from cmx4trt.errors import BuildError, OutputError

if TYPE_CHECKING:
    from cmx4trt.backends.hopper.plan import Kernel

KERNELS = os.path.join(os.path.dirname(__file__), "kernels")
"""The folder of the kernels' sources."""
OPTIONS = (
    "--gpu-architecture=sm_90a",
    "--std=c++17",
    "--fmad=false",  # the specification defines which multiply-adds are fused: the sources do so explicitly
    "-default-device",
    "--ptxas-options=-v",
)
CACHE_SETTING = "XDG_CACHE_HOME"
_SERIALIZED = re.compile(r"C75(?:0[89]|1\d|20)\b")
"""ptxas's advisories C7508 to C7520: wgmma is serialized, or setmaxnreg ignored; correct, but slow."""
_FIGURES = {
    "registers": re.compile(r"Used (\d+) registers"),
    "static_shared": re.compile(r"(\d+) bytes smem"),
    "stack": re.compile(r"(\d+) bytes stack frame"),
    "spill_stores": re.compile(r"(\d+) bytes spill stores"),
    "spill_loads": re.compile(r"(\d+) bytes spill loads"),
}


@dataclass(frozen=True, slots=True)
class Resources:
    """A kernel's resources according to the assembler: registers per thread, and bytes."""

    registers: int
    static_shared: int
    stack: int
    spill_stores: int
    spill_loads: int

    @property
    def spills(self) -> bool:
        """Whether the kernel uses local memory."""
        return bool(self.stack or self.spill_stores or self.spill_loads)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled kernel; ``warnings`` are the assembler's about serialized wgmma."""

    cubin: bytes
    resources: Resources
    warnings: tuple[str, ...]


class KernelCache:
    """Compiled kernels of earlier builds by content; if the folder is not writable, nothing is cached."""

    def __init__(self, folder: str | None = None) -> None:
        base = os.environ.get(CACHE_SETTING) or os.path.expanduser("~/.cache")
        self.folder = folder or os.path.join(base, "cmx4trt", "kernels")

    def find(self, key: str) -> Compiled | None:
        """The kernel with this key; a missing or damaged file is a miss."""
        try:
            with open_file(self._path(key)) as stream:
                head, _, cubin = stream.readall().partition(b"\n")
            facts = json.loads(head)
            if facts["sha256"] != hashlib.sha256(cubin).hexdigest():
                return None
            return Compiled(cubin, Resources(**facts["resources"]), tuple(facts["warnings"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, key: str, compiled: Compiled) -> None:
        """Store a kernel, if the folder allows it."""
        facts = {
            "sha256": hashlib.sha256(compiled.cubin).hexdigest(),
            "resources": asdict(compiled.resources),
            "warnings": compiled.warnings,
        }
        try:
            make_folder(self.folder, CACHE_SETTING)
            write_atomic(self._path(key), json.dumps(facts).encode() + b"\n" + compiled.cubin, CACHE_SETTING)
        except OutputError:
            return  # the next build will compile it again

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, f"{key}.kernel")


class Compiler:
    """Compiles kernels whose sources are in one folder."""

    def __init__(self, library: Nvrtc | None = None, cache: KernelCache | None = None, folder: str = KERNELS) -> None:
        """With the installed NVRTC unless another is given. Raises MissingSoftwareError."""
        self._library = library or open_nvrtc()
        self._cache = cache or KernelCache()
        self._folder = folder
        self._headers = {**_headers_of(folder), "wgmma.cuh": wgmma.header()}

    @property
    def version(self) -> str:
        """Name and version of the compiler, as in engines."""
        return "NVRTC {}.{}".format(*self._library.version)

    def compile_all(
        self, kernels: Iterable[Kernel], stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, Compiled]:
        """All kernels by name, on all available cores; starts no further one after ``stopped()`` is true.

        Raises BuildError with the log of the first that fails, or when stopped.
        """

        def compile_unless_stopped(kernel: Kernel) -> Compiled:
            if stopped():
                raise BuildError("kernel compilation was stopped")
            return self.compile(kernel)

        wanted = {kernel.name: kernel for kernel in kernels}
        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
            try:
                return dict(zip(wanted, pool.map(compile_unless_stopped, wanted.values()), strict=True))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def compile(self, kernel: Kernel) -> Compiled:
        """One kernel, from the cache if it is there. Raises BuildError with the compiler's log, shortened."""
        program = Program(f"{kernel.name} ({kernel.source})", self._source(kernel.source), self._headers)
        options = (*OPTIONS, f"-DKERNEL_NAME={kernel.name}", *_definitions(kernel.constants))
        key = self._key(program, options)
        if (known := self._cache.find(key)) is not None:
            return known
        cubin, log = self._library.compile(program, options)
        compiled = Compiled(cubin, parse_resources(log), parse_warnings(log))
        if elf_abi(cubin) is None:
            raise BuildError(
                f"{self.version} writes kernels in a format that this release does not support; "
                f"{pip_line('hopper')} installs a supported version"
            )
        self._cache.keep(key, compiled)
        return compiled

    def _source(self, name: str) -> str:
        try:
            with open(os.path.join(self._folder, name), encoding="utf-8") as stream:
                return stream.read()
        except OSError as error:
            raise BuildError(f"cannot read the kernel source {name}: {error.strerror}; reinstall cmx4trt") from error

    def _key(self, program: Program, options: Sequence[str]) -> str:
        content = [program.source, program.headers, options, self._library.identity]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_resources(log: str) -> Resources:
    """The figures in ptxas's report (--ptxas-options=-v); the largest if it reports several functions."""
    return Resources(**{name: max(map(int, pattern.findall(log)), default=0) for name, pattern in _FIGURES.items()})


def parse_warnings(log: str) -> tuple[str, ...]:
    """The lines in which ptxas reports that wgmma is serialized or registers are not redistributed, without duplicates."""
    return tuple(dict.fromkeys(line.strip() for line in log.splitlines() if _SERIALIZED.search(line)))


def _definitions(constants: Mapping[str, int]) -> list[str]:
    return [f"-D{name}={value}" for name, value in sorted(constants.items())]


def _headers_of(folder: str) -> dict[str, str]:
    headers = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".cuh"):
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                headers[name] = stream.read()
    return headers
