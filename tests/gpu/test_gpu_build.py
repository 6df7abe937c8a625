"""Builds on the local GPU with the real libraries, where they are installed and support it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmx4trt.backends import backend_of
from cmx4trt.backends.tensorrt import COMPUTE_CAPABILITIES
from cmx4trt.devices.driver import Device
from cmx4trt.pipeline.build import build
from cmx4trt.requests.build import BuildRequest

pytestmark = pytest.mark.gpu


def request_for(builder: str, tmp_path: Path, **values: object) -> BuildRequest:
    return BuildRequest.from_values(
        {"device": "cuda", "builder": builder, "random_weights": 1, "output_dir": tmp_path, "batch_size": 8, **values}
    )


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_tensorrt(device: Device, tmp_path: Path, precision: str) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    request = request_for("tensorrt", tmp_path, precision=precision, copy_streams=2)
    manifest = build(request).manifest
    assert manifest.ran_on_a_device
    assert manifest.builder.more["engine_layers"] > 0
    assert manifest.builder.more["layer_data_types"]
    assert build(request).reused


def test_tensorrt_int8(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    request = request_for("tensorrt", tmp_path, precision="int8", calibration_data="random", calibration_count=16)
    manifest = build(request).manifest
    assert manifest.ran_on_a_device
    assert manifest.execution.verdict == "passed"
    assert build(request).reused


@pytest.mark.parametrize("target", ["portable", "current"])
def test_tensorrt_rtx(device: Device, tmp_path: Path, target: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    if device.gpu.sm not in COMPUTE_CAPABILITIES:
        pytest.skip(f"TensorRT-RTX does not run on compute capability {device.gpu.compute_capability}")
    request = request_for("tensorrt-rtx", tmp_path, target=target, copy_streams=2)
    result = build(request)
    assert result.manifest.ran_on_a_device
    assert build(request).reused
    session = backend_of("tensorrt-rtx").open_session(Path(result.engine).read_bytes(), cuda_graphs=True)
    assert len(session.streams()) == 2
    session.close()
