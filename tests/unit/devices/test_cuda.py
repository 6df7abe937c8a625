"""The CUDA driver through the real cuda-bindings, over a stand-in of libcuda that a C compiler makes of tests/data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cmx4trt.devices.cuda import open_cuda
from cmx4trt.errors import MissingSoftwareError

SOURCE = Path(__file__).parents[2] / "data" / "stub_libcuda.c"

pytest.importorskip("cuda.bindings.driver")


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    folder = tmp_path_factory.mktemp("libcuda")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(folder / "libcuda.so.1"), str(SOURCE)]
    subprocess.run(command, check=True)
    return folder


def run(libcuda: Path, code: str, **variables: str) -> list[str]:
    """The lines that ``code`` prints with an opened ``device``; its DeviceError is one of them."""
    program = f"""
import ctypes
from cmx4trt.devices.base import *
from cmx4trt.devices.cuda import open_cuda
from cmx4trt.errors import DeviceError
try:
    device = open_cuda()
{"".join(f"    {line}{chr(10)}" for line in code.strip().splitlines())}
except DeviceError as error:
    print(error)
"""
    inherited = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment = {**inherited, **variables, "LD_LIBRARY_PATH": str(libcuda)}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


VERSIONS = ["12000", "12020", "12080", "13000", "13050"]


@pytest.mark.parametrize("cuda", VERSIONS)
def test_the_facts_of_the_gpu(libcuda: Path, cuda: str) -> None:
    code = (
        "f = device.facts\nprint(f.name, f.capability, f.multiprocessors, f.memory_bytes >> 30, f.cuda, f.pci_bus_id)"
    )
    assert run(libcuda, code, STUB_CUDA=cuda) == [f"Stub H100 (9, 0) 132 80 {cuda} 0000:1b:00.0"]


ALL = """
import numpy as np
with device.active("try everything"):
    print("free", device.free_memory() >> 30)
    stream, memory, other = device.new_stream(), device.allocate(4096), device.allocate(4096)
    host, back = device.pinned(4096), device.pinned(4096)
    host[:] = np.arange(4096) % 251
    device.upload(memory, host, stream)
    device.copy(other, memory, 4096, stream)
    device.fill(other, 7, 16, stream)
    device.download(back, other, stream)
    device.synchronize(stream)
    print("copied", bool((back[:16] == 7).all() and (back[16:] == host[16:]).all()))
    print("pinned", device.is_pinned(host[16:32]), device.is_pinned(host[::2]), device.is_pinned(np.zeros(3)))
    first, last, event = device.new_event(timing=True), device.new_event(timing=True), device.new_event()
    device.record(first, stream)
    device.record(last, stream)
    device.wait_event(stream, event)
    device.synchronize_event(last)
    print("elapsed", device.elapsed_ms(first, last))
    module = device.load(memoryview(b"\\x7fELF" + bytes(60)))
    function = device.function(module, "show", 2048)
    tiles = device.encode_tiles(Tiles(memory, (64, 7, 5), (128, 896), (64, 2, 1), 64))
    windows = device.encode_windows(Windows(memory, (64, 14, 12, 3), (-1, -1), (-1, -1), 2, 64, 128, 128))
    for encoded in (tiles, windows):
        values = (encoded, Pointer(other), -5, 0.25)
        configuration = LaunchConfiguration(function, 33, 128, 2048, values, "show", early=encoded is windows)
        device.launch(configuration, stream)
        device.download(back, other, stream)
        numbers = back[:156].view(np.int32)
        print("map", bool(numbers[2] == np.int64(memory).astype(np.int32)), *numbers[:2], *numbers[3:32])
        print("launch", numbers[32], numbers[33:34].view(np.float32)[0], *numbers[34:39])
    graph = device.capture(lambda: device.launch(configuration, stream), stream)
    device.launch_graph(graph, stream)
    device.free_graph(graph)
    device.unload(module)
    for one in (first, last, event):
        device.free_event(one)
    device.free_pinned(host)
    device.free_pinned(back)
    device.free(memory)
    device.free_stream(stream)
print(device._pinned)
"""


@pytest.mark.parametrize("cuda", VERSIONS)
def test_everything_reaches_the_driver_as_it_wants_it(libcuda: Path, cuda: str) -> None:
    lines = run(libcuda, ALL, STUB_CUDA=cuda)
    elapsed = lines[3].split()[1]
    assert elapsed in ({"1.5", "2.5"} if int(cuda) >= 12080 else {"1.5"}), "the function that this driver has"
    assert lines == [
        "free 70",
        "copied True",
        "pinned True False False",
        f"elapsed {elapsed}",
        # data type, rank, interleave, swizzle, promotion, fill, -; extents, strides, box, element strides
        "map True 0 3 0 2 3 0 0 64 7 5 0 0 0 128 896 0 0 0 0 64 2 1 0 0 0 1 1 1 0 0 0",
        "launch -5 0.25 1 33 128 2048 0",
        # … lower corner, upper corner, channels and pixels of a column; element strides
        "map True 0 4 0 3 3 0 0 64 14 12 3 0 0 64 896 10752 0 0 0 -1 -1 -1 -1 64 128 1 2 2 1 0 0",
        "launch -5 0.25 1 33 128 2048 1",
        "{}",
    ]


ROWS = """
import numpy as np
from cmx4trt.sessions.samples import SampleRows
with device.active("fetch"):
    stream, memory = device.new_stream(), device.allocate(4096)
    samples, back = device.pinned(50 * 32).reshape(50, 32), device.pinned(8 * 32)
    samples[...] = np.arange(50)[:, None]
    for rows in ([3, 4, 5, 0, 49, 48, 48, 7], [9, 10, 11, 12, 13, 14, 15, 16]):
        device.upload_rows(memory, SampleRows(samples, np.array(rows)), stream)
        device.download(back, memory, stream)
        device.synchronize(stream)
        print(*back.reshape(8, 32)[:, 31])
