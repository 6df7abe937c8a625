from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx.parser
import pytest

from cmx4trt.backends import backend_of
from cmx4trt.backends.tensorrt.session import DEPTH, TensorRTSession
from cmx4trt.devices.driver import open_device
from cmx4trt.errors import DeviceError, MissingSoftwareError
from cmx4trt.sessions.samples import SampleRows

GRAPH = """<ir_version: 9, opset_import: ["" : 19]>
g (float[N, 3] x) => (float[N, 3] y, int64[N] best) { one = Constant <value_float = 1.0> ()  y = Add(x, one)
 best = ArgMax <axis = 1, keepdims = 0> (y) }"""
LARGEST = 4


@pytest.fixture
def engine(fake_tensorrt: Any) -> Callable[..., bytes]:
    def build(profiles: int = 1, text: str = GRAPH) -> bytes:
        shapes = [{"x": [[1, 3], [LARGEST, 3], [LARGEST, 3]]}] * profiles
        import json

        header = fake_tensorrt.MAGIC + json.dumps(shapes).encode() + b"\n"
        return bytes(header + onnx.parser.parse_model(text).SerializeToString())

    return build


@pytest.fixture
def session(fake_tensorrt: ModuleType, engine: Callable[..., bytes]) -> TensorRTSession:
    return TensorRTSession(fake_tensorrt, engine(2), open_device())


def numbers(batch: int, start: int = 0) -> np.ndarray[Any, Any]:
    return np.arange(start, start + 3 * batch, dtype=np.float32).reshape(batch, 3)


def test_description(session: TensorRTSession) -> None:
    assert (session.inputs, session.outputs) == (("x",), ("y", "best"))
    assert session.device == "TensorRT 10.13.3.9 on NVIDIA Fake 5090"
    assert (session.min_batch, session.max_batch) == (1, LARGEST)
    assert (session.input_shape("x"), session.input_dtype("x")) == (("N", 3), "float32")
    assert len(session.streams()) == 2
    assert session.streams() == session.streams()


@pytest.mark.parametrize("batch", [1, 3, LARGEST])
def test_run(session: TensorRTSession, batch: int) -> None:
    result = session.run({"x": numbers(batch)})
    np.testing.assert_array_equal(result["y"], numbers(batch) + 1)
    np.testing.assert_array_equal(result["best"], np.full(batch, 2))
    session.run({"x": numbers(batch, 50)})
    np.testing.assert_array_equal(result["y"], numbers(batch) + 1)  # results of run are copies


def test_batches_in_flight_keep_their_buffers(session: TensorRTSession) -> None:
    """The stand-in copies only when waited for: sharing one buffer between two batches would give the second twice."""
    stream = session.streams()[0]
    assert stream.depth == DEPTH
    for start in (0, 100):
        stream.submit({"x": numbers(2, start)})
    for start in (0, 100, 200, 300):
        np.testing.assert_array_equal(stream.wait()["y"], numbers(2, start) + 1)
        stream.submit({"x": numbers(2, start + 200)})


def test_page_locked_input_is_read_where_it_lies(session: TensorRTSession) -> None:
    array = session.allocate((2, 3), "float32")
    array[...] = 7
    stream = session.streams()[0]
    stream.submit({"x": array})
    array[...] = 8  # against the rules: shows that no copy was made
    np.testing.assert_array_equal(stream.wait()["y"], np.full((2, 3), 9, np.float32))
    ordinary = np.full((2, 3), 7, np.float32)
    stream.submit({"x": ordinary})
    ordinary[...] = 8
    np.testing.assert_array_equal(stream.wait()["y"], np.full((2, 3), 8, np.float32))


def test_rows_of_page_locked_samples_are_fetched_from_where_they_lie(session: TensorRTSession) -> None:
    samples = session.allocate((9, 3), "float32")
    samples[...] = numbers(9)
    rows = np.array([7, 2, 3, 0])
    stream = session.streams()[0]
    stream.submit({"x": SampleRows(samples, rows)})
    samples[2] = 50  # against the rules: shows that no copy was made
    np.testing.assert_array_equal(stream.wait()["y"], samples[rows] + 1)
    np.testing.assert_array_equal(session.run({"x": SampleRows(numbers(9), rows)})["y"], numbers(9)[rows] + 1)
    with pytest.raises(DeviceError, match="expected a batch of 1 to 4 samples"):
        session.run({"x": SampleRows(samples, np.arange(5))})


def test_every_stream_has_its_own_profile_and_cuda_stream(session: TensorRTSession, fake_tensorrt: Any) -> None:
    chosen = [call[1:] for call in fake_tensorrt.calls if call[0] == "set_optimization_profile_async"]
    assert [profile for profile, _ in chosen] == [0, 1]
    assert len({handle for _, handle in chosen}) == 2


def test_streams_work_in_threads_of_their_own(session: TensorRTSession) -> None:
    wrong: list[int] = []

    def work(index: int) -> None:
        stream = session.streams()[index]
        for round_ in range(5):
            start = 1000 * index + round_
            stream.submit({"x": numbers(LARGEST, start)})
            if not np.array_equal(stream.wait()["y"], numbers(LARGEST, start) + 1):
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_shapes_are_set_only_when_the_batch_changes(session: TensorRTSession, fake_tensorrt: Any) -> None:
    fake_tensorrt.calls.clear()
    for batch in (2, 2, 3, 3, 2):
        session.run({"x": numbers(batch)})
    assert [c[2] for c in fake_tensorrt.calls if c[0] == "set_input_shape"] == [(2, 3), (3, 3), (2, 3)]


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, "input x is missing; the engine takes x"),
        ({"x": np.zeros((2, 3), np.float16)}, r"input x is float16 \[2, 3\], expected float32 \['N', 3\]"),
        ({"x": np.zeros((2, 4), np.float32)}, r"input x is float32 \[2, 4\]"),
        ({"x": np.zeros((0, 3), np.float32)}, "1 to 4 samples"),
        ({"x": np.zeros((5, 3), np.float32)}, "1 to 4 samples"),
    ],
)
def test_wrong_feeds(session: TensorRTSession, feeds: dict[str, Any], text: str) -> None:
    with pytest.raises(DeviceError, match=text):
        session.run(feeds)


