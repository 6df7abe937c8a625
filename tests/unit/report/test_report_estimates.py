"""Estimates by hand, and the table of GPUs."""

from __future__ import annotations

from itertools import permutations

import pytest

from cmx4trt.backends import backend_of
from cmx4trt.backends.facts import PRECISIONS
from cmx4trt.devices.gpus import GPUS, Gpu, gpu_of_device, gpu_of_name
from cmx4trt.errors import RequestError
from cmx4trt.graph.layers import Layer
from cmx4trt.report.estimates import estimate_layers
from cmx4trt.report.facts import gpus_of_engine, order_of_precision
from cmx4trt.report.gpu_choice import gpu_of_engines


class Destination:
    """What an engine is for, as its facts tell it."""

    def __init__(self, builder: str, target: str, device: str) -> None:
        self.gpu_that_ran = gpu_of_device(device)
        self.gpus = gpus_of_engine(backend_of(builder), target, self.gpu_that_ran)


GPU = Gpu("test", "none", "8.9", {"fp32": 1.0, "fp16": 2.0}, 100.0, "a test")
HEAVY = Layer("heavy", "Conv", "fp16", [1], 10**12, 0, 10**9)
LIGHT = Layer("light", "Conv", "fp16", [1], 10**6, 10**9, 10**9)


def test_the_longer_of_arithmetic_and_memory_counts() -> None:
    estimate = estimate_layers([HEAVY, LIGHT], GPU, 1)
    assert estimate is not None
    assert [layer.limit for layer in estimate.layers] == ["arithmetic", "memory"]
    assert [layer.seconds for layer in estimate.layers] == pytest.approx([1.0, 0.02])
    assert estimate.seconds == pytest.approx(1.02)
    assert estimate.memory_share == pytest.approx(0.02 / 1.02)
    assert estimate.most_images_per_second == pytest.approx(1 / (1 + 1e-6))


def test_weights_are_read_once_for_a_batch() -> None:
    estimate = estimate_layers([LIGHT], GPU, 4)
    assert estimate is not None
    assert estimate.seconds == pytest.approx((10**9 + 4 * 10**9) / 1e11)
    assert estimate.images_per_second == pytest.approx(4 / 0.05)
    assert estimate.layers[0].intensity == pytest.approx(2 * 4 * 10**6 / (5 * 10**9))


def test_no_estimate_without_a_published_rate_or_layers() -> None:
    assert estimate_layers([Layer("a", "Conv", "int8", [1], 1, 1, 1)], GPU, 1) is None
    assert estimate_layers([], GPU, 1) is None
    assert estimate_layers([Layer("a", "Cast", "int8", [1], 0, 1, 1)], GPU, 1) is not None  # moves, computes nothing


def test_an_estimate_says_what_it_is() -> None:
    estimate = estimate_layers([HEAVY], GPU, 2)
    assert estimate is not None
    shown = estimate.to_dict()
    assert shown["kind"] == "estimate (roofline), not a measurement"
    assert shown["seconds_per_batch"] == pytest.approx(2.0)
    assert shown["images_per_second"] == pytest.approx(1.0)


def test_the_table_is_plausible() -> None:
    assert {gpu.architecture for gpu in GPUS} >= {"Turing", "Ampere", "Ada", "Hopper", "Blackwell"}
    for gpu in GPUS:
        rates = gpu.tera_per_second
        assert rates["fp32"] < rates["fp16"] < rates["int8"], gpu.name
        assert rates["int8"] == pytest.approx(2 * rates["fp16"], rel=0.015), gpu.name  # tensor cores of all generations
        bf16 = rates.get("bf16", rates["fp16"]) / rates["fp16"]  # accumulated in float32, half of it on GeForce
        assert min(abs(bf16 - 1), abs(bf16 - 0.5)) < 1e-3, gpu.name
        assert gpu.source.startswith("NVIDIA")


@pytest.mark.parametrize("name", ["RTX 4090", "rtx4090", "NVIDIA GeForce RTX 4090", "Rtx-4090"])
def test_names_of_gpus(name: str) -> None:
    assert gpu_of_name(name).name == "RTX 4090"


