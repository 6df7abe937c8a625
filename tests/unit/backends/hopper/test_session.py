"""The session on a stand-in of the GPU: batches, graphs, what is held and given back, and what is refused."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.session import HopperSession, device_bytes
from cmx4trt.backends.hopper.slot import GRAPHS
from cmx4trt.backends.hopper.stream import DEPTH
from cmx4trt.errors import DeviceError


def images(batch: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-128, 128, (batch, 8, 8), dtype=np.int8)


def check(small: ModuleType, data: Any, outputs: Any) -> None:
    sums, best = small.expected(data)
    np.testing.assert_array_equal(outputs["sum"], sums)
    np.testing.assert_array_equal(outputs["best"], best)
    assert (outputs["sum"].dtype, outputs["best"].dtype) == (np.float32, np.int32)


@pytest.fixture
def session(small: ModuleType, gpu: Any) -> Any:
    opened = HopperSession(small.engine(copy_streams=2), gpu)
    yield opened
    opened.close()
    assert gpu.held() == {}


def test_it_says_what_it_takes(session: HopperSession) -> None:
    assert (session.inputs, session.outputs) == (("data",), ("sum", "best"))
    assert (session.min_batch, session.max_batch) == (1, 6)
    assert session.input_shape("data") == ("N", 8, 8)
    assert session.input_dtype("data") == "int8"
    assert "NVIDIA H100 80GB HBM3" in session.device
    assert len(session.streams()) == 2


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 6])
def test_every_batch_size_gives_what_the_kernels_compute(session: HopperSession, small: ModuleType, batch: int) -> None:
    for seed in range(3):
        data = images(batch, seed)
        check(small, data, session.run({"data": data}))


def test_two_batches_are_in_flight_and_come_back_in_order(session: HopperSession, small: ModuleType) -> None:
    (stream, _) = session.streams()
    batches = [images(1 + seed % 6, seed) for seed in range(7)]
    stream.submit({"data": batches[0]})
    for current, following in pairwise(batches):
        stream.submit({"data": following})
        check(small, current, stream.wait())
    check(small, batches[-1], stream.wait())


def test_a_result_stays_until_depth_further_batches(session: HopperSession, small: ModuleType) -> None:
    (stream, _) = session.streams()
    first = images(4)
    stream.submit({"data": first})
    outputs = stream.wait()
    for seed in range(1, DEPTH):
        stream.submit({"data": images(4, seed)})
        stream.wait()
    check(small, first, outputs)


def test_too_many_submissions_and_waits_are_refused(session: HopperSession) -> None:
    (stream, _) = session.streams()
    with pytest.raises(DeviceError, match="no batch is pending"):
        stream.wait()
    for _ in range(DEPTH):
        stream.submit({"data": images(1)})
    with pytest.raises(DeviceError, match="2 batches are already pending on this stream"):
        stream.submit({"data": images(1)})


def test_streams_do_not_disturb_each_other(session: HopperSession, small: ModuleType) -> None:
    first, second = session.streams()
    one, two = images(6, 1), images(6, 2)
    first.submit({"data": one})
    second.submit({"data": two})
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append({k: v.copy() for k, v in second.wait().items()}))
    thread.start()
    thread.join()
    check(small, two, results[0])
    check(small, one, first.wait())


def test_graphs_are_recorded_once_for_a_batch_size_and_bounded(small: ModuleType, gpu: Any) -> None:
    session = HopperSession(small.engine(max_batch=GRAPHS + 12), gpu)
    for _ in range(2 * DEPTH):
        session.run({"data": images(5)})
    assert gpu.graphs_recorded == DEPTH
    for batch in range(1, GRAPHS + 13):
        for _ in range(DEPTH):
            session.run({"data": images(batch)})
    assert gpu.held()["graphs"] == DEPTH * GRAPHS
    session.close()
    assert gpu.held() == {}


def test_page_locked_arrays_are_read_where_they_lie(session: HopperSession, small: ModuleType, gpu: Any) -> None:
    data = session.allocate((3, 8, 8), "int8")
    data[...] = images(3)
    assert gpu.is_pinned(data)
    before = gpu.held()["pinned"]
    check(small, data, session.run({"data": data}))
    assert gpu.held()["pinned"] == before, "no staging buffer was needed"
    session.run({"data": images(3)})
    assert gpu.held()["pinned"] == before + 1
    strided = session.allocate((6, 8, 8), "int8")
    strided[...] = images(6)
    check(small, strided[::2], session.run({"data": strided[::2]}))


class OnDevice:
    """An array that says of itself that it lies in device memory."""

    def __init__(self, gpu: Any, data: Any, stream: int | None = None, strides: Any = None, version: int = 3) -> None:
        with gpu.active("test"):
            self.address = gpu.allocate(data.nbytes)
        gpu.view(self.address, data.nbytes)[:] = data.reshape(-1).view(np.uint8)
        self.__cuda_array_interface__ = {
            "shape": data.shape,
            "typestr": data.dtype.str,
            "data": (self.address, False),
            "strides": strides,
            "version": version,
            "stream": stream,
        }


def test_arrays_on_the_device_are_taken_as_they_are(session: HopperSession, small: ModuleType, gpu: Any) -> None:
    data = images(4)
    feed = OnDevice(gpu, data)
    check(small, data, session.run({"data": feed}))
    with gpu.active("test"):
        stream = gpu.new_stream()
        late = OnDevice(gpu, data, stream)
        gpu.fill(late.address, 7, data.nbytes, stream)
    check(small, np.full_like(data, 7), session.run({"data": late}))
    contiguous = OnDevice(gpu, data, strides=(64, 8, 1))
    check(small, data, session.run({"data": contiguous}))
    with pytest.raises(DeviceError, match=r"a device array \[4, 8, 8\] is not contiguous"):
        session.run({"data": OnDevice(gpu, data, strides=(64, 1, 8))})
    with pytest.raises(DeviceError, match=r"input data is uint8 \[4, 8, 8\], expected int8"):
        session.run({"data": OnDevice(gpu, data.view(np.uint8))})
    with gpu.active("test"):
        gpu.free_stream(stream)
        for address in [address for address, block in gpu._memory.items() if block.nbytes == data.nbytes]:
            gpu.free(address)


@pytest.mark.parametrize(
    ("feeds", "sentence"),
    [
        ({}, "input data is missing; the engine takes data"),
        ({"data": np.zeros((2, 8, 8), np.float32)}, r"input data is float32 \[2, 8, 8\], expected int8 \['N', 8, 8\]"),
        ({"data": np.zeros((2, 64), np.int8)}, r"input data is int8 \[2, 64\], expected int8"),
        ({"data": np.zeros((0, 8, 8), np.int8)}, "expected a batch of 1 to 6 samples"),
        ({"data": np.zeros((7, 8, 8), np.int8)}, "expected a batch of 1 to 6 samples"),
        ({"data": np.int8(1)}, "input data is int8"),
    ],
)
def test_feeds_that_do_not_fit_are_one_sentence(session: HopperSession, feeds: Any, sentence: str) -> None:
    with pytest.raises(DeviceError, match=sentence):
        session.run(feeds)


@pytest.mark.parametrize("batch", [1, 3, 6])
def test_buffers_between_operations_can_be_read(session: HopperSession, small: ModuleType, batch: int) -> None:
    data = images(batch)
    session.poison(0xAA)
    assert session.place({"data": data}) == batch
    content = session.read_buffer("sums", batch)
    np.testing.assert_array_equal(content, data.reshape(batch, 64).view(np.uint8) + np.uint8(3))
    check(small, data, session.run({"data": data}))


def test_launches_are_timed_one_by_one_and_replays_as_a_whole(session: HopperSession, gpu: Any) -> None:
    batch = session.place({"data": images(4)})
    assert session.launch_times(batch, repeat=4) == [("addition", 0.25), ("sum + best", 0.25)]
    gpu.launched.clear()
    assert session.run_resident(batch, times=5) == 1.0
    assert gpu.launched == ["add", "reduce"] * 5


def test_nothing_is_left_after_a_thousand_cycles(small: ModuleType, gpu: Any) -> None:
    free = gpu.free_bytes
    engine = small.engine()
    for cycle in range(1000):
        session = HopperSession(engine, gpu)
        if cycle % 10 == 0:
            session.allocate((1, 8, 8), "int8")
            session.run({"data": images(2)})
            session.streams()[0].submit({"data": images(3)})
        session.close()
        assert gpu.held() == {}, cycle
    assert gpu.free_bytes == free


def test_the_memory_needed_is_known_before_anything_is_allocated(small: ModuleType, gpu: Any) -> None:
    engine = small.engine(copy_streams=2)
    gpu.free_bytes = device_bytes(engine)
    HopperSession(engine, gpu).close()
    gpu.free_bytes = device_bytes(engine) - 1
    with pytest.raises(
        DeviceError, match=r"this engine needs 1 MiB, and NVIDIA H100 80GB HBM3 has 0 MiB free of its 81920 MiB"
    ):
        HopperSession(engine, gpu)
    assert gpu.held() == {}


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (10, 0), (12, 0), (9, 1)])
def test_another_gpu_is_refused(small: ModuleType, gpu: Any, capability: tuple[int, int]) -> None:
    gpu.facts = replace(gpu.facts, name="NVIDIA A100", capability=capability)
    version = "{}\\.{}".format(*capability)
    with pytest.raises(
        DeviceError, match=rf"NVIDIA A100 has compute capability {version}, and this engine runs on 9\.0 only"
    ):
        HopperSession(small.engine(), gpu)
    assert gpu.held() == {}


def test_an_old_driver_is_refused_with_the_one_that_is_needed(small: ModuleType, gpu: Any) -> None:
    engine: Engine = small.engine()
    gpu.facts = replace(gpu.facts, cuda=11080, driver="520.61.05")
    with pytest.raises(
        DeviceError, match=r"the driver 520\.61\.05 of .* supports CUDA 11\.8, .* needs 12\.0; install driver 525"
    ):
        HopperSession(engine, gpu)
    newer = bytearray(small.CUBIN)
    newer[8] = 8
    gpu.facts = replace(gpu.facts, cuda=12090, driver="")
    with pytest.raises(DeviceError, match=r"the driver of .* supports CUDA 12\.9, .* needs 13\.0; install driver 580"):
        HopperSession(replace(engine, cubins={**engine.cubins, "add": bytes(newer)}), gpu)


STEPS = ("load", "function", "allocate", "pinned", "new_stream", "new_event", "upload", "fill", "synchronize")


@pytest.mark.parametrize("step", STEPS)
def test_loading_that_fails_holds_nothing(small: ModuleType, gpu: Any, step: str) -> None:
    gpu.fail[step] = "CUDA_ERROR_OUT_OF_MEMORY"
    with pytest.raises(DeviceError, match="could not load the engine on NVIDIA H100 80GB HBM3: it is out of memory"):
        HopperSession(small.engine(), gpu)
    gpu.fail.clear()
    assert gpu.held() == {}


def test_loading_that_fails_half_way_holds_nothing(small: ModuleType, gpu: Any) -> None:
    for count in range(1, 40):
        before = gpu._called
        calls = iter(range(count))

        def failing(method: str, before: Any = before, calls: Any = calls) -> None:
            before(method)
            if not method.startswith("free") and method != "unload" and next(calls, None) is None:
                gpu.fail["synchronize"] = "CUDA_ERROR_UNKNOWN"
                raise gpu_failure(method)

        gpu._called = failing
        with suppress(DeviceError):
            HopperSession(small.engine(), gpu).close()
        gpu._called = before
        gpu.fail.clear()
        assert gpu.held() == {}, count


def gpu_failure(method: str) -> Exception:
    from cmx4trt.devices.cuda_errors import CudaFailure

    return CudaFailure(method, "CUDA_ERROR_OUT_OF_MEMORY")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("CUDA_ERROR_NO_DEVICE", "the GPU is no longer accessible .* reset the GPU or restart the machine"),
        ("CUDA_ERROR_ECC_UNCORRECTABLE", "its memory has an uncorrectable error"),
        ("CUDA_ERROR_LAUNCH_FAILED", "a kernel failed .* restart the process"),
        (
            "CUDA_ERROR_SOMETHING_NEW",
            "could not wait for a batch on .*: synchronize_event reports CUDA_ERROR_SOMETHING_NEW",
        ),
    ],
)
def test_a_gpu_that_is_lost_in_mid_run_is_one_sentence(small: ModuleType, gpu: Any, status: str, sentence: str) -> None:
    session = HopperSession(small.engine(), gpu)
    session.streams()[0].submit({"data": images(2)})
    gpu.fail["synchronize_event"] = status
    with pytest.raises(DeviceError, match=sentence) as caught:
        session.streams()[0].wait()
    assert "\n" not in str(caught.value)
    for method in ("synchronize", "free", "free_pinned", "free_stream", "free_event", "free_graph", "unload"):
        gpu.fail[method] = status
    session.close()
