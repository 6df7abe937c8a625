"""Quantization for kernels that take uint8 behind Relu, add both convolutions of a block, and compute the classifier in INT8."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.base.progress import Silent
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.ir.model import DType, Graph, Model, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.graphs import prepared_from_network
from cmx4trt.quantize import quantize_network
from cmx4trt.quantize.bias import mean_channels
from cmx4trt.quantize.observe import Method, Wanted, observe
from cmx4trt.quantize.placement import place, shared_scales
from cmx4trt.quantize.random_samples import RandomSamples
from cmx4trt.quantize.ranges import Ranges, digest_of_model
from cmx4trt.quantize.tensorrt_cache import encode_cache
from cmx4trt.quantize.thresholds import count_codes, entropy_threshold, squared_error_threshold
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

UNSIGNED = QuantizationFlavor(rest=DType.FLOAT, unsigned=True, stored_shortcuts=False, classifier=True)
BEHIND_RELU = {"r1", "p1", "r2", "r3", "r5", "f"}


def request(**values: object) -> BuildRequest:
    return BuildRequest.from_values({"precision": "int8", **values})


def fresh(network: CanonicalGraph) -> CanonicalGraph:
    return CanonicalGraph(network.model.copy(), network.spec, network.details, {})


def stored(graph: Graph) -> dict[str, tuple[float, DType]]:
    """Scale and type of every quantized activation."""
    found = {}
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            scale, zero = (graph.initializers[name] for name in node.inputs[1:])
            assert not zero.numpy().any()
            found[node.inputs[0]] = float(scale.numpy()), zero.dtype
    return found


def test_activations_behind_relu_are_uint8_with_255_steps(residual_network: CanonicalGraph, image_folder: Path) -> None:
    network = fresh(residual_network)
    asked = request(calibration_data=image_folder, calibration_method="minmax")
    report = quantize_network(network, asked, Silent(), UNSIGNED)
    assert (report.layers, report.quantized_layers, report.kept) == (6, 6, ())
    found = stored(network.model.graph)
    assert {name for name, (_, dtype) in found.items() if dtype is DType.UINT8} == BEHIND_RELU
    assert {name for name, (_, dtype) in found.items() if dtype is DType.INT8} == {"x"}
    session = OnnxRuntimeSession.from_graph(encode_model(with_outputs(residual_network.model, BEHIND_RELU)))
    images = [np.load(path)[None] for path in sorted(image_folder.iterdir())]
    largest = dict.fromkeys((*session.outputs, "x"), 0.0)
    for image in images:
        for name, value in {**session.run({"x": image}), "x": image}.items():
            largest[name] = max(largest[name], float(np.abs(value).max()))
    largest["r1"] = largest["p1"] = max(largest["r1"], largest["p1"])  # max pooling keeps the scale
    for name, (scale, dtype) in found.items():
        assert scale == pytest.approx(largest[name] / (127 if dtype is DType.INT8 else 255), rel=1e-6), name


def with_outputs(model: Model, names: set[str]) -> Model:
    copy = model.copy()
    copy.graph.outputs = [ValueInfo(name, DType.FLOAT, None) for name in sorted(names)]
    return copy


def test_scales_need_not_be_float16_values(residual_network: CanonicalGraph, image_folder: Path) -> None:
    found = {}
    for flavor in (TENSORRT, UNSIGNED):
        network = fresh(residual_network)
        quantize_network(network, request(calibration_data=image_folder), Silent(), flavor)
        constants = network.model.graph.initializers
        found[flavor] = constants["w2_scale"].numpy()
    exact = np.abs(residual_network.model.graph.initializers["w2"].numpy()).max(axis=(1, 2, 3)) / np.float64(127)
    np.testing.assert_array_equal(found[UNSIGNED], exact.astype(np.float32))
    np.testing.assert_array_equal(found[TENSORRT], found[TENSORRT].astype(np.float16))
    assert not np.array_equal(found[TENSORRT], found[UNSIGNED])


def test_nothing_is_float16_beside_it(residual_network: CanonicalGraph, image_folder: Path) -> None:
    asked = request(calibration_data=image_folder)
    residual_network.model.graph.claim_name("y", "logits")
    quantize_network(residual_network, asked, Silent(), UNSIGNED)
    graph = prepared_from_network(residual_network, asked, UNSIGNED.rest).model.graph
    assert DType.FLOAT16 not in {tensor.dtype for tensor in graph.initializers.values()}
    assert "Cast" not in {node.op_type for node in graph.nodes if node.outputs[0] != "class"}


def test_both_convolutions_of_a_block_are_added_in_float(residual: Model) -> None:
    ours, tensorrt = (place(residual.graph, flavor=flavor) for flavor in (UNSIGNED, TENSORRT))
    assert set(tensorrt.activations) - set(ours.activations) == {"d1"}
    assert set(ours.activations) - set(tensorrt.activations) == {"f"}
    assert "r3" in ours.activations  # an identity's addend is stored
    assert ours.kept == ()


def test_tensorrts_flavor_stores_int8_only(residual_network: CanonicalGraph, image_folder: Path) -> None:
    quantize_network(residual_network, request(calibration_data=image_folder), Silent())
    assert {dtype for _, dtype in stored(residual_network.model.graph).values()} == {DType.INT8}


def test_one_negative_part_makes_a_concatenation_signed(text_model: Callable[..., Model]) -> None:
    body = """
        a = Conv (x, w1)  r = Relu (a)  s = Conv (x, w2)  c = Concat <axis = 1> (r, s)  v = Conv (c, w3)
        t = Relu (v)  u = Relu (s)  d = Concat <axis = 1> (t, u)  y = Conv (d, w4)
    """
    shapes = {"w1": (4, 3, 1, 1), "w2": (4, 3, 1, 1), "w3": (4, 8, 1, 1), "w4": (4, 8, 1, 1)}
    placement = place(text_model(body, shapes=shapes).graph, flavor=UNSIGNED)
    assert placement.unsigned == {"t", "u", "d"}
    assert {frozenset(("r", "s", "c")), frozenset(("t", "u", "d"))} == set(placement.groups)


def test_a_tensorrt_cache_serves(residual_network: CanonicalGraph, tmp_path: Path) -> None:
    """Its scales are magnitudes / 127, whatever the network stores; the average takes its source's where it has none."""
    scales = {"x": 0.02, "r1": 0.03, "p1": 0.03, "r2": 0.04, "r3": 0.05, "r5": 0.06, "d1": 0.01}
    scales = {name: struct.unpack("f", struct.pack("f", scale))[0] for name, scale in scales.items()}
    cache = tmp_path / "calibration.cache"
    cache.write_bytes(encode_cache(scales))
    report = quantize_network(residual_network, request(calibration_cache=cache), Silent(), UNSIGNED)
    assert report.coverage == 1.0
    found = stored(residual_network.model.graph)
    assert found["x"] == (scales["x"], DType.INT8)
    assert found["r2"][0] == pytest.approx(scales["r2"] * 127 / 255, rel=1e-7)
    assert found["f"] == found["r5"]


