"""Batches that the session fetches by itself from samples in page-locked memory, on a stand-in of the GPU."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmx4trt.backends.hopper.gather import KERNEL, LARGEST
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.errors import DeviceError
from cmx4trt.sessions.samples import SampleRows

SAMPLES = 50


@pytest.fixture
def session(small: ModuleType, gpu: Any) -> Any:
    gpu.largest = 40
    opened = HopperSession(small.engine_that_gathers(gpu.largest), gpu)
    yield opened
    opened.close()
    assert gpu.held() == {}


@pytest.fixture
def samples(session: HopperSession) -> Any:
    memory = session.allocate((SAMPLES, 8, 8), "int8")
    memory[...] = np.random.default_rng(3).integers(-128, 128, memory.shape, dtype=np.int8)
    return memory


def check(small: ModuleType, outputs: Any, samples: Any, rows: Any) -> None:
    sums, best = small.expected(samples[rows])
    np.testing.assert_array_equal(outputs["sum"], sums)
    np.testing.assert_array_equal(outputs["best"], best)


ROWS = st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_every_batch_is_of_the_rows_it_was_asked_for(
    session: HopperSession, samples: Any, small: ModuleType, batches: list[list[int]]
) -> None:
    (stream,), wanted = session.streams(), [np.array(rows) for rows in batches]
    stream.submit({"data": SampleRows(samples, wanted[0])})
    for current, following in zip(wanted, [*wanted[1:], None], strict=True):
        if following is not None:
            stream.submit({"data": SampleRows(samples, following)})
        check(small, stream.wait(), samples, current)


def test_few_samples_are_fetched_in_the_graph_and_more_are_copied(
    session: HopperSession, samples: Any, gpu: Any, small: ModuleType
) -> None:
    assert session.gathers
    for count, launches in ((1, 1), (LARGEST, 1), (LARGEST + 1, 0)):
        gpu.launched.clear()
        rows = np.arange(count)[::-1]
        check(small, session.run({"data": SampleRows(samples, rows)}), samples, rows)
        assert gpu.launched.count(KERNEL.name) == launches


def test_the_graph_of_a_small_batch_serves_all_rows(session: HopperSession, samples: Any, gpu: Any) -> None:
    for row in range(12):
        session.run({"data": SampleRows(samples, np.array([row]))})
    assert gpu.graphs_recorded == 2, "one for each batch in flight"


def test_samples_that_are_not_page_locked_are_gathered_by_the_cpu(
    session: HopperSession, samples: Any, gpu: Any, small: ModuleType
) -> None:
    ordinary = samples.copy()
    for rows in (np.array([7]), np.arange(30)[::-1]):
        gpu.launched.clear()
        check(small, session.run({"data": SampleRows(ordinary, rows)}), ordinary, rows)
        assert KERNEL.name not in gpu.launched


def test_an_engine_without_the_kernel_copies(small: ModuleType, gpu: Any) -> None:
    session = HopperSession(small.engine(), gpu)
    memory = session.allocate((9, 8, 8), "int8")
    memory[...] = 5
    rows = np.array([8, 0, 3])
    check(small, session.run({"data": SampleRows(memory, rows)}), memory, rows)
    session.close()


def test_the_inputs_of_a_batch_may_be_placed_by_rows(session: HopperSession, samples: Any, small: ModuleType) -> None:
    rows = np.array([3, 3, 40])
    assert session.place({"data": SampleRows(samples, rows)}) == 3
    expected = samples[rows].reshape(3, 64).view(np.uint8) + np.uint8(3)
    np.testing.assert_array_equal(session.read_buffer("sums", 3), expected)


def test_only_samples_that_were_accepted_are_taken_without_a_look(
    session: HopperSession, samples: Any, small: ModuleType
) -> None:
    rows = np.array([3, 1])
    check(small, session.run({"data": SampleRows(samples, rows)}), samples, rows)
    with pytest.raises(DeviceError, match="expected a batch of 1 to 40 samples"):
        session.run({"data": SampleRows(samples, np.zeros(41, np.int64))})
    with pytest.raises(DeviceError, match="expected a batch of 1 to 40 samples"):
        session.run({"data": SampleRows(samples, np.zeros(0, np.int64))})
    with pytest.raises(DeviceError, match=r"input data is uint8 \[2, 8, 8\], expected int8"):
        session.run({"data": SampleRows(samples.view(np.uint8), rows)})
    check(small, session.run({"data": SampleRows(samples, rows)}), samples, rows)


def test_a_batch_is_executed_at_once_only_while_none_is_pending(session: HopperSession, samples: Any) -> None:
    (stream,) = session.streams()
    feeds = {"data": SampleRows(samples, np.array([1]))}
    stream.submit(feeds)
    with pytest.raises(DeviceError, match="a batch is pending on this stream; wait for it first"):
        stream.execute(feeds)
    stream.wait()
