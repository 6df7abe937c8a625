"""Everything here needs an NVIDIA GPU, its driver and pycuda, and is skipped, saying so, where one is missing."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from cmx4trt.devices.driver import Device, open_device
from cmx4trt.errors import CmxError

FAKE_TENSORRT = Path(__file__).parents[1] / "data" / "fake_tensorrt" / "tensorrt.py"


@pytest.fixture(scope="session")
def device() -> Device:
    """The local GPU."""
    try:
        return open_device()
    except CmxError as error:
        pytest.skip(f"no GPU to test on: {error}")


@pytest.fixture
def fake_tensorrt() -> ModuleType:
    """The stand-in for TensorRT, a new copy; its engines execute what ``behaviour.execute`` launches."""
    spec = spec_from_file_location("fake_tensorrt", FAKE_TENSORRT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
