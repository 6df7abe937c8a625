"""Tuning measures every kernel that can compute an operation, and is refused early where that cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from cmx4trt.backends import backend_of
from cmx4trt.backends.hopper import Hopper
from cmx4trt.backends.hopper.candidates import classifier_signature, signature_of
from cmx4trt.backends.hopper.choices import Choices, choices_from_json, shipped_choices
from cmx4trt.backends.hopper.compiler import Compiled, Resources
from cmx4trt.backends.hopper.network import Classifier, Convolution, Network
from cmx4trt.backends.hopper.options import SHIPPED
from cmx4trt.backends.hopper.packing import Weights
from cmx4trt.backends.hopper.schedule import Types, schedule
from cmx4trt.backends.hopper.site import Site
from cmx4trt.backends.hopper.tune import STAGE, options_of, variants
from cmx4trt.base.progress import Silent
from cmx4trt.errors import DeviceError, MissingSoftwareError, UnsupportedError
from cmx4trt.requests.build import BuildRequest


class Steps(Silent):
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def step(self, name: str, done: int, total: int) -> None:
        self.steps.append((name, done, total))


def launched_alone(network: Network) -> set[str]:
    """Signatures of convolutions and matrix products that no kernel computes together with others in every case."""
    site, found = Site(network, Weights()), set()
    named = {operation.name: operation for operation in network.operations}
    for variant in variants(network):
        for launch in schedule(network, 1, Types("int8"), Choices("", {1: variant})).plan.program(1).launches:
            operation = named.get(launch.operations[0])
            if len(launch.operations) == 1 and isinstance(operation, Convolution):
                found.add(signature_of(site, operation))
            if isinstance(operation, Classifier):
                found.add(classifier_signature(operation))
    return found


def request(**values: object) -> BuildRequest:
    common = {"builder": "hopper", "random_weights": 0, "calibration_data": "random", "batch_size": 2}
    return BuildRequest.from_values({**common, **values})


@pytest.fixture
def no_work(small: ModuleType, gpu: Any, stand_in: Callable[..., None]) -> None:
    """The stand-in is the GPU here, its kernels compute nothing, and nothing is compiled."""
    cubin = Compiled(small.CUBIN, Resources(0, 0, 0, 0, 0), ())

    class NoCompiler:
        def compile_all(self, kernels: Iterable[Any]) -> dict[str, Compiled]:
            names = [kernel.name for kernel in kernels]
            gpu.kernels = {**gpu.kernels, **dict.fromkeys(names, lambda *_: None)}
            return dict.fromkeys(names, cubin)

    new_compiler: Any = NoCompiler
    stand_in(Hopper(lambda index: gpu, new_compiler))


@pytest.mark.slow
def test_every_candidate_is_measured(no_work: None, gpu: Any, hopper_resnet50: Any) -> None:
    progress = Steps()
    tuning = backend_of("hopper").tune(lambda: hopper_resnet50.prepared, request(), progress)
    assert tuning.option == "kernel_choices"
    found = choices_from_json(tuning.content)
    assert found.gpu == "NVIDIA H100 80GB HBM3"
    assert sorted(found.tables) == [1, 2], "the sizes up to the engine's, and its own"
    alone = launched_alone(hopper_resnet50.network)
    assert len(alone) > 15
    for table in found.tables.values():
        for signature, names in options_of(hopper_resnet50.network).items():
            assert set(names) <= set(table.milliseconds.get(signature, {})) or signature not in alone, signature
    assert progress.steps == [(STAGE, 1, 2), (STAGE, 2, 2)]
    assert ("measured on", "NVIDIA H100 80GB HBM3") in tuning.rows
    assert gpu.held() == {}


@pytest.mark.parametrize("card", SHIPPED)
def test_the_shipped_table_knows_every_candidate(hopper_resnet50: Any, card: str) -> None:
    """Otherwise a kernel that nobody measured is never chosen."""
    alone = launched_alone(hopper_resnet50.network)  # the others are always computed with their neighbors
    options = {s: names for s, names in options_of(hopper_resnet50.network).items() if s in alone}
    for batch, table in shipped_choices(card).tables.items():
        missing = {s: set(names) - set(table.milliseconds.get(s, {})) for s, names in options.items()}
        assert not any(missing.values()), (batch, missing)


def test_a_table_decides_which_kernels_are_launched(hopper_resnet50: Any) -> None:
    network = hopper_resnet50.network
    signature, names = next((s, names) for s, names in options_of(network).items() if s.startswith("classifier"))
    kernels = set()
    for name in names:
        choices = shipped_choices()
        table = choices.tables[1]
        forced = replace(table, milliseconds={**table.milliseconds, signature: {name: 0.0}})
        scheduled = schedule(network, 1, Types("int8"), replace(choices, tables={1: forced}))
        launches = scheduled.plan.program(1).launches
        kernels.add(next(one.kernel for one in launches if network.classifier.name in one.operations))
    assert len(kernels) == len(names)


def unwanted() -> Any:
    raise AssertionError("the graph is prepared although nothing can be measured")


def test_another_gpu_is_refused_before_anything_else(no_work: None, gpu: Any) -> None:
    gpu.facts = replace(gpu.facts, name="NVIDIA A100", capability=(8, 0))
    with pytest.raises(DeviceError, match=r"NVIDIA A100 has compute capability 8\.0"):
        backend_of("hopper").tune(unwanted, request(), Silent())


def test_without_a_gpu_it_is_refused_before_anything_else(stand_in: Callable[..., None]) -> None:
    def missing(index: int) -> Any:
        raise MissingSoftwareError("cuda-bindings cannot be imported; pip install 'cmx4trt[hopper]'")

    stand_in(Hopper(missing))
    with pytest.raises(MissingSoftwareError, match="cuda-bindings"):
        backend_of("hopper").tune(unwanted, request(), Silent())


@pytest.mark.parametrize("builder", ["tensorrt-rtx", "tensorrt", "common-code"])
def test_other_backends_leave_no_choice(builder: str) -> None:
    backend = backend_of(builder)
    with pytest.raises(UnsupportedError, match="has no alternative kernels to measure"):
        backend.tune(unwanted, request(), Silent())
