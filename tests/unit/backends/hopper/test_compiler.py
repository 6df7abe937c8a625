"""Kernels are compiled for compute capability 9.0 with NVRTC, without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.backends.hopper import nvrtc
from cmx4trt.backends.hopper.compiler import Compiler, KernelCache, parse_resources, parse_warnings
from cmx4trt.backends.hopper.cubin import LEAST, elf_abi
from cmx4trt.backends.hopper.nvrtc import Nvrtc, Program, find_nvrtc, open_nvrtc, shortened, usable_nvrtc
from cmx4trt.backends.hopper.plan import Kernel
from cmx4trt.errors import BuildError, MissingSoftwareError

SOURCES = Path(__file__).parents[3] / "data" / "hopper_kernels"


class CountingNvrtc(Nvrtc):
    """The installed NVRTC, which counts what it compiles."""

    def __init__(self) -> None:
        super().__init__(find_nvrtc()[0])
        self.compiled: list[str] = []

    def compile(self, program: Program, options: Sequence[str]) -> tuple[bytes, str]:
        self.compiled.append(program.name)
        return super().compile(program, options)


def kernel(source: str = "add.cu", addend: int = 1, name: str = "add_one") -> Kernel:
    return Kernel(name, source, {"ADDEND": addend}, threads=128, shared_bytes=0)


@pytest.fixture
def cache(tmp_path: Path) -> KernelCache:
    return KernelCache(str(tmp_path / "kernels"))


def compiler(cache: KernelCache, library: Nvrtc | None = None) -> Compiler:
    return Compiler(library or open_nvrtc(), cache, str(SOURCES))


def test_a_kernel_with_a_tensor_map_becomes_a_cubin(cache: KernelCache) -> None:
    compiled = compiler(cache).compile(kernel())
    assert compiled.cubin[:4] == b"\x7fELF"
    assert b"add_one\0" in compiled.cubin, "the symbol is the instance's name"
    assert compiled.resources.registers > 0
    assert compiled.resources.static_shared >= 1024 + 8
    assert not compiled.resources.spills
    assert compiled.warnings == ()
    assert elf_abi(compiled.cubin) in LEAST


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (compiler(KernelCache(str(tmp_path / name))).compile(kernel()) for name in "ab")
    assert first == second


def test_spills_are_reported(cache: KernelCache) -> None:
    resources = compiler(cache).compile(kernel("spilling.cu")).resources
    assert resources.spills
    assert resources.stack > 0


def test_what_does_not_compile_is_one_sentence_with_the_compilers_reason(cache: KernelCache) -> None:
    with pytest.raises(
        BuildError, match=r'could not compile add_one \(broken.cu\): .*"not_declared" is undefined'
    ) as caught:
        compiler(cache).compile_all([kernel(), kernel("broken.cu"), kernel(addend=3, name="add_three")])
    assert "\n" not in str(caught.value)


def test_a_missing_source_is_one_sentence(cache: KernelCache) -> None:
    with pytest.raises(BuildError, match=r"cannot read the kernel source nothing\.cu: No such file"):
        compiler(cache).compile(kernel("nothing.cu"))


def test_compiled_kernels_are_reused_by_content(cache: KernelCache) -> None:
    library = CountingNvrtc()
    kernels = [kernel(), kernel(addend=2, name="add_two")]
    first = compiler(cache, library).compile_all(kernels)
    assert list(first) == ["add_one", "add_two"]
    assert compiler(cache, library).compile_all(kernels) == first
    assert len(library.compiled) == 2
    compiler(cache, library).compile(kernel(addend=5))
    assert len(library.compiled) == 3, "another constant is another kernel"


def test_a_changed_header_is_another_kernel(cache: KernelCache, tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("add.cu", "types.cuh"):
        (folder / name).write_text((SOURCES / name).read_text())
    library = CountingNvrtc()
    Compiler(library, cache, str(folder)).compile(kernel())
    with (folder / "types.cuh").open("a") as stream:
        stream.write("// changed\n")
    Compiler(library, cache, str(folder)).compile(kernel())
    assert len(library.compiled) == 2


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"[]\n" + data, lambda data: data[:300]]
)
def test_a_damaged_cache_file_is_compiled_again(cache: KernelCache, damage: object) -> None:
    library = CountingNvrtc()
    first = compiler(cache, library).compile(kernel())
    (file,) = Path(cache.folder).iterdir()
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    assert compiler(cache, library).compile(kernel()) == first
    assert len(library.compiled) == 2


def test_a_cache_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = KernelCache(str(tmp_path / "file" / "kernels"))
    assert compiler(blocked).compile(kernel()).cubin


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert KernelCache().folder == "/somewhere/cmx4trt/kernels"


def test_a_stopped_build_compiles_nothing_more(cache: KernelCache) -> None:
    library = CountingNvrtc()
    with pytest.raises(BuildError, match="stopped"):
        compiler(cache, library).compile_all([kernel()], stopped=lambda: True)
    assert library.compiled == []


@pytest.fixture
def fresh() -> Iterator[None]:
    open_nvrtc.cache_clear()
    yield
    open_nvrtc.cache_clear()


def test_without_nvrtc_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingSoftwareError, match=r"\(found: none\); pip install .*\[hopper\]'"):
        open_nvrtc()


def test_versions_that_serialise_wgmma_are_passed_over() -> None:
    class Versioned:
        def __init__(self, path: str) -> None:
            self.version = (12, 8) if "12" in path else (13, 5)

    load: Any = Versioned
    assert usable_nvrtc(["libnvrtc.so.12", "libnvrtc.so.13"], load).version == (13, 5)
    with pytest.raises(
        MissingSoftwareError, match=r"NVRTC 12\.9 or newer, .* \(found: only older versions: libnvrtc\.so\.12"
    ):
        usable_nvrtc(["libnvrtc.so.12"], load)


def test_another_build_of_the_same_version_compiles_anew(cache: KernelCache) -> None:
    """NVRTC tells 12.9 of 12.9.41 and 12.9.86."""
    first, second = CountingNvrtc(), CountingNvrtc()
    compiler(cache, first).compile(kernel())
    second.identity = "another build"
    compiler(cache, second).compile(kernel())
    assert len(second.compiled) == 1


def test_an_unusable_library_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "libnvrtc.so.12"
    file.write_bytes(b"not a library")
    with pytest.raises(MissingSoftwareError, match=r"cannot be loaded .*; reinstall it: pip install"):
        Nvrtc(str(file))


def test_the_library_of_cuda_12_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("cu13/lib/libnvrtc.so.13", "cuda_nvrtc/lib/libnvrtc.so.12", "cuda_nvrtc/lib/libnvrtc.alt.so.12"):
        file = tmp_path / "nvidia" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for name in [name for name in sys.modules if name.split(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    folder = tmp_path / "nvidia"
    assert find_nvrtc() == [str(folder / "cuda_nvrtc/lib/libnvrtc.so.12"), str(folder / "cu13/lib/libnvrtc.so.13")]


def test_the_assemblers_report_is_read() -> None:
    log = """ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ... in 'k'
ptxas info    : Function properties for k
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 168 registers, used 3 barriers, 1032 bytes smem
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ... in 'k'"""
    resources = parse_resources(log)
    assert (resources.registers, resources.static_shared) == (168, 1032)
    assert (resources.stack, resources.spill_stores, resources.spill_loads) == (16, 8, 12)
    assert len(parse_warnings(log)) == 1


def test_a_long_log_is_shortened() -> None:
    log = "\n".join(["note: nothing", *(f"k.cu({i}): error: wrong" for i in range(20))])
    assert shortened(log).startswith("k.cu(0): error: wrong; ")
    assert shortened(log).endswith("; and 8 lines more")
    assert shortened("first\n\nsecond\n") == "first; second"


def test_importing_the_compiler_loads_no_library() -> None:
    code = "import sys, cmx4trt.backends.hopper.compiler; print('numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
    assert nvrtc.open_nvrtc.cache_info().misses <= 1


def test_a_pipe_in_the_cache_is_a_miss(cache: KernelCache) -> None:
    os.makedirs(cache.folder)
    os.mkfifo(cache._path("key"))
    assert cache.find("key") is None
