"""What is measured of an engine on the GPU: recorded as numbers, without a clock where the card tells none."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from cmx4trt.backends.facts import Measurement
from cmx4trt.backends.hopper import measure
from cmx4trt.backends.hopper.images import random_images
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.base.typed import WrongRecordError
from cmx4trt.devices.nvml import Readings
from cmx4trt.sessions.null import NullSession


class Nvml:
    def __init__(self, fail: bool = False) -> None:
        self.fail = fail

    def read(self) -> Readings:
        if self.fail:
            raise OSError("no such reading")
        return Readings(1755, 690.5, 61)


@pytest.fixture
def measured(small: ModuleType, gpu: Any) -> Any:
    def run(nvml: Any) -> Measurement:
        session = HopperSession(small.engine(), gpu)
        found = measure.measure(session, 0.0, lambda pci_bus_id: nvml)
        session.close()
        assert gpu.held() == {}
        assert found is not None
        return found

    return run


def test_the_network_and_every_launch_at_the_largest_batch(measured: Any) -> None:
    found = measured(Nvml())
    assert (found.gpu, found.batch) == ("NVIDIA H100 80GB HBM3", 6)
    assert found.milliseconds > 0
    assert len(found.figures["launch_milliseconds"]) == 2
    clock = {"sm_clock_mhz": 1755, "watts": 690.5, "celsius": 61}
    assert clock.items() <= found.figures.items()
    assert {"driver": "550.54.15", "cuda": 12040}.items() <= found.figures.items()
    assert f"for a batch of 6, {6e3 / found.milliseconds:,.0f} images/s, on NVIDIA H100" in found.sentence()


@pytest.mark.parametrize("nvml", [None, Nvml(fail=True)], ids=["no NVML", "no such reading"])
def test_a_card_that_tells_no_clock_is_measured_all_the_same(measured: Any, nvml: Nvml | None) -> None:
    assert "sm_clock_mhz" not in measured(nvml).figures


def test_other_sessions_are_not_measured() -> None:
    assert measure.measure(NullSession(4, 1)) is None


@pytest.mark.parametrize(
    "record",
    [
        "text",
        {"gpu": "H100", "batch": 4},
        {"gpu": "H100", "batch": 0, "milliseconds": 1.0},
        {"gpu": "H100", "batch": 4, "milliseconds": 0},
        {"gpu": "H100", "batch": 4, "milliseconds": float("nan")},
        {"gpu": "H100", "batch": "many", "milliseconds": 1.0},
    ],
)
def test_records_of_something_else_are_no_measurement(record: Any) -> None:
    with pytest.raises(WrongRecordError):
        Measurement.from_dict(record)


def test_a_measurement_is_read_from_its_own_record() -> None:
    written = Measurement("NVIDIA H100", 4, 0.5, {"watts": 1.0})
    assert Measurement.from_dict(written.to_dict()) == written


def test_images_are_the_same_values_in_every_type() -> None:
    steps = random_images(3, 2, (1, 4, 4), 0.25)
    assert steps.dtype == "int8"
    for dtype in ("float32", "float16"):
        images = random_images(3, 2, (1, 4, 4), 0.25, dtype)
        assert images.dtype == dtype
        assert (images == steps * 0.25).all()
