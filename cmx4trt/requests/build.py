"""The validated, frozen request made from option values.

Values arrive as text (from a shell, from CM) or as Python values (from the Python API).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cmx4trt import backends, networks
from cmx4trt.backends.base import Backend
from cmx4trt.base.frozen import field, replace
from cmx4trt.base.options import Option
from cmx4trt.base.records import readable
from cmx4trt.base.values import nearest
from cmx4trt.errors import RequestError
from cmx4trt.graph.options import GraphOptions
from cmx4trt.requests.options import GENERAL_OPTIONS, GeneralOptions, build_options


class BuildRequest(GeneralOptions):
    """A validated request. ``own``: the values of the options that networks and backends own, by name."""

    own: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> BuildRequest:
        """A request from option values; absent and None mean the default. Raises RequestError."""
        options = {one.name: one for one in build_options()}
        for name in values:
            if name not in options:
                raise RequestError(f"there is no option '{name}'{nearest(str(name), tuple(options))}")
        parsed = {name: one.value_of(values.get(name)) for name, one in options.items()}
        if parsed["builder"] is None:
            parsed["builder"] = backends.default_backend(parsed["device"]).name
        backend = backends.backend_of(parsed["builder"])
        parsed["precision"] = parsed["precision"] or backend.default_precision
        parsed["target"] = backends.parse_target("target", parsed["target"] or backend.targets.default, backend)
        general = {one.name: parsed.pop(one.name) for one in GENERAL_OPTIONS}
        request = cls(**general, own=parsed)
        request._check_combination()
        return request

    @staticmethod
    def values_from_dict(record: object) -> dict[str, Any]:
        """Option values from what ``to_dict`` gave, or a subset of it. Raises RequestError where it is no such record."""
        if not isinstance(record, Mapping):
            raise RequestError(f"the request is of type {type(record).__name__}, expected an object of option values")
        options = {one.name: one for one in build_options()}
        return {n: options[n].kind.from_record(value) if n in options else value for n, value in record.items()}

    @classmethod
    def from_dict(cls, record: object) -> BuildRequest:
        """The request that ``to_dict`` gave the record of. Raises RequestError."""
        return cls.from_values(cls.values_from_dict(record))

    def to_dict(self) -> dict[str, Any]:
        """Every option by name, as JSON types, in the order of the help; ``workspace_size`` in bytes."""
        return {one.name: self.value(one.name) for one in build_options()}

    def value(self, name: str) -> Any:
        """The value of the option called ``name``, whoever declares it."""
        return self.own[name] if name in self.own else getattr(self, name)

    def changed(self, values: Mapping[str, Any]) -> BuildRequest:
        """The same request with other values of some options; nothing is checked."""
        own = {name: value for name, value in values.items() if name in self.own}
        general = {name: value for name, value in values.items() if name not in own}
        return replace(self, **general, own={**self.own, **own})

    def options_in_effect(self) -> tuple[Option, ...]:
        """The options that mean something to its network and its backend."""
        network, backend = networks.network_of(self.network), backends.backend_of(self.builder)
        return (*GENERAL_OPTIONS, *network.options, *backend.options)

    def graph_options(self) -> GraphOptions:
        """What of it shapes the graph."""
        return GraphOptions(self.model, self.precision, self.input_dtype, self.output_dtype, self.own)

    def summary(self) -> list[tuple[str, str]]:
        """Every option that has a value, with it as text, in the order of the help."""
        return [(name, readable(name, value)) for name, value in self.to_dict().items() if value is not None]

    def _check_combination(self) -> None:
        if self.model is not None and self.random_weights is not None:
            raise RequestError("model and random_weights exclude each other; give one of them")
        self._check_network()
        backend = backends.backend_of(self.builder)
        self._check_backend(backend)
        self._check_int8_options(backend)
        self._check_own_options(backend)
        backend.check_request(self)

    def _check_backend(self, backend: Backend) -> None:
        """Whether the backend builds on this device, in this precision, this network."""
        if self.device not in backend.devices:
            others = [other.name for other in backends.all_backends() if self.device in other.devices]
            need = (
                "needs a GPU; select the device cuda (_cuda)"
                if self.device == "cpu"
                else "builds without a GPU; use _cpu"
            )
            raise RequestError(f"builder {self.builder} {need} or the builder {' or '.join(others)}")
        if self.precision not in backend.precisions:
            raise RequestError(
                f"precision is {self.precision}, expected {' or '.join(backend.precisions)} with the builder {self.builder}"
            )
        if backend.networks and self.network not in backend.networks:
            raise RequestError(
                f"network is {self.network}, expected {' or '.join(backend.networks)} with the builder {self.builder}; "
                "use another builder"
            )

    def _check_int8_options(self, backend: Backend) -> None:
        """Calibration belongs to int8 engines that this package quantizes itself."""
        if self.precision == "int8" and backend.quantizes:
            return
        int8_input = self.input_dtype == "int8" and not backend.calibrates_itself
        of_int8 = [one.name for one in GENERAL_OPTIONS if one.precisions == ("int8",)]
        for name in (*of_int8, *(["input_dtype"] if int8_input else [])):
            if getattr(self, name) is not None:
                quantizing = [other.name for other in backends.all_backends() if other.quantizes]
                raise RequestError(
                    f"{name}={getattr(self, name)} is for precision int8 with the builders {_joined(quantizing)}; "
                    f"got {self.precision} with {self.builder}: leave it out"
                )

    def _check_own_options(self, backend: Backend) -> None:
        """Options of one backend are refused with another."""
        for other in backends.all_backends():
            for one in self._given_in_vain(other.options, backend.options):
                raise RequestError(f"{one.name} is for the builder {other.name}, not {self.builder}; leave it out")

    def _check_network(self) -> None:
        """Options of one network are refused with another, and what the network knows to be impossible."""
        network = networks.network_of(self.network)
        for other in networks.all_networks():
            for one in self._given_in_vain(other.options, network.options):
                raise RequestError(f"{one.name} is for {other.name}, not {self.network}; leave it out")
        network.check_request(self.graph_options())

    def _given_in_vain(self, options: Sequence[Option], meant: Sequence[Option]) -> Iterator[Option]:
        """Those of ``options`` that have another value than their default, and are not among those ``meant`` here."""
        names = {one.name for one in meant}
        for one in options:
            if one.refused_elsewhere and one.name not in names and self.own[one.name] != one.value_of(None):
                yield one


def _joined(names: list[str]) -> str:
    """'a, b and c'."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
