"""What is laid into a checkout before it builds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.errors import (
    ModelError,
)
from cmx4trt.pipeline import build as pipeline

Make = Callable[..., Any]


def test_what_was_given_is_linked(checkout: Make, request_for: Make, tmp_path: Path) -> None:
    tree = checkout("r4.1")
    inference = tmp_path / "inference"
    (tree.root / "build/inference").rename(inference)
    (tree.scratch / tree.models["resnet50"]).unlink()
    model = tmp_path / "given.onnx"
    model.write_text("the given model")
    result = pipeline.build(request_for(tree, model=model, inference_source=inference))
    assert result.manifest.source.path == str(model)
    assert os.path.samefile(tree.scratch / tree.models["resnet50"], model)
    assert os.path.samefile(tree.root / "build/inference", inference)
    other = tmp_path / "other.onnx"
    other.write_text("another model")
    assert pipeline.build(request_for(tree, model=other)).manifest.source.path == str(other)


def test_a_file_in_the_place_of_the_model_stays(checkout: Make, request_for: Make, tmp_path: Path) -> None:
    tree = checkout("r4.1")
    model = tmp_path / "given.onnx"
    model.write_text("the given model")
    with pytest.raises(ModelError, match=r"not the file of --model=.*; move it away, or omit --model"):
        pipeline.build(request_for(tree, model=model))
    assert (tree.scratch / tree.models["resnet50"]).read_text().startswith("resnet50")
