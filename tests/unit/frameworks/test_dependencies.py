"""What dependencies are told, and what they bring."""

from __future__ import annotations

import pytest

from cmx4trt.cm.hooks import CM
from cmx4trt.errors import ModelError
from cmx4trt.frameworks.dependencies import with_dependencies
from cmx4trt.requests.build import BuildRequest

FETCHED = {
    "CM_ML_MODEL_FILE_WITH_PATH": "/fetched/model.onnx",
    "CM_DATASET_PREPROCESSED_PATH": "/fetched/images",
    "CM_MLPERF_INFERENCE_SOURCE": "/fetched/source",
}


def found(**values: object) -> BuildRequest:
    return with_dependencies(CM, BuildRequest.from_values(values), FETCHED)


def test_what_was_fetched_takes_the_place_of_what_is_not_given() -> None:
    request = found(precision="int8")
    assert (request.model, request.calibration_data) == ("/fetched/model.onnx", "/fetched/images")
    code = found(builder="common-code", device="cuda")
    assert (code.value("inference_source"), code.calibration_data) == ("/fetched/source", None)


def test_what_is_given_stays() -> None:
    request = found(precision="int8", model="/mine.onnx", calibration_cache="/mine.cache")
    assert (request.model, request.calibration_data) == ("/mine.onnx", None)
    assert found(random_weights=1).model is None


def test_a_model_that_was_not_fetched_is_named() -> None:
    with pytest.raises(ModelError, match=r"get,ml-model,resnet50 provided no file \(CM_ML_MODEL_FILE_WITH_PATH\)"):
        with_dependencies(CM, BuildRequest.from_values({}), {})
