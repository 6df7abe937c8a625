"""From a request to a quantized network: where ranges come from, what is kept, what is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.errors import CmxError, DataError, RequestError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.networks import model_from_seed, spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.networks.resnet50.nvidia_names import nvidia_names
from cmx4trt.quantize import check_request, open_data, quantize_network
from cmx4trt.quantize.calibration import names_in_cache
from cmx4trt.quantize.observe import STAGE
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.quantizer import MIN_COVERAGE
from cmx4trt.quantize.ranges import Ranges, RangesStore
from cmx4trt.quantize.tensorrt_cache import encode_cache
from cmx4trt.requests.build import BuildRequest


def request(**values: object) -> BuildRequest:
    return BuildRequest.from_values({"precision": "int8", **values})


def fresh(network: CanonicalGraph) -> CanonicalGraph:
    return CanonicalGraph(network.model.copy(), network.spec, network.details, {})


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_ranges_from_images(residual_network: CanonicalGraph, image_folder: Path) -> None:
    report = quantize_network(residual_network, request(calibration_data=image_folder, calibration_count=4), Silent())
    assert (report.origin, report.samples, report.reused) == ("images", 4, False)
    assert report.method == "relative"
    assert (report.layers, report.quantized_layers, report.kept) == (6, 5, ("y",))
    assert report.coverage == 1.0
    assert report.held_out
    assert len(report.images) == 2
    assert report.corrected_biases == 5
    assert report.to_dict()["rules"]["layer-input"] == 5


def test_ranges_without_a_place_to_keep_them(
    residual_network: CanonicalGraph, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    progress = Notes()
    report = quantize_network(residual_network, request(calibration_data=image_folder), progress)
    assert report.quantized_layers == 5
    assert [note.split(":")[0] for note in progress.notes] == ["the ranges are not kept for later runs"]
    assert "give another XDG_CACHE_HOME" in progress.notes[0]


def test_an_interruption_without_a_place_for_its_state_stays_one(
    residual_network: CanonicalGraph, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))

    class Interrupted(Notes):
        def step(self, name: str, done: int, total: int) -> None:
            if name == STAGE and done == 2:
                raise KeyboardInterrupt

    progress = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        quantize_network(residual_network, request(calibration_data=image_folder), progress)
    assert [note.split(":")[0] for note in progress.notes] == ["an interrupted calibration will start over"]


def test_all_images_leave_none_to_hold_out(residual_network: CanonicalGraph, image_folder: Path) -> None:
    report = quantize_network(residual_network, request(calibration_data=image_folder), Silent())
    assert not report.held_out
    assert len(report.images) == 6


def test_ranges_are_reused_across_batch_sizes_and_not_across_methods(
    residual_network: CanonicalGraph, image_folder: Path
) -> None:
    values = {"calibration_data": image_folder, "calibration_method": "minmax"}
    stages: list[str] = []

    class Stages(Silent):
        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            stages.append(name)
            yield

    first = quantize_network(fresh(residual_network), request(**values), Stages())
    again = quantize_network(fresh(residual_network), request(**values, batch_size=64), Stages())
    assert (first.reused, again.reused) == (False, True)
    assert stages.count(STAGE) == 1, "the images were run once"
    other = values | {"calibration_method": "entropy"}
    assert not quantize_network(fresh(residual_network), request(**other), Stages()).reused
    assert stages.count(STAGE) == 2


def test_other_images_are_not_mistaken_for_the_same(residual_network: CanonicalGraph, image_folder: Path) -> None:
    first = quantize_network(fresh(residual_network), request(calibration_data=image_folder), Silent())
    before = open_data(request(calibration_data=image_folder), (3, 8, 8), Silent()).part()
    np.save(image_folder / "image0.npy", np.ones((3, 8, 8), np.float32))
    second = quantize_network(fresh(residual_network), request(calibration_data=image_folder), Silent())
    assert not second.reused
    assert first.data_sha256 != second.data_sha256
    assert open_data(request(calibration_data=image_folder), (3, 8, 8), Silent()).part() != before


def test_our_json_serves_as_a_cache_for_the_same_network_only(
    residual_network: CanonicalGraph, image_folder: Path
) -> None:
    report = quantize_network(fresh(residual_network), request(calibration_data=image_folder), Silent())
    path = RangesStore().path(report.model_sha256, report.data_sha256, report.method)
    again = quantize_network(fresh(residual_network), request(calibration_cache=path), Silent())
    assert again.origin == "ranges file"
    assert again.pairs == report.pairs
    other = fresh(residual_network)
    other.model.graph.nodes[1].op_type = "Sigmoid"
    with pytest.raises(DataError, match="was made for another network"):
        quantize_network(other, request(calibration_cache=path), Silent())


def test_round_trip_through_a_tensorrt_cache_is_bit_equal(residual_network: CanonicalGraph, image_folder: Path) -> None:
    report = quantize_network(fresh(residual_network), request(calibration_data=image_folder), Silent())
    path = RangesStore().path(report.model_sha256, report.data_sha256, report.method)
    ranges = Ranges.from_json(Path(path).read_text(), path)
    cache = image_folder.parent / "calibrator.cache"
    cache.write_bytes(encode_cache(ranges.scales))
    network = fresh(residual_network)
    again = quantize_network(network, request(calibration_cache=cache), Silent())
    assert again.origin == "TensorRT cache"
    names = names_in_cache(residual_network, ranges.scales)
    assert {n: struct.pack("<f", ranges.scales[names[n]]) for n in names} == {
        n: struct.pack("<f", s) for n, s in ranges.scales.items()
    }
    assert again.coverage == 1.0
    assert again.synthetic
    assert again.corrected_biases == 0


def test_a_cache_with_nvidias_names_covers_resnet50(resnet50: CanonicalGraph, tmp_path: Path) -> None:
    """Synthetic: NVIDIA's names with synthetic scales, one for each node of the network."""
    names = sorted(set(nvidia_names(resnet50.model.graph).values()) | {"fc_replaced_out_0", "topk_layer_output_value"})
    assert len(names) == 124 - 1  # NVIDIA's file has 124; conv1, before its scale_conv1, is not a value of ours
    cache = tmp_path / "calibrator.cache"
    scales = {name: struct.unpack("f", struct.pack("f", 0.01 + i / 1000))[0] for i, name in enumerate(names)}
    cache.write_bytes(encode_cache(scales, "TRT-8001-EntropyCalibration2"))
    network = fresh(resnet50)
    report = quantize_network(network, request(calibration_cache=cache), Silent())
    assert report.coverage == 1.0
    assert report.without_range == ()
    assert report.method == "TRT-8001-EntropyCalibration2"
    stored = network.model.graph.initializers["res2a_branch2a_relu_scale"].numpy()
    assert stored == pytest.approx(scales["res2a_branch2a_relu_out_0"], rel=2.0**-10)


