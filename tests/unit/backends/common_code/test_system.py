"""What NVIDIA's code calls this system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cmx4trt.errors import (
    MissingSoftwareError,
    UnsupportedError,
)
from cmx4trt.pipeline import build as pipeline

Make = Callable[..., Any]


def test_unregistered_systems_build_with_a_minimal_configuration(checkout: Make, request_for: Make) -> None:
    tree = checkout("r6.0")
    tree.know_system(None)
    tree.write("configs/minimal/Offline/resnet50.py", "EXPORTS = {}\n")
    manifest = pipeline.build(request_for(tree)).manifest
    assert manifest.builder.more["system_id"] == "UNREGISTERED_x86_64_NVIDIA_H200x1"


def test_system_name_names_the_system(checkout: Make, request_for: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = checkout("r5.1")
    tree.know_system(None)
    monkeypatch.setenv("SYSTEM_NAME", "mine")
    with pytest.raises(UnsupportedError, match=r"on the system mine; write configs/mine/Offline/resnet50\.py"):
        pipeline.build(request_for(tree))
    tree.write("configs/mine/Offline/resnet50.py", "EXPORTS = {}\n")
    assert pipeline.build(request_for(tree)).manifest.builder.more["system_id"] == "mine"


def test_code_that_does_not_import(checkout: Make, request_for: Make) -> None:
    tree = checkout("r4.1")
    tree.write("code/common/systems/system_list.py", "import pycuda_is_missing\n")
    with pytest.raises(
        MissingSoftwareError, match="does not start here: ModuleNotFoundError: No module named 'pycuda_is"
    ):
        pipeline.build(request_for(tree))