def test_an_unknown_gpu() -> None:
    with pytest.raises(RequestError, match=r"gpu is 'RTX 4091', expected one of T4, .*; did you mean 'RTX 4090'\?"):
        gpu_of_name("RTX 4091")


@pytest.mark.parametrize(
    ("builder", "target", "device", "name"),
    [
        ("tensorrt-rtx", "sm80", "", "A100"),
        ("tensorrt-rtx", "sm121", "", "RTX 5090"),
        ("tensorrt-rtx", "portable", "TensorRT-RTX 1.7 on NVIDIA L4", "L4"),
        ("tensorrt-rtx", "portable", "TensorRT-RTX 1.7 on NVIDIA H200", "H200"),
        ("tensorrt", "ampere_plus", "Tesla T4", "T4"),
        ("tensorrt-rtx", "portable", "", "RTX 4090"),
        ("tensorrt-rtx", "sm75", "", "T4"),
        ("tensorrt-rtx", "sm80+sm86", "", "A40"),
        ("tensorrt-rtx", "sm120", "", "RTX 5090"),
        ("tensorrt", "current", "NVIDIA H200, compute capability 9.0", "H200"),
        ("tensorrt", "current", "NVIDIA L40S", "L40S"),
        ("tensorrt", "current", "NVIDIA L4", "L4"),
        ("common-code", "current", "", "H100"),
    ],
)
def test_the_gpu_that_fits_an_engine(builder: str, target: str, device: str, name: str) -> None:
    assert gpu_of_engines([Destination(builder, target, device)]).name == name


@pytest.mark.parametrize(
    ("destinations", "name"),
    [
        ([("tensorrt-rtx", "portable", ""), ("tensorrt-rtx", "sm80+sm86", "")], "A40"),
        ([("tensorrt-rtx", "portable", ""), ("tensorrt", "current", "")], "RTX 4090"),
        ([("tensorrt-rtx", "sm89", ""), ("tensorrt-rtx", "sm120", ""), ("tensorrt-rtx", "portable", "")], "RTX 4090"),
        ([("tensorrt-rtx", "portable", ""), ("tensorrt-rtx", "portable", "NVIDIA L4")], "L4"),
        (
            [("tensorrt", "current", "NVIDIA H200"), ("tensorrt-rtx", "sm89", ""), ("tensorrt-rtx", "sm89", "")],
            "RTX 4090",
        ),
    ],
)
def test_the_gpu_that_most_engines_can_run_on(destinations: list[tuple[str, str, str]], name: str) -> None:
    for order in permutations(Destination(*words) for words in destinations):
        assert gpu_of_engines(order).name == name


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA T400", None),
        ("", None),
    ],
)
def test_the_gpu_of_a_device(device: str, name: str | None) -> None:
    found = gpu_of_device(device)
    assert (found and found.name) == name


def test_precisions_stand_in_the_order_of_the_options() -> None:
    shown = sorted(["int8", "int64", "fp16", "bool", "bf16", "fp32"], key=order_of_precision)
    assert shown == [*PRECISIONS, "bool", "int64"]


def test_gpus_an_engine_can_be_for() -> None:
    native = {gpu.name for gpu in gpus_of_engine(backend_of("tensorrt"), "current", gpu_of_name("H200"))}
    assert native == {"H100", "H200"}, "other compute capabilities cannot run it"
    assert "T4" not in {gpu.name for gpu in gpus_of_engine(backend_of("tensorrt"), "ampere_plus")}
    assert [gpu.name for gpu in gpus_of_engine(backend_of("tensorrt-rtx"), "sm75+sm120")] == ["T4", "RTX 5090"]
    assert "H100" not in {gpu.name for gpu in gpus_of_engine(backend_of("tensorrt-rtx"), "portable")}
    assert "H100" in {gpu.name for gpu in gpus_of_engine(None, "anything")}, "of an unknown backend nothing is known"
    assert "H100" in {gpu.name for gpu in gpus_of_engine(backend_of("tensorrt"), "current")}