def test_too_many_pending(session: TensorRTSession) -> None:
    stream = session.streams()[0]
    for _ in range(DEPTH):
        stream.submit({"x": numbers(1)})
    with pytest.raises(DeviceError, match="2 batches are already pending"):
        stream.submit({"x": numbers(1)})


def test_close_frees_all_device_memory(session: TensorRTSession, fake_pycuda: Any) -> None:
    session.streams()[0].submit({"x": numbers(1)})
    assert fake_pycuda.ALLOCATED
    session.close()
    assert not fake_pycuda.ALLOCATED


def test_refusals_carry_the_librarys_words(fake_tensorrt: Any, engine: Callable[..., bytes]) -> None:
    fake_tensorrt.behaviour.deserialize_error = "Version tag does not match"
    with pytest.raises(DeviceError, match="cannot run this engine: Version tag does not match"):
        TensorRTSession(fake_tensorrt, engine(), open_device())
    fake_tensorrt.behaviour.deserialize_error = None
    fake_tensorrt.behaviour.profile_refused = True
    with pytest.raises(DeviceError, match="rejects optimization profile 0"):
        TensorRTSession(fake_tensorrt, engine(), open_device())


def test_too_large_for_the_device(fake_tensorrt: Any, fake_pycuda: Any, engine: Callable[..., bytes]) -> None:
    fake_pycuda.DEVICE.free = 20
    with pytest.raises(DeviceError, match="could not allocate the engine's buffers on NVIDIA Fake 5090: cuMemAlloc"):
        TensorRTSession(fake_tensorrt, engine(), open_device())


def test_a_failed_execution(session: TensorRTSession, fake_tensorrt: Any) -> None:
    fake_tensorrt.behaviour.execute_fails = True
    with pytest.raises(DeviceError, match="the engine failed to execute: it gave no reason"):
        session.run({"x": numbers(1)})


class RecordedGraph:
    """In place of CudaGraph: records the work that a stream is given instead of leaving it there."""

    made: list[RecordedGraph]

    def __init__(self, enqueue: Callable[[], None], stream: int) -> None:
        from pycuda import driver

        self.launches, self.freed = 0, False
        target = driver.STREAMS[stream]
        target._waiting, waiting = [], target._waiting
        enqueue()
        target._waiting, self._work = waiting, target._waiting
        type(self).made.append(self)

    def launch(self, stream: int) -> None:
        assert not self.freed
        from pycuda import driver

        self.launches += 1
        driver.STREAMS[stream]._waiting.extend(self._work)

    def free(self) -> None:
        self.freed = True


def test_cuda_graphs_of_the_largest_batch(fake_tensorrt: Any, engine: Callable[..., bytes]) -> None:
    RecordedGraph.made = []
    record: Any = RecordedGraph
    session = TensorRTSession(fake_tensorrt, engine(), open_device(), cuda_graphs=True, record=record)
    for round_ in range(6):
        np.testing.assert_array_equal(session.run({"x": numbers(LARGEST, round_)})["y"], numbers(LARGEST, round_) + 1)
    assert [g.launches for g in RecordedGraph.made] == [2, 2]  # one for each pair of buffers, after a plain execution
    session.run({"x": numbers(1)})
    assert all(g.freed for g in RecordedGraph.made)  # recorded with other shapes
    session.close()


def test_tensorrt_rtx_records_graphs_by_itself(fake_tensorrt: Any, engine: Callable[..., bytes]) -> None:
    made: list[Any] = []

    def create_execution_context(self: Any, runtime_config: Any = None) -> Any:
        made.append(runtime_config)
        return fake_tensorrt.IExecutionContext(self)

    fake_tensorrt.CudaGraphStrategy = SimpleNamespace(DISABLED=0, WHOLE_GRAPH_CAPTURE=1)
    fake_tensorrt.ICudaEngine.create_execution_context = create_execution_context
    fake_tensorrt.ICudaEngine.create_runtime_config = lambda self: SimpleNamespace(cuda_graph_strategy=0)
    session = TensorRTSession(fake_tensorrt, engine(), open_device(), cuda_graphs=True)
    assert session.device.startswith("TensorRT-RTX ")
    assert made[0].cuda_graph_strategy == 1


def test_each_backend_opens_its_engines(fake_tensorrt: ModuleType, engine: Callable[..., bytes]) -> None:
    for name in ("tensorrt", "common-code"):
        session = backend_of(name).open_session(engine())
        np.testing.assert_array_equal(session.run({"x": numbers(2)})["y"], numbers(2) + 1)


def test_a_session_is_refused_early(fake_pycuda: Any) -> None:
    fake_pycuda.DEVICE.compute_capability = (9, 0)
    with pytest.raises(DeviceError, match=r"TensorRT-RTX does not run on compute capability 9\.0"):
        backend_of("tensorrt-rtx").open_session(b"")
    with pytest.raises(MissingSoftwareError, match="TensorRT is not installed"):
        backend_of("tensorrt").open_session(b"")
