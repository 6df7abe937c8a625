"""All kernels of the shipped schedules compile here, without a GPU, into code that keeps everything in registers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.backends.hopper.compiler import KERNELS, Compiler
from cmx4trt.backends.hopper.network import MaxPool
from cmx4trt.backends.hopper.plan import Kernel
from cmx4trt.backends.hopper.schedule import Types, schedule

pytest.importorskip("nvidia", reason="NVRTC is not installed (extra [hopper])")


def shipped_kernels(network: Any) -> dict[str, Kernel]:
    """Every kernel that some request's engine holds."""
    kernels = {}
    for padding in (0, 1):
        operations = tuple(replace(op, padding=padding) if isinstance(op, MaxPool) else op for op in network.operations)
        for types in (Types("int8"), Types("float32"), Types("float16", "float16")):
            plan = schedule(replace(network, operations=operations), 1024, types, shipped_choices()).plan
            kernels.update((kernel.name, kernel) for kernel in plan.kernels)
    return kernels


@pytest.mark.slow
def test_no_spills_and_no_serialised_products(hopper_resnet50: Any) -> None:
    compiled = Compiler().compile_all(shipped_kernels(hopper_resnet50.network).values())
    assert {name: one.resources for name, one in compiled.items() if one.resources.spills} == {}
    assert {name: one.warnings for name, one in compiled.items() if one.warnings} == {}


def test_every_kernel_file_is_in_use(hopper_resnet50: Any) -> None:
    used = {kernel.source for kernel in shipped_kernels(hopper_resnet50.network).values()}
    assert used == {path.name for path in Path(KERNELS).glob("*.cu")}


def test_every_kernel_file_says_what_is_resident_and_what_waits() -> None:
    """Files with barriers describe them at the head, and every compile-time constant is named there."""
    for path in Path(KERNELS).glob("*.cu"):
        text = path.read_text(encoding="utf-8")
        head = text.split("#include")[0]
        assert head.startswith("//"), path.name
        if "barrier_init" in text:
            assert "Resident" in head, path.name
            assert "Barriers:" in head, path.name


def test_the_constants_of_an_instance_are_those_its_file_names(hopper_resnet50: Any) -> None:
    for kernel in shipped_kernels(hopper_resnet50.network).values():
        head = (Path(KERNELS) / kernel.source).read_text(encoding="utf-8").split("#include")[0]
        assert all(name in head for name in kernel.constants), kernel
