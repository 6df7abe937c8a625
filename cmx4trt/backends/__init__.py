"""The backends by name: the single list used by command line, CM, web UI and validation. Standard library only."""

from __future__ import annotations

from contextlib import AbstractContextManager

from cmx4trt.backends.base import Backend, GraphBuilder, ModelBuilder
from cmx4trt.backends.targets import capabilities_in, joined_target, meaning_of
from cmx4trt.base.registry import Registry
from cmx4trt.base.values import parse_text
from cmx4trt.devices.cards import described
from cmx4trt.errors import RequestError

_MODULES = ("cmx4trt.backends.tensorrt", "cmx4trt.backends.hopper", "cmx4trt.backends.common_code")
"""Each defines ``BACKENDS``. The order is that of help texts."""
MORE_BACKENDS = "CMX4TRT_BACKENDS"
"""Environment variable: additional modules with ``BACKENDS``, comma-separated, for backends outside this package."""

_REGISTRY: Registry[Backend] = Registry("BACKENDS", _MODULES, MORE_BACKENDS)


def all_backends() -> tuple[Backend, ...]:
    """Every backend, in the order of help texts."""
    return tuple(_REGISTRY.known().values())


def names() -> tuple[str, ...]:
    """The values of ``--builder``."""
    return tuple(_REGISTRY.known())


def backend_of(name: str) -> Backend:
    """The backend called ``name``. Raises RequestError."""
    found = find_backend(name)
    if found is None:
        raise RequestError(f"there is no builder '{name}', expected one of {', '.join(names())}")
    return found


def find_backend(name: str) -> Backend | None:
    """The backend called ``name``, or None: manifests may name a backend of another installation."""
    return _REGISTRY.known().get(name)


def default_backend(device: str) -> Backend:
    """The default backend of requests for ``device``."""
    return next(backend for backend in all_backends() if device in backend.default_on)


def builder_for(name: str) -> GraphBuilder | ModelBuilder:
    """A builder of the backend called ``name``, for one build."""
    return backend_of(name).builder()


def parse_target(option: str, value: object, backend: Backend) -> str:
    """The target ``value`` for ``backend``, in canonical form: 'portable', 'current', 'sm86+sm89'. Raises RequestError.

    It is a comma-separated list of the backend's own words, generations, cards or compute capabilities.
    """
    parts = [part.strip() for part in parse_text(option, value).replace("+", ",").split(",") if part.strip()]
    own = backend.targets
    others = {word: names for one in all_backends() for word, names in one.targets.names.items()}
    if not parts:
        raise RequestError(f"{option} is empty, expected one or more of {own.expected}")
    target = joined_target(option, {name for part in parts for name in meaning_of(option, part, own, others)})
    _check_target(option, target, backend)
    return target


def _check_target(option: str, target: str, backend: Backend) -> None:
    """Check that a target is one of the backend's; for others, name the backend that supports them. Raises RequestError."""
    own, named = backend.targets, capabilities_in(target)
    alien = [capability for capability in named if capability not in own.capabilities]
    if alien and own.capabilities:
        raise RequestError(
            f"{option} includes {described(alien[0])}, which the builder {backend.name} does not support; "
            f"{how_to_build_for(alien[0], but=backend.name)}"
        )
    if alien:
        raise RequestError(
            f"{option} is {described(alien[0])}, but the builder {backend.name} builds for the GPU of the machine it runs on; "
            f"omit {option} there"
        )
    if not named and target not in own.names:
        raise RequestError(f"{option} is '{target}', expected {own.expected} with the builder {backend.name}")


def how_to_build_for(capability: str, but: str = "") -> str:
    """What to use instead of the backend ``but`` to get an engine for a compute capability, such as 'sm90'."""
    ways = [_way_to(one) for one in all_backends() if capability in one.serves and one.name != but]
    return f"use {', or '.join(ways)}" if ways else "no builder of this release supports it"


def _way_to(backend: Backend) -> str:
    """How to select a backend, without a GPU if possible."""
    device = next(iter(backend.devices))
    default = device in backend.default_on
    variations = f"_{device}" if default else f"_{device},_{backend.name}"
    flags = f"--builder={backend.name}" if device == "cpu" else f"--device={device} --builder={backend.name}"
    return f"{variations} ({flags}) on {'any machine' if device == 'cpu' else 'the machine with that GPU'}"


def registered(*backends: Backend) -> AbstractContextManager[None]:
    """Add backends, or replace those with the same names, inside the block."""
    return _REGISTRY.registered(*backends)
