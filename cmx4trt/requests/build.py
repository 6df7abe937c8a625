"""The validated, frozen request made from option values.

Values arrive as text (from a shell, from CM) or as Python values (from the Python API).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cmx4trt import backends, networks
from cmx4trt.backends.base import Backend
from cmx4trt.base.records import readable
from cmx4trt.base.values import nearest
from cmx4trt.errors import RequestError
from cmx4trt.graph.options import GraphOptions
from cmx4trt.requests.options import OPTIONS, OPTIONS_BY_NAME

_OPTIONS_OF_INT8 = (
    "calibration_data",
    "calibration_list",
    "calibration_count",
    "calibration_method",
    "calibration_cache",
    "keep_fp16",
)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A validated request; field by field what ``OPTIONS`` lists. Sizes in bytes, paths absolute."""

    network: str
    device: str
    builder: str
    precision: str
    scenario: str
    batch_size: int
    copy_streams: int
    model: str | None
    random_weights: int | None
    target: str
    workspace_size: int
    input_dtype: str
    output_dtype: str
    input_range: str
    postprocess: str
    nms_offset: bool
    calibration_data: str | None
    calibration_list: str | None
    calibration_count: int | None
    calibration_method: str | None
    calibration_cache: str | None
    keep_fp16: str | None
    common_code: str | None
    inference_source: str | None
    builder_optimization_level: int | None
    tiling_optimization_level: str | None
    max_aux_streams: int | None
    timing_cache: str | None
    kernel_choices: str | None
    verify: bool
    report: bool
    output_dir: str
    wait: int

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> BuildRequest:
        """A request from option values; absent and None mean the default. Raises RequestError."""
        for name in values:
            if name not in OPTIONS_BY_NAME:
                raise RequestError(f"there is no option '{name}'{nearest(str(name), tuple(OPTIONS_BY_NAME))}")
        parsed: dict[str, Any] = {}
        for option in OPTIONS:
            value = values.get(option.name)
            if value is None:
                value = option.default
            parsed[option.name] = None if value is None else option.parse(option.name, value)
        if parsed["builder"] is None:
            parsed["builder"] = backends.default_backend(parsed["device"]).name
        backend = backends.backend_of(parsed["builder"])
        parsed["precision"] = parsed["precision"] or backend.default_precision
        parsed["target"] = backends.parse_target("target", parsed["target"] or backend.targets.default, backend)
        request = cls(**parsed)
        request._check_combination()
        return request

    @staticmethod
    def values_from_dict(record: object) -> dict[str, Any]:
        """Option values from what ``to_dict`` gave, or a subset of it. Raises RequestError where it is no such record."""
        if not isinstance(record, Mapping):
            raise RequestError(f"the request is of type {type(record).__name__}, expected an object of option values")
        values = dict(record)
        if isinstance(values.get("workspace_size"), int):
            values["workspace_size"] = f"{values['workspace_size']}B"
        return values

    @classmethod
    def from_dict(cls, record: object) -> BuildRequest:
        """The request that ``to_dict`` gave the record of. Raises RequestError."""
        return cls.from_values(cls.values_from_dict(record))

    def to_dict(self) -> dict[str, Any]:
        """Every option by name, as JSON types; ``workspace_size`` in bytes."""
        return asdict(self)

    def graph_options(self) -> GraphOptions:
        """What of it shapes the graph."""
        return GraphOptions(**{f.name: getattr(self, f.name) for f in fields(GraphOptions)})

    def summary(self) -> list[tuple[str, str]]:
        """Every option that is in effect with its value as text, in the order of ``OPTIONS``; unset ones are left out."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return [(name, readable(name, value)) for name, value in values if value is not None]

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
        for name in (*_OPTIONS_OF_INT8, *(["input_dtype"] if int8_input else [])):
            if getattr(self, name) is not None:
                quantizing = [other.name for other in backends.all_backends() if other.quantizes]
                raise RequestError(
                    f"{name}={getattr(self, name)} is for precision int8 with the builders {_joined(quantizing)}; "
                    f"got {self.precision} with {self.builder}: leave it out"
                )

    def _check_own_options(self, backend: Backend) -> None:
        """Options of one backend are refused with another."""
        for other in backends.all_backends():
            for name in other.own_options:
                if name not in backend.own_options and getattr(self, name) is not None:
                    raise RequestError(f"{name} is for the builder {other.name}, not {self.builder}; leave it out")

    def _check_network(self) -> None:
        """Options of one network are refused with another, and what the network knows to be impossible."""
        network = networks.network_of(self.network)
        for other in networks.all_networks():
            for name in other.own_options:
                if name not in network.own_options and getattr(self, name) != OPTIONS_BY_NAME[name].default:
                    raise RequestError(f"{name} is for {other.name}, not {self.network}; leave it out")
        network.check_request(self.graph_options())


def _joined(names: list[str]) -> str:
    """'a, b and c'."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
