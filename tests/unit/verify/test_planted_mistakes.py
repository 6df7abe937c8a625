"""The matrix of benchmarks/mistakes.py, reduced: one small detector, float16, every mistake."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from cmx4trt.ir.onnx_file import encode_model

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SEED = 1
PLACELESS = {"bias forgotten", "stride in the wrong convolution"}
"""A detector this small may have no place for them."""


@pytest.fixture(scope="module")
def mistakes() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module("mistakes")


@pytest.mark.slow
def test_what_is_right_passes_and_every_mistake_is_refused(mistakes: ModuleType) -> None:
    planted = import_module("planted")
    model, topology = planted.small_detector(SEED)
    message = encode_model(model, None).message
    one, request = mistakes.prepared(model, topology.spec(), "fp16")
    for case in [mistakes.RIGHT, *planted.MISTAKES]:
        graph = mistakes.with_mistake(one.graph, case, SEED)
        if graph is None:
            assert case in PLACELESS
            continue
        verdict, sentence = mistakes.judged(one, graph, message, request)
        assert verdict == ("passed" if case == mistakes.RIGHT else "failed"), f"{case}: {sentence}"
        assert "\n" not in sentence