def test_missing_tensors_are_named_and_stay_in_float16(resnet50: CanonicalGraph, tmp_path: Path) -> None:
    names = nvidia_names(resnet50.model.graph)
    cache = tmp_path / "calibrator.cache"
    known = [name for name in names.values() if "res5b_branch2a_relu" not in name]
    cache.write_bytes(encode_cache({name: 0.01 + i / 1000 for i, name in enumerate(sorted(known))}))
    progress = Notes()
    report = quantize_network(fresh(resnet50), request(calibration_cache=cache), progress)
    assert report.without_range == ("res5b_branch2a_relu",)
    assert report.kept == ("res5b_branch2b", "fc1000")
    assert MIN_COVERAGE < report.coverage < 1.0
    assert progress.notes == ["1 tensors have no range and stay in float16: 'res5b_branch2a_relu'"]


def test_a_cache_of_another_model_is_refused(residual_network: CanonicalGraph, tmp_path: Path) -> None:
    cache = tmp_path / "calibrator.cache"
    cache.write_bytes(encode_cache({"input_tensor_0": 1.0, "res2a_branch2a_out_0": 1.0}))
    with pytest.raises(DataError, match=r"covers 1 of the network's 7 activations, expected at least 90%.*another"):
        quantize_network(residual_network, request(calibration_cache=cache), Silent())


@pytest.mark.parametrize("bits", ["bf810204", "7fc00000"])
def test_a_cache_with_impossible_scales_is_refused(residual_network: CanonicalGraph, tmp_path: Path, bits: str) -> None:
    cache = tmp_path / "calibrator.cache"
    cache.write_text(f"TRT-8001-EntropyCalibration2\nx: {bits}\n")
    with pytest.raises(DataError, match="gives tensor 'x' the scale"):
        quantize_network(residual_network, request(calibration_cache=cache), Silent())


