"""The networks by name: the one list that command line, CM, page and validation follow. Standard library only."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from cmx4trt.base.registry import Registry
from cmx4trt.errors import RequestError
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.networks.base import Network

if TYPE_CHECKING:
    from cmx4trt.ir.model import Model

_MODULES = ("cmx4trt.networks.resnet50", "cmx4trt.networks.retinanet")
"""Each has ``NETWORKS``. The order is that of help texts; the first is the default."""
MORE_NETWORKS = "CMX4TRT_NETWORKS"
"""Environment variable: further modules with ``NETWORKS``, comma-separated, for networks outside this package."""

_REGISTRY: Registry[Network] = Registry("NETWORKS", _MODULES, MORE_NETWORKS)


def all_networks() -> tuple[Network, ...]:
    """Every network, in the order of help texts."""
    return tuple(_REGISTRY.known().values())


def names() -> tuple[str, ...]:
    """What ``--network`` takes."""
    return tuple(_REGISTRY.known())


def network_of(name: str) -> Network:
    """The network called ``name``. Raises RequestError."""
    found = _REGISTRY.known().get(name)
    if found is None:
        raise RequestError(f"there is no network '{name}', expected one of {', '.join(names())}")
    return found


def network_of_spec(spec: ModelSpec) -> Network:
    """The network that ``spec`` names, in the sizes that it has."""
    return network_of(spec.name).with_spec(spec)


def spec_of(name: str) -> ModelSpec:
    """Names and sizes of the network called ``name``. Raises RequestError."""
    return network_of(name).spec


def model_from_seed(name: str, seed: int) -> Model:
    """The exact topology of the network with random weights drawn from ``seed``; nothing is read from a file."""
    return network_of(name).model_from_seed(seed)


def registered(*networks: Network) -> AbstractContextManager[None]:
    """Add networks, or replace those with the same names, inside the block."""
    return _REGISTRY.registered(*networks)
