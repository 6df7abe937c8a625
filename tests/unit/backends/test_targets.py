"""The GPUs that an engine is built for: in canonical form, or with the backend that supports them."""

from __future__ import annotations

import re

import pytest

from cmx4trt.backends import backend_of, parse_target
from cmx4trt.errors import RequestError
from cmx4trt.requests.build import BuildRequest


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("portable", "portable"),
        ("Ada,sm86", "sm86+sm89"),
        ("sm120,turing", "sm75+sm120"),
        ("ampere", "sm80+sm86"),
        ("sm86+sm89", "sm86+sm89"),
    ],
)
def test_targets_are_canonical(text: str, target: str) -> None:
    assert parse_target("target", text, backend_of("tensorrt-rtx")) == target


@pytest.mark.parametrize("text", ["portable,sm86", "current,ada", "sm95", ",", "sm"])
def test_impossible_targets(text: str) -> None:
    with pytest.raises(RequestError, match="target"):
        parse_target("target", text, backend_of("tensorrt-rtx"))


@pytest.mark.parametrize("target", ["sm90", "h100", "H200", "hopper", "ada,h100", "NVIDIA H100 80GB HBM3"])
def test_a_hopper_card_gets_the_name_of_its_builder(target: str) -> None:
    with pytest.raises(RequestError) as caught:
        BuildRequest.from_values({"target": target})
    assert str(caught.value) == (
        "target includes sm90 (Hopper: H100, H200, …), which the builder tensorrt-rtx does not support; use _cuda,_tensorrt "
        "(--device=cuda --builder=tensorrt) on the machine with that GPU, or _cpu,_hopper (--builder=hopper) on any machine"
    )


@pytest.mark.parametrize(
    ("target", "said"), [("b200", "sm100 (Blackwell: B200"), ("v100", "no builder of this release")]
)
def test_other_cards_that_tensorrt_rtx_does_not_serve(target: str, said: str) -> None:
    with pytest.raises(RequestError, match=re.escape(said)):
        BuildRequest.from_values({"target": target})


def test_tensorrt_builds_for_its_own_gpu_only() -> None:
    with pytest.raises(
        RequestError, match=r"target is sm90 .*builds for the GPU of the machine it runs on; omit target"
    ):
        BuildRequest.from_values({"target": "h100", "device": "cuda", "builder": "tensorrt"})
