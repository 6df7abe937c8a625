"""The networks by name: the one list that command line, CM, page and validation follow. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from cmx4trt.errors import RequestError
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.networks.base import Network

if TYPE_CHECKING:
    from cmx4trt.ir.model import Model

_MODULES = ("cmx4trt.networks.resnet50", "cmx4trt.networks.retinanet")
"""Each has ``NETWORKS``. The order is that of help texts; the first is the default."""
MORE_NETWORKS = "CMX4TRT_NETWORKS"
"""Environment variable: further modules with ``NETWORKS``, comma-separated, for networks outside this package."""

_registry: dict[str, Network] = {}


def _known() -> dict[str, Network]:
    if not _registry:
        named = [name.strip() for name in os.environ.get(MORE_NETWORKS, "").split(",")]
        for module in (*_MODULES, *filter(None, named)):
            _registry.update({network.name: network for network in _networks_in(module)})
    return _registry


def _networks_in(module: str) -> tuple[Network, ...]:
    try:
        found: tuple[Network, ...] = import_module(module).NETWORKS
    except (ImportError, AttributeError) as error:
        if module in _MODULES:
            raise
        raise RequestError(
            f"{MORE_NETWORKS} names the module {module}, which does not offer NETWORKS ({error}); correct the variable"
        ) from error
    return found


def all_networks() -> tuple[Network, ...]:
    """Every network, in the order of help texts."""
    return tuple(_known().values())


def names() -> tuple[str, ...]:
    """What ``--network`` takes."""
    return tuple(_known())


def network_of(name: str) -> Network:
    """The network called ``name``. Raises RequestError."""
    found = _known().get(name)
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


@contextmanager
def registered(*networks: Network) -> Iterator[None]:
    """Adds networks, or puts them in the place of those with the same names, while the block runs."""
    before = dict(_known())
    _registry.update({network.name: network for network in networks})
    try:
        yield
    finally:
        _registry.clear()
        _registry.update(before)