def test_ranges_kept_for_tensorrt_serve(residual_network: CanonicalGraph, image_folder: Path, tmp_path: Path) -> None:
    asked = request(calibration_data=image_folder, calibration_method="minmax")
    model = residual_network.model.copy()
    placement = place(model.graph)
    wanted = Wanted(placement.activations, mean_channels(model.graph, placement))
    observed = observe(model, wanted, RandomSamples((3, 8, 8), 4), Method.MINMAX, Silent())
    scales = {name: float(np.float32(size / 127)) for name, size in observed.ranges.items()}
    path = tmp_path / "ranges.json"
    path.write_text(Ranges(scales, digest_of_model(model), "", "minmax", 4, observed.means).to_json())
    report = quantize_network(fresh(residual_network), request(calibration_cache=path), Silent(), UNSIGNED)
    assert report.without_range == ()
    assert report.quantized_layers == 6
    quantize_network(fresh(residual_network), asked, Silent())
    assert not quantize_network(fresh(residual_network), asked, Silent(), UNSIGNED).reused
    assert quantize_network(fresh(residual_network), asked, Silent(), UNSIGNED).reused


HEAVY_TAIL = np.random.default_rng(2).standard_normal((1, 3, 256, 256)).astype(np.float32) ** 5
"""So far out that clipping pays; more levels clip less."""


@pytest.mark.parametrize("threshold", [squared_error_threshold, entropy_threshold])
def test_thresholds_know_how_many_levels_there_are(threshold: Callable[..., float]) -> None:
    counts = count_codes(HEAVY_TAIL.astype(np.float16))
    assert threshold(counts, 128) < threshold(counts, 256) < HEAVY_TAIL.max()


@pytest.mark.parametrize("method", [Method.MSE, Method.ENTROPY])
def test_ranges_are_taken_for_the_levels_that_are_stored(text_model: Callable[..., Model], method: Method) -> None:
    class Images(RandomSamples):
        def read(self, index: int) -> np.ndarray:
            return HEAVY_TAIL

    model = text_model("r = Relu (x)  y = Conv (r, w)  z = Conv (x, w)", "y z", {"w": (4, 3, 1, 1)})
    model.graph.inputs[0].dims = ("N", 3, 256, 256)
    placement = place(model.graph, flavor=UNSIGNED)
    assert placement.unsigned == {"r"}
    wanted = [Wanted(placement.activations, {}, unsigned) for unsigned in (frozenset[str](), placement.unsigned)]
    signed, unsigned = (observe(model, one, Images((3, 256, 256), 1), method, Silent()).ranges for one in wanted)
    assert signed["x"] == unsigned["x"]
    assert signed["r"] < unsigned["r"]


def test_the_classifiers_bias_is_corrected_by_the_means_of_what_is_averaged(
    residual_network: CanonicalGraph, image_folder: Path
) -> None:
    placement = place(residual_network.model.graph, flavor=UNSIGNED)
    assert mean_channels(residual_network.model.graph, placement)["r5"] == 16
    report = quantize_network(residual_network, request(calibration_data=image_folder), Silent(), UNSIGNED)
    assert report.corrected_biases == 6
    graph = residual_network.model.graph
    product = next(node for node in graph.nodes if node.op_type == "Gemm")
    assert product.inputs[2] == "b6_corrected"


def test_an_average_of_its_own_range_keeps_it(residual: Model) -> None:
    placement = place(residual.graph, flavor=UNSIGNED)
    assert shared_scales(placement, {"r5": 4.0, "f": 1.0})["f"] == 1.0
    assert shared_scales(placement, {"r5": 4.0})["f"] == 4.0
