"""What the builder refuses before it reads a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cmx4trt.backends.hopper.requests import check_request
from cmx4trt.errors import UnsupportedError
from cmx4trt.requests.build import BuildRequest

REQUEST = BuildRequest.from_values({"precision": "int8", "random_weights": 0, "calibration_data": "random"})


def test_what_the_kernels_compute_passes() -> None:
    check_request(REQUEST)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"precision": "fp16"}, "computes in int8 only, but precision is fp16"),
        ({"keep_fp16": "auto"}, "keep_fp16=auto requests layers in float16; omit it"),
    ],
)
def test_what_they_do_not_compute_is_one_sentence(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(UnsupportedError, match=sentence):
        check_request(replace(REQUEST, **changes))
