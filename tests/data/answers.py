"""In place of LoadGen: keeps what it is answered."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from cmx4trt.networks import network_of
from cmx4trt.networks.base import ResponderFactory
from cmx4trt.requests.build import BuildRequest


def responder_for(network: str, outputs: tuple[str, ...], classes: int = 1000) -> ResponderFactory:
    declared = [{"name": "logits", "shape": ["N", classes]}]
    return network_of(network).answers(declared, BuildRequest.from_values({"network": network}))(outputs)


class Recorder:
    """The module ``lg``, mlperf_loadgen, but completion copies what LoadGen would have copied."""

    def __init__(self, lg: Any) -> None:
        self.QuerySampleResponse: Callable[..., Any] = lg.QuerySampleResponse
        self.answers: list[tuple[int, bytes]] = []

    def QuerySamplesComplete(self, responses: list[Any]) -> None:  # noqa: N802
        self.answers += [(r.id, ctypes.string_at(r.data, r.size) if r.size else b"") for r in responses]
