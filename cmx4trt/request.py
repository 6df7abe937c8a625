"""The validated, frozen request made from option values.

Values arrive as text (from a shell, from CM) or as Python values (from the Python API).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cmx4trt.cards import RTX_CAPABILITIES, described, how_to_build_for
from cmx4trt.damage import parse_json
from cmx4trt.errors import RequestError
from cmx4trt.options import OPTIONS, OPTIONS_BY_NAME
from cmx4trt.records import readable
from cmx4trt.values import NATIVE_TARGETS, TARGETS, nearest

_OPTIONS_OF_INT8 = (
    "calibration_data",
    "calibration_list",
    "calibration_count",
    "calibration_method",
    "calibration_cache",
    "keep_fp16",
)
_OPTIONS_OF_BUILDER = {
    "builder_optimization_level": "tensorrt",
    "tiling_optimization_level": "tensorrt",
    "max_aux_streams": "tensorrt",
    "timing_cache": "tensorrt",
}


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
        parsed["builder"] = parsed["builder"] or ("tensorrt-rtx" if parsed["device"] == "cpu" else "common-code")
        parsed["precision"] = parsed["precision"] or ("int8" if parsed["builder"] == "common-code" else "fp16")
        parsed["target"] = parsed["target"] or ("portable" if parsed["builder"] == "tensorrt-rtx" else "current")
        request = cls(**parsed)
        request._check_combination()
        return request

    @staticmethod
    def values_from_json(text: str) -> dict[str, Any]:
        """Option values from what ``to_json`` wrote, or a subset of it. Raises RequestError."""
        try:
            values = parse_json(text)
        except ValueError as error:
            raise RequestError(f"the request is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise RequestError(f"the request is JSON of type {type(values).__name__}, expected an object")
        if isinstance(values.get("workspace_size"), int):
            values["workspace_size"] = f"{values['workspace_size']}B"
        return values

    def to_json(self) -> str:
        """The request as one JSON object; ``workspace_size`` in bytes."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    def summary(self) -> list[tuple[str, str]]:
        """Every option that is in effect with its value as text, in the order of ``OPTIONS``; unset ones are left out."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return [(name, readable(name, value)) for name, value in values if value is not None]

    def _check_combination(self) -> None:
        if self.model is not None and self.random_weights is not None:
            raise RequestError("model and random_weights exclude each other; give one of them")
        self._check_detection_options()
        if self.device == "cpu" and self.builder != "tensorrt-rtx":
            raise RequestError(
                f"builder {self.builder} needs a GPU; select the device cuda (_cuda) or the builder tensorrt-rtx"
            )
        self._check_int8_options()
        self._check_builder_options()

    def _check_int8_options(self) -> None:
        """Calibration belongs to int8 engines that this package quantizes itself (NVIDIA's code calibrates on its own)."""
        if self.precision == "int8" and self.builder != "common-code":
            if "sm75" in self.target.split("+"):
                raise RequestError(
                    "target holds sm75 (turing), for which TensorRT-RTX builds no int8 networks; leave it out or use fp16"
                )
            return
        for name in (*_OPTIONS_OF_INT8, *(["input_dtype"] if self.input_dtype == "int8" else [])):
            if getattr(self, name) is not None and not (name == "input_dtype" and self.builder == "common-code"):
                raise RequestError(
                    f"{name}={getattr(self, name)} is for precision int8 with the builders tensorrt-rtx and tensorrt; "
                    f"got {self.precision} with {self.builder}: leave it out"
                )

    def _check_builder_options(self) -> None:
        """Options of one builder are refused with another."""
        for name, builder in _OPTIONS_OF_BUILDER.items():
            if getattr(self, name) is not None and self.builder != builder:
                raise RequestError(f"{name} is for the builder {builder}, not {self.builder}; leave it out")
        self._check_target()

    def _check_target(self) -> None:
        """A target must be one of the builder's; for what another builder serves, that one is named."""
        capabilities = [sm for sm in self.target.split("+") if sm.startswith("sm") and sm not in NATIVE_TARGETS]
        if self.builder == "tensorrt-rtx":
            alien = [sm for sm in capabilities if sm not in RTX_CAPABILITIES]
            if alien:
                raise RequestError(
                    f"target holds {described(alien[0])}, which the builder {self.builder} does not serve; "
                    f"{how_to_build_for(alien[0], but=self.builder)}"
                )
            if self.target in NATIVE_TARGETS[1:]:
                expected = f"{', '.join(TARGETS)}, compute capabilities or names of cards"
                raise RequestError(f"target is '{self.target}', expected {expected} with the builder {self.builder}")
        elif capabilities:
            raise RequestError(
                f"target is {described(capabilities[0])}, but the builder {self.builder} builds for the GPU of the machine it "
                "runs on; leave target out there"
            )
        elif self.target not in (native := NATIVE_TARGETS if self.builder == "tensorrt" else NATIVE_TARGETS[:1]):
            raise RequestError(
                f"target is '{self.target}', expected {', '.join(native)} with the builder {self.builder}"
            )

    def _check_detection_options(self) -> None:
        if self.network != "retinanet":
            for name in ("input_range", "postprocess", "nms_offset"):
                if getattr(self, name) != OPTIONS_BY_NAME[name].default:
                    raise RequestError(f"{name} is for retinanet, not {self.network}; leave it out")
        elif self.postprocess != "none" and self.output_dtype != "fp32":
            raise RequestError(
                f"output_dtype {self.output_dtype} cannot hold boxes: float16 steps are half a pixel at 800; use fp32"
            )