def test_no_data_names_the_three_ways_out() -> None:
    with pytest.raises(DataError) as caught:
        check_request(request())
    for way in ("--calibration_data", "--calibration_cache", "--precision=fp16"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("values", "kind", "sentence"),
    [
        ({"calibration_data": "/nowhere"}, DataError, "calibration_data /nowhere does not exist"),
        ({"calibration_cache": "/nowhere"}, DataError, "calibration_cache /nowhere is not a regular file"),
        ({"calibration_data": "random"}, RequestError, "serves networks with random weights only"),
    ],
)
def test_requests_refused_early(values: dict[str, object], kind: type[CmxError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        check_request(request(**values))


def test_ranking_needs_images(tmp_path: Path) -> None:
    cache = tmp_path / "calibrator.cache"
    cache.write_bytes(encode_cache({"x": 1.0}))
    with pytest.raises(RequestError, match="keep_fp16 can rank layers only by running images"):
        check_request(request(calibration_cache=cache, keep_fp16="auto"))


def test_nan_image_is_refused_before_anything_runs(residual_network: CanonicalGraph, image_folder: Path) -> None:
    np.save(image_folder / "image3.npy", np.full((3, 8, 8), np.nan, np.float32))
    with pytest.raises(DataError, match=r"image3.npy holds 192 values that are NaN"):
        quantize_network(residual_network, request(calibration_data=image_folder), Silent())


def test_three_images_are_too_few(residual_network: CanonicalGraph, image_folder: Path) -> None:
    with pytest.raises(DataError, match="gives 3 calibration images, expected at least 4"):
        quantize_network(residual_network, request(calibration_data=image_folder, calibration_count=3), Silent())


def test_layers_kept_by_name(residual_network: CanonicalGraph, image_folder: Path) -> None:
    report = quantize_network(residual_network, request(calibration_data=image_folder, keep_fp16="c2, c5"), Silent())
    assert report.kept == ("c2", "c5", "y")


def test_a_layer_that_does_not_exist(residual_network: CanonicalGraph, image_folder: Path) -> None:
    with pytest.raises(RequestError, match=r"keep_fp16 names 'c22'.*did you mean 'c2'"):
        quantize_network(residual_network, request(calibration_data=image_folder, keep_fp16="c22"), Silent())


def test_the_worst_layers_are_kept(residual_network: CanonicalGraph, image_folder: Path) -> None:
    report = quantize_network(residual_network, request(calibration_data=image_folder, keep_fp16="2"), Silent())
    assert len(report.ranking) == 5
    assert set(report.kept) == {gain.layer for gain in report.ranking[:2]} | {"y"}
    assert sum(gain.share for gain in report.ranking) == pytest.approx(1.0)
    assert [g.share for g in report.ranking] == sorted((g.share for g in report.ranking), reverse=True)
    assert report.to_dict()["ranking"][0]["layer"] == report.ranking[0].layer


def test_int8_input_needs_a_quantized_first_layer(residual_network: CanonicalGraph, image_folder: Path) -> None:
    values = {"calibration_data": image_folder, "input_dtype": "int8"}
    report = quantize_network(fresh(residual_network), request(**values), Silent())
    assert report.input_scale is not None
    with pytest.raises(RequestError, match="needs a first convolution in int8"):
        quantize_network(fresh(residual_network), request(**values, keep_fp16="c1"), Silent())


def test_the_whole_detector_is_quantized(toy_detector) -> None:  # type: ignore[no-untyped-def]
    network = toy_detector.network(toy_detector.model())
    asked = request(network="retinanet", random_weights=0, calibration_data="random", calibration_count=4)
    report = quantize_network(network, asked, Silent())
    assert report.kept == ()
    assert report.quantized_layers == report.layers == sum(n.op_type == "Conv" for n in network.model.graph.nodes)
    assert [info.name for info in network.model.graph.outputs][:1] == ["cls_0"]


@pytest.mark.slow
@pytest.mark.parametrize("input_dtype", ["fp32", "int8"])
def test_tensorrt_rtx_builds_resnet50(input_dtype: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="builds with TensorRT-RTX")
    from cmx4trt.backends import builder_for

    values = {"random_weights": 0, "calibration_data": "random", "calibration_count": 4, "batch_size": 8}
    asked = request(**values, calibration_method="minmax", input_dtype=input_dtype)
    network = network_from_model(model_from_seed("resnet50", 0), spec_of("resnet50"), asked)
    quantize_network(network, asked, Silent())
    engine = builder_for("tensorrt-rtx").build(prepared_from_network(network, asked), asked, Silent(), lambda: False)
    float16_bytes = 51e6
    assert memoryview(engine.data).nbytes < 0.75 * float16_bytes


def test_every_activation_of_the_placement_is_observed(resnet50: CanonicalGraph) -> None:
    placement = place(resnet50.model.graph)
    assert len(placement.activations) == len(set(placement.activations)) == 55
