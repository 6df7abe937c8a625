"""The models this package builds, by MLPerf name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cmx4trt.graph.spec import ModelSpec

if TYPE_CHECKING:
    from cmx4trt.ir.model import Model

_MODULES = {"resnet50": "cmx4trt.networks.resnet50.topology", "retinanet": "cmx4trt.networks.retinanet.spec"}


def spec_of(name: str) -> ModelSpec:
    """The data of the model called ``name`` (one of ``request.MODELS``)."""
    spec: ModelSpec = import_module(_MODULES[name]).SPEC
    return spec


def model_from_seed(name: str, seed: int) -> Model:
    """The exact topology of the model with random weights drawn from ``seed``; nothing is read from a file."""
    model: Model = import_module(_MODULES[name]).model_from_seed(seed)
    return model
