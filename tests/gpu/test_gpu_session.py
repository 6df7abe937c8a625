"""The session's buffers, streams and CUDA graphs on a real GPU; a plain CUDA kernel stands in for the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends.tensorrt.session import TensorRTSession
from cmx4trt.devices.driver import Device

pytestmark = [
    pytest.mark.gpu,
    # Whatever nvcc has to say about the machine it runs on is not about our code.
    pytest.mark.filterwarnings("default:The CUDA compiler succeeded:UserWarning"),
]

SAMPLE = (3, 224, 224)
LARGEST = 32
GRAPH = """<ir_version: 9, opset_import: ["" : 19]>
g (float[N, 3, 224, 224] image) => (float[N, 3, 224, 224] scaled) { scaled = Identity(image) }"""
KERNEL = """
extern "C" __global__ void scale(const float* in, float* out, unsigned int count, int rounds) {
  unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float value = in[i];
  for (int r = 0; r < rounds; ++r) value = value * 1.000001f + 0.0f;  // takes time, so that a missing wait shows
  out[i] = in[i] * 2.0f + 1.0f + (value != value ? 1.0f : 0.0f);
}
"""
BLOCK = 256


@pytest.fixture(scope="module")
def kernel(device: Device) -> Any:
    from pycuda.compiler import SourceModule

    with device.active("compile a kernel"):
        module = SourceModule(KERNEL, no_extern_c=True)
        return module, module.get_function("scale")


@pytest.fixture
def open_session(device: Device, fake_tensorrt: Any, kernel: Any) -> Callable[..., TensorRTSession]:
    def open_(profiles: int = 1, cuda_graphs: bool = False, rounds: int = 2000) -> TensorRTSession:
        import onnx.parser

        shapes = [{"image": [[1, *SAMPLE], [LARGEST, *SAMPLE], [LARGEST, *SAMPLE]]}] * profiles
        header = fake_tensorrt.MAGIC + json.dumps(shapes).encode() + b"\n"
        data = header + onnx.parser.parse_model(GRAPH).SerializeToString()
        session = TensorRTSession(fake_tensorrt, data, device, cuda_graphs)
        streams = {s._stream.handle: s._stream for s in session.streams()}

        def execute(tensors: dict[str, tuple[int, tuple[int, ...]]], handle: int) -> None:
            (source, shape), (target, _) = tensors["image"], tensors["scaled"]
            count = int(np.prod(shape))
            grid = (-(-count // BLOCK), 1)
            arguments = (np.uint64(source), np.uint64(target), np.uint32(count), np.int32(rounds))
            kernel[1](*arguments, block=(BLOCK, 1, 1), grid=grid, stream=streams[handle])

        fake_tensorrt.behaviour.execute = execute
        return session

    return open_


def images(batch: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((batch, *SAMPLE), dtype=np.float32)


def expected(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array * np.float32(2) + np.float32(1)


def check(got: np.ndarray[Any, Any], array: np.ndarray[Any, Any]) -> None:
    # The GPU may fuse multiply and add: one rounding less.
    np.testing.assert_allclose(got, expected(array), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 5, LARGEST])
def test_run(open_session: Callable[..., TensorRTSession], batch: int) -> None:
    session = open_session()
    array = images(batch, batch)
    check(session.run({"image": array})["scaled"], array)
    session.close()


@pytest.mark.parametrize("pinned", [False, True])
def test_two_batches_in_flight(open_session: Callable[..., TensorRTSession], pinned: bool) -> None:
    session = open_session()
    arrays = []
    for seed in range(8):
        array = images(LARGEST, seed)
        if pinned:
            host = session.allocate(array.shape, "float32")
            host[...] = array
            array = host
        arrays.append(array)
    stream = session.streams()[0]
    for index, array in enumerate(arrays):
        stream.submit({"image": array})
        if index:
            check(stream.wait()["scaled"], arrays[index - 1])
    check(stream.wait()["scaled"], arrays[-1])
    session.close()


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_streams_in_threads(open_session: Callable[..., TensorRTSession], cuda_graphs: bool) -> None:
    session = open_session(profiles=4, cuda_graphs=cuda_graphs)
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            stream = session.streams()[index]
            for round_ in range(10):
                array = images(LARGEST if round_ % 5 else 3, 100 * index + round_)
                stream.submit({"image": array})
                check(stream.wait()["scaled"], array)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    session.close()


def test_cuda_graphs_replay_on_new_data(open_session: Callable[..., TensorRTSession], fake_tensorrt: Any) -> None:
    session = open_session(cuda_graphs=True)
    for seed in range(6):
        array = images(LARGEST, seed)
        check(session.run({"image": array})["scaled"], array)
    executions = [call for call in fake_tensorrt.calls if call[0] == "execute_async_v3"]
    assert len(executions) == 4  # for each of two buffer pairs: once plain, once recorded; the rest are replays
    array = images(7, 7)
    check(session.run({"image": array})["scaled"], array)
    session.close()


def test_close_gives_the_memory_back(device: Device, open_session: Callable[..., TensorRTSession]) -> None:
    open_session().close()  # whatever the first session loads once
    before = device.memory().free
    session = open_session(profiles=8)
    assert before - device.memory().free > 8 * 2 * 2 * LARGEST * 3 * 224 * 224 * 4 * 0.9
    session.close()
    assert abs(before - device.memory().free) <= 16 << 20