"""


@pytest.mark.parametrize("cuda", VERSIONS)
def test_rows_are_copied_by_one_call_where_the_driver_can(libcuda: Path, cuda: str) -> None:
    assert run(libcuda, ROWS, STUB_CUDA=cuda) == ["3 4 5 0 49 48 48 7", "9 10 11 12 13 14 15 16"]
    lines = run(libcuda, ROWS, STUB_CUDA=cuda, STUB_FAIL="cuMemcpyBatchAsync", STUB_STATUS="1")
    failed = ["could not fetch on Stub H100: cuMemcpyBatchAsync reports CUDA_ERROR_INVALID_VALUE"]
    assert lines == (failed if int(cuda) >= 12080 else ["3 4 5 0 49 48 48 7", "9 10 11 12 13 14 15 16"])


OPENED = """
for index in (0, 1, 1):
    f = open_cuda(index).facts
    print(f.title, f.index, f.visible, f.pci_bus_id)
print(open_cuda(1) is open_cuda(1))
"""


def test_gpus_are_opened_by_number(libcuda: Path) -> None:
    first, second = "GPU 0 (Stub H100) 0 2 0000:1b:00.0", "GPU 1 (Stub H100) 1 2 0000:5d:00.0"
    assert run(libcuda, OPENED, STUB_COUNT="2") == [first, second, second, "True"]
    (line,) = run(libcuda, "open_cuda(3)", STUB_COUNT="2")
    assert line.startswith("there is no GPU 3 here; the driver reports GPUs 0 to 1: give others with --gpus")


def test_page_locked_memory_of_one_gpu_is_that_of_all(libcuda: Path) -> None:
    code = "with device.active('x'):\n    array = device.pinned(64)\nprint(open_cuda(1).is_pinned(array[8:16]))"
    assert run(libcuda, code, STUB_COUNT="2") == ["True"]


@pytest.mark.parametrize(
    ("function", "status", "sentence"),
    [
        ("cuInit", "100", "there is no usable NVIDIA GPU (CUDA_ERROR_NO_DEVICE); _cpu builds without one"),
        ("cuInit", "999", "there is no usable NVIDIA GPU (CUDA_ERROR_UNKNOWN); _cpu builds without one"),
        (
            "cuDevicePrimaryCtxRetain",
            "2",
            "could not open the GPU: it is out of memory (cuDevicePrimaryCtxRetain reports CUDA_ERROR_OUT_OF_MEMORY); "
            "use a smaller batch or fewer copy streams, or stop other processes that use it",
        ),
        (
            "cuMemAlloc",
            "2",
            "could not try on Stub H100: it is out of memory (cuMemAlloc reports CUDA_ERROR_OUT_OF_MEMORY); "
            "use a smaller batch or fewer copy streams, or stop other processes that use it",
        ),
        ("cuMemAlloc", "1", "could not try on Stub H100: cuMemAlloc reports CUDA_ERROR_INVALID_VALUE"),
        (
            "cuMemAlloc",
            "214",
            "could not try on Stub H100: its memory has an uncorrectable error "
            "(cuMemAlloc reports CUDA_ERROR_ECC_UNCORRECTABLE); "
            "see the Xid messages in the kernel log (dmesg), then reset the GPU or restart the machine",
        ),
    ],
)
def test_errors_of_the_driver_are_one_sentence(libcuda: Path, function: str, status: str, sentence: str) -> None:
    code = "with device.active('try'):\n    device.allocate(1)"
    assert run(libcuda, code, STUB_FAIL=function, STUB_STATUS=status) == [sentence]


def test_no_gpu_and_hidden_gpus_are_one_sentence(libcuda: Path) -> None:
    sentence = (
        "there is no usable NVIDIA GPU with CUDA_VISIBLE_DEVICES='' (the driver reports none); _cpu builds without one"
    )
    assert run(libcuda, "", STUB_COUNT="0", CUDA_VISIBLE_DEVICES="") == [sentence]


def test_a_driver_that_lacks_a_function_is_too_old(libcuda: Path) -> None:
    code = "with device.active('try'):\n    device.encode_tiles(Tiles(0, (64, 7), (64,), (64, 2), 0))"
    (line,) = run(libcuda, code, STUB_CUDA="11080")
    assert ": the driver is too old (cu" in line
    assert line.endswith("; install driver 525 or newer")


def test_a_recording_that_fails_tells_its_own_reason(libcuda: Path) -> None:
    code = "def fail():\n    raise DeviceError('mine')\nwith device.active('try'):\n    device.capture(fail, device.new_stream())"
    assert run(libcuda, code) == ["mine"]


def test_a_machine_without_a_driver_is_one_sentence(tmp_path: Path) -> None:
    (line,) = run(tmp_path, "")
    assert line.startswith("there is no usable NVIDIA GPU (")
    assert line.endswith("; _cpu builds without one")


def test_without_the_bindings_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    open_cuda.cache_clear()
    with pytest.raises(MissingSoftwareError, match=r"cuda-bindings cannot be imported .* pip install .*\[hopper\]'"):
        open_cuda()
