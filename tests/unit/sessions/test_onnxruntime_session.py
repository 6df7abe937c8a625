"""OnnxRuntimeSession off the CPU, with a stand-in for ONNX Runtime's CUDA session."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

import cmx4trt.sessions.onnxruntime as session_module
from cmx4trt.errors import DeviceError
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import DEVICE_STREAMS, OnnxRuntimeSession


class FakeBinding:
    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.bound: list[tuple[str, str]] = []

    def bind_cpu_input(self, name: str, array: Any) -> None:
        self.inputs[name] = array

    def bind_output(self, name: str, device: str) -> None:
        self.bound.append((name, device))

    def copy_outputs_to_cpu(self) -> list[Any]:
        return [self.inputs["x"] * 2]


class FakeCudaSession:
    """y = 2 x; ``barrier``: where that many runs must meet before one goes on."""

    def __init__(self, barrier: threading.Barrier | None = None, error: str | None = None) -> None:
        self.bindings: list[FakeBinding] = []
        self._barrier, self._error = barrier, error

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", shape=["N", 2], type="tensor(float)")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y")]

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def io_binding(self) -> FakeBinding:
        self.bindings.append(FakeBinding())
        return self.bindings[-1]

    def run_with_iobinding(self, binding: FakeBinding) -> None:
        if self._error:
            raise RuntimeError(self._error)
        if self._barrier:
            self._barrier.wait(timeout=20)


def numbers(first: int) -> Mapping[str, Any]:
    return {"x": np.arange(first, first + 4, dtype=np.float32).reshape(2, 2)}


def test_a_device_has_streams_that_run_at_once_with_bindings_of_their_own() -> None:
    fake = FakeCudaSession(threading.Barrier(DEVICE_STREAMS))
    session = OnnxRuntimeSession(fake)
    assert len(session.streams()) == DEVICE_STREAMS == len(fake.bindings)
    answers: dict[int, Any] = {}

    def run(index: int) -> None:
        session.streams()[index].submit(numbers(index))
        answers[index] = session.streams()[index].wait()["y"]

    threads = [threading.Thread(target=run, args=(index,)) for index in range(DEVICE_STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(DEVICE_STREAMS):
        np.testing.assert_array_equal(answers[index], numbers(index)["x"] * 2)
    assert all(binding.bound == [("y", "cuda")] for binding in fake.bindings)
    assert session.device.endswith("(CUDA)")


def test_run_answers_like_the_first_stream() -> None:
    session = OnnxRuntimeSession(FakeCudaSession())
    np.testing.assert_array_equal(session.run(numbers(3))["y"], numbers(3)["x"] * 2)


def test_a_failing_device_is_a_device_error_in_one_line() -> None:
    session = OnnxRuntimeSession(FakeCudaSession(error="CUDA failure 700\nmore"))
    with pytest.raises(DeviceError, match=r"\(CUDA\) failed to run a batch: CUDA failure 700$"):
        session.run(numbers(0))


def test_nothing_is_left_after_close() -> None:
    session = OnnxRuntimeSession(FakeCudaSession())
    session.close()
    assert session.streams() == ()


def test_quantized_graphs_are_computed_as_they_stand(model_from_text: Callable[[str], Model]) -> None:
    """0.5 * 1 + 0.1 rounds to 1. Fused into an integer kernel, the bias would vanish, being less than half a step of 0.5."""
    model = model_from_text("""<ir_version: 9, opset_import: ["" : 19]>
        g (float[1,1,1,1] x) => (uint8[1,1,1,1] y)
        <float one = {1}, uint8 zero = {0}, int8[1,1,1,1] w = {1}, float[1] half = {0.5}, int8[1] none = {0}, float[1] b = {0.1}>
        {
            q = QuantizeLinear (x, one, zero)
            d = DequantizeLinear (q, one, zero)
            v = DequantizeLinear <axis = 0> (w, half, none)
            c = Conv (d, v, b)
            y = QuantizeLinear (c, one, zero)
        }""")
    result = OnnxRuntimeSession.from_graph(encode_model(model)).run({"x": np.ones((1, 1, 1, 1), np.float32)})
    assert result["y"].item() == 1


def test_no_more_threads_are_started_than_cores_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself counts the machine's cores, whatever taskset or a container's cpuset says."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3})
    assert session_module._options(onnxruntime, 0).intra_op_num_threads == 2
    assert session_module._options(onnxruntime, 1).intra_op_num_threads == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert session_module._options(onnxruntime, 0).intra_op_num_threads == 0  # ONNX Runtime's own choice


def test_a_session_is_freed_with_the_last_reference(model_from_text: Callable[[str], Model]) -> None:
    model = model_from_text("""<ir_version: 9, opset_import: ["" : 19]>
        g (float[1] x) => (float[1] y) { y = Relu (x) }""")
    session = OnnxRuntimeSession.from_graph(encode_model(model))
    gone = weakref.ref(session)
    gc.disable()
    try:
        del session
        assert gone() is None
    finally:
        gc.enable()
