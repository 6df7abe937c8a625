"""A whole backend in one file: its engines are ONNX files that ONNX Runtime runs. docs/how-to/backend.md explains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.base import Backend, BuiltEngine
from cmx4trt.backends.facts import Check, Measurement, Section, Share, Tuning
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.targets import Targets
from cmx4trt.base.options import PATH, OwnOptions, choice, option
from cmx4trt.errors import RequestError

if TYPE_CHECKING:
    from cmx4trt.backends.flavor import QuantizationFlavor
    from cmx4trt.base.progress import Progress
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session


class ThrowawayOptions(OwnOptions):
    """Options of its own: declared here, and everywhere."""

    wrapping: str = option(
        choice(("paper", "string")), "what engines are wrapped in", default="paper", group="Wrapping"
    )
    bin: str | None = option(PATH, "folder of what was thrown away", group="Wrapping", shapes_engine=False)


class Throwaway(Backend):
    """For one imaginary GPU, and any CPU."""

    name = "throwaway"
    title = "Throw-away"
    about = "An ONNX file that ONNX Runtime runs"
    devices: Mapping[str, str] = {"cpu": "written ahead of time", "cuda": "written and run"}
    serves = ("sm90",)
    targets = Targets(
        names={"hopper": ("sm90",)},
        default="sm90",
        capabilities=("sm90",),
        meanings={"sm90": "Hopper GPUs, in imagination"},
    )
    precisions = ("fp32", "int8")
    default_precision = "fp32"
    networks = ("resnet50",)
    own_options = ThrowawayOptions

    def builder(self) -> Builder:
        return Builder()

    def flavor(self) -> QuantizationFlavor:
        from cmx4trt.backends.flavor import QuantizationFlavor
        from cmx4trt.ir.model import DType

        return QuantizationFlavor(rest=DType.FLOAT, unsigned=True)

    def open_session(self, engine: Any, cuda_graphs: bool = False) -> Session:
        from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession.from_bytes(bytes(engine))

    def check_request(self, request: BuildOptions) -> None:
        if request.copy_streams > 1:
            raise RequestError("the builder throwaway has one copy stream; leave copy_streams out")

    def check_engine(self, engine: Any, graph: PreparedGraph, session: Session | None) -> Sequence[Check]:
        from cmx4trt.ir.onnx_file import encode_model

        same = bytes(engine) == encode_model(graph.model, inline_bytes=None).message
        where = "not run" if session is None else "run"
        return [
            Check("equals its specification", same, f"{len(engine)} bytes compared, {where}", {"bytes": len(engine)})
        ]

    def measure(self, session: Session) -> Measurement:
        return Measurement("an imaginary GPU", session.max_batch or 2, 0.5)

    def tune(self, graph: Callable[[], PreparedGraph], request: BuildOptions, progress: Progress) -> Tuning:
        return Tuning("model", str(len(graph().model.graph.nodes)), (("measured", "everything"),))

    def sections(self, built: Mapping[str, Any], executed: Mapping[str, Any]) -> Sequence[Section]:
        rows = (("nodes", str(built.get("nodes")), Share(0.5, "half")),)
        return [Section("How it was thrown away", ("Without regret.",), ("what", "count", "share"), rows)]


class Builder:
    """Writes the prepared graph down."""

    name = "throwaway"

    def version(self) -> str:
        return "0.1"

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        return {}

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        return {"name": self.name, "version": self.version()}

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        from cmx4trt.ir.onnx_file import encode_model

        facts = {"nodes": len(graph.model.graph.nodes), "wrapped_in": ThrowawayOptions.of(request).wrapping}
        return BuiltEngine(encode_model(graph.model, inline_bytes=None).message, facts)


BACKENDS: tuple[Backend, ...] = (Throwaway(),)
