"""What exceeds float16 on the calibration images is refused before anything is built, by the tensor's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmx4trt.backends.flavor import QuantizationFlavor
from cmx4trt.base.progress import Silent
from cmx4trt.errors import DataError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.ir.model import DType, Tensor
from cmx4trt.quantize import quantize_network
from cmx4trt.quantize.magnitudes import watched_tensors
from cmx4trt.quantize.observe import Method
from cmx4trt.quantize.ranges import Ranges, digest_of_model
from cmx4trt.quantize.tensorrt_cache import encode_cache
from cmx4trt.requests.build import BuildRequest

METHODS = [method.value for method in Method]
FLOAT32 = QuantizationFlavor(rest=DType.FLOAT)
HELP = "and float16, in which the engine holds it, ends at 65,504; build with --precision=bf16 or fp32"


def request(**values: object) -> BuildRequest:
    return BuildRequest.from_values({"precision": "int8", **values})


def scaled(network: CanonicalGraph, constant: str, factor: float) -> None:
    constants = network.model.graph.initializers
    constants[constant] = Tensor.from_numpy(constant, constants[constant].numpy() * np.float32(factor))


def only_negative(network: CanonicalGraph) -> None:
    """The first convolution's results fall to about -10^5, and the ReLU behind it makes 0 of them."""
    constants = network.model.graph.initializers
    constants["b1"] = Tensor.from_numpy("b1", np.full(8, -1e5, np.float32))


def test_what_an_operator_may_make_infinite_is_watched(residual_network: CanonicalGraph) -> None:
    assert watched_tensors(residual_network.model.graph) == ("x", "c1", "c2", "c3", "d1", "a1", "c5", "a2", "g", "y")


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_gets_no_range_is_looked_at(
    residual_network: CanonicalGraph, image_folder: Path, method: str
) -> None:
    only_negative(residual_network)
    asked = request(calibration_data=image_folder, calibration_method=method)
    for _ in range(2):  # the second time from the ranges that the first has kept
        with pytest.raises(DataError, match=rf"^tensor 'c1' reaches 10\d,\d+ on the calibration images, {HELP}$"):
            quantize_network(residual_network, asked, Silent())


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_with_a_range_is_refused_by_every_method(
    residual_network: CanonicalGraph, image_folder: Path, method: str
) -> None:
    scaled(residual_network, "w1", 1e5)
    asked = request(calibration_data=image_folder, calibration_method=method)
    with pytest.raises(DataError, match=r"tensor '(c1|r1)' .*float16.*build with --precision=bf16 or fp32"):
        quantize_network(residual_network, asked, Silent())


def test_an_engine_that_computes_in_float32_holds_it(residual_network: CanonicalGraph, image_folder: Path) -> None:
    only_negative(residual_network)
    asked = request(calibration_data=image_folder)
    assert quantize_network(residual_network, asked, Silent(), FLOAT32).quantized_layers == 5


@pytest.mark.parametrize(
    ("values", "tensor", "help_"),
    [({"input_dtype": "fp16"}, "x", "--input_dtype=fp32"), ({}, None, "")],
)
def test_inputs_in_float16(
    residual_network: CanonicalGraph, tmp_path: Path, values: dict[str, str], tensor: str | None, help_: str
) -> None:
    folder = tmp_path / "loud"
    folder.mkdir()
    for index in range(4):
        np.save(folder / f"{index}.npy", np.full((3, 8, 8), 7e4, np.float32))
    asked = request(calibration_data=folder, calibration_method="minmax", **values)
    if tensor is None:
        quantize_network(residual_network, asked, Silent(), FLOAT32)
        return
    with pytest.raises(DataError, match=f"tensor '{tensor}' reaches 70,000 on .*; build with {help_}"):
        quantize_network(residual_network, asked, Silent(), FLOAT32)


def test_magnitudes_in_a_file_of_ranges_count(
    residual_network: CanonicalGraph, image_folder: Path, tmp_path: Path
) -> None:
    model, path = residual_network.model.copy(), tmp_path / "ranges.json"
    quantize_network(residual_network, request(calibration_data=image_folder), Silent())
    kept = next((tmp_path / "cache").rglob("*.json")).read_text()
    found = Ranges.from_json(kept, "it")
    assert set(found.largest) == set(watched_tensors(model.graph))
    loud = Ranges(found.scales, digest_of_model(model), "", "minmax", 4, found.means, {**found.largest, "c3": 7e4})
    path.write_text(loud.to_json())
    network = CanonicalGraph(model, residual_network.spec)
    with pytest.raises(DataError, match="tensor 'c3' reaches 70,000 on the calibration images"):
        quantize_network(network, request(calibration_cache=path), Silent())


def test_a_range_of_a_cache_that_float16_cannot_hold(
    residual_network: CanonicalGraph, image_folder: Path, tmp_path: Path
) -> None:
    """It is the network's, not damaged: the build's own images reach as far."""
    scaled(residual_network, "w1", 3e4)
    model, path = residual_network.model.copy(), tmp_path / "cache.txt"
    quantize_network(
        residual_network, request(calibration_data=image_folder, calibration_method="minmax"), Silent(), FLOAT32
    )
    found = Ranges.from_json(next((tmp_path / "cache").rglob("*.json")).read_text(), "it")
    path.write_bytes(encode_cache(found.scales))
    network = CanonicalGraph(model, residual_network.spec)
    with pytest.raises(DataError, match=r"tensor '\w+' has a range of .* in .*cache.txt, line \d+, and float16"):
        quantize_network(network, request(calibration_cache=path), Silent())
