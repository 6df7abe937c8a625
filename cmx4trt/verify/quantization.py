"""Measures what INT8 changes: the quantized graph against the float32 one, on images that it was not calibrated with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED
from cmx4trt.graph.judge import LayerJudgement, NonFinite, WatchedSession, judge_layers
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.images.int8 import quantized_image
from cmx4trt.ir.model import DType, Model
from cmx4trt.ir.onnx_file import EncodedGraph, with_output
from cmx4trt.networks import network_of_spec
from cmx4trt.networks.base import Outputs, QuantizedFile, Results
from cmx4trt.networks.figures import Int8Figures, LayerFigures
from cmx4trt.requests.build import BuildRequest
from cmx4trt.verify.tally import REDUCED, Tally

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session

    _Side = Session | QuantizedFile | WatchedSession

MIN_SQNR_DB = 10.0
"""Outputs whose error exceeds a tenth of their energy are no longer those of the network. Sound INT8 networks lie at 20 to
45 dB (ResNet-50, random weights: 44 dB; without bias correction, and in other tools, 35 dB), wrong scales below 5 dB."""

FLOOR_SQNR_DB = 3.0
"""Below this an output is half noise, whatever the images: no engine is published. Sound caches on synthetic images lie above the
limit itself (measured on the networks of benchmarks/int8_accuracy.py); one range flipped to nothing gives 0 dB."""

NOISE_KEEPS = 0.7
"""Where noise of INT8's own energy in the heads leaves fewer detections than this, their agreement tells nothing."""
MIN_AGREEMENT = 0.5
"""Of a detector whose heads are not among the outputs (an engine) only the detections can be compared. INT8 keeps more than
nine tenths of a trained network's (MLPerf accepts a loss of 1 % of mAP); where less than half are found again it is another
network. Random weights show nothing here: their best scores are tied, and ONNX Runtime's own two ways to compute one INT8
RetinaNet share 15 % of the detections (measured), as many as INT8 and float32 do."""

_NO_FIGURES = ("layers", "non_finite")
"""Fields of an accuracy that are not among its figures, or in another form."""


class Images(Protocol):
    """Images [1, C, H, W] float32 by index."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: int) -> NDArray[np.float32]:
        """One image."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The images to measure on: ``held_out`` is false where the network was calibrated with them, ``synthetic`` true where
    they are made up because there are none."""

    images: Images
    held_out: bool = True
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class QuantizationAccuracy:
    """What was measured over ``images`` images.

    ``sqnr_db``: output -> 10 log10 of signal over error energy (None: equal bit for bit); ``agreement``: part of the
    images with the same class, or of the float32 detections that are found again (None: there were none to find).
    ``trained``: whether the weights are. ``float32_graph``: how the float32 graph agrees with the original model, where that
    was measured too. ``agreement_of_noise``: how many detections are found again where the raw results are off by as much noise:
    what a right network of this error has, or, where it is little, that detections cannot tell (random weights' best scores are
    tied). ``layers``: the graph's against those of the same network quantized in float32. ``consistent``: whether what the
    outputs mean follows from the raw results, and each image of a batch has its own. ``non_finite``: a value of the graph that
    was not finite on one of the images.
    """

    images: int
    held_out: bool
    synthetic: bool
    sqnr_db: Mapping[str, float | None]
    agreement: float | None
    agreement_of: str
    limit_db: float = MIN_SQNR_DB
    limit_agreement: float = MIN_AGREEMENT
    trained: bool = True
    float32_graph: Mapping[str, Any] | None = None
    agreement_of_noise: float | None = None
    layers: LayerJudgement | None = None
    consistent: bool = True
    non_finite: NonFinite | None = None
    method: ClassVar[str] = "ONNX Runtime: the INT8 graph given to the builder against the float32 graph"

    @property
    def verdict(self) -> str:
        """PASSED where every output keeps its SQNR (a NaN does not) and, where detections can tell or there are no such outputs,
        enough of them are found again. Synthetic images can show that graphs agree, but not that they differ where it matters:
        then SKIPPED; but a wrong layer is wrong on any image, and so is an output of which nothing is left."""
        if (self.layers is not None and not self.layers.passed) or not self.consistent or self.non_finite is not None:
            return FAILED
        if any(value is not None and not value >= FLOOR_SQNR_DB for value in self.sqnr_db.values()):
            return FAILED
        if self.sqnr_db:
            good = all(value is None or value >= self.limit_db for value in self.sqnr_db.values())
            good = good and (not self.detections_tell or _share(self.agreement) >= self.limit_agreement)
            telling = not self.synthetic
        else:
            good = self.agreement is not None and self.agreement >= self.limit_agreement
            telling = self.trained and not self.synthetic
        if good:
            return PASSED
        return FAILED if telling else SKIPPED

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _NO_FIGURES}
        layers = None if self.layers is None else LayerFigures.from_dict(self.layers.to_dict())
        return Int8Figures(**values, layers=layers, verdict=self.verdict, method=self.method).to_dict()

    @property
    def detections_tell(self) -> bool:
        """Whether as many detections as a right network keeps were to be expected."""
        return self.agreement_of_noise is not None and self.agreement_of_noise >= NOISE_KEEPS

    def sentence(self) -> str:
        """The measurement in words."""
        if self.non_finite is not None:
            return self.non_finite.sentence()
        if self.layers is not None and not self.layers.passed:
            return self.layers.sentence()
        if not self.consistent:
            return f"the {self.agreement_of} are not those that the graph's own raw results lead to, or an image has another's"
        kind = "synthetic" if self.synthetic else "held-out" if self.held_out else "calibration"
        share = "none" if self.agreement is None else f"{self.agreement:.1%}"
        found = f"{share} of {self.agreement_of} agree"
        if self.detections_tell:
            found += f" (limit {self.limit_agreement:.0%})"
        elif self.sqnr_db and self.agreement_of_noise is not None:
            found += " (they cannot tell: noise alone would change as many)"
        if not self.sqnr_db:
            return f"{found} (limit {self.limit_agreement:.0%}), on {self.images} {kind} images"
        values = [value for value in self.sqnr_db.values() if value is not None]
        lowest = f"{min(values):.1f} dB" if values else "without error"
        return f"lowest SQNR {lowest} (limit {self.limit_db:g} dB), {found}, on {self.images} {kind} images"


def verify_quantized(
    reference: PreparedGraph,
    graph: PreparedGraph,
    evidence: Evidence,
    request: BuildRequest,
    input_scale: float | None = None,
    engine: Session | None = None,
    quantized: Model | None = None,
) -> QuantizationAccuracy:
    """Compare ``graph``, the bytes given to the builder, with ``reference``, the same network prepared in float32.

    ``input_scale`` is that of an int8 input; ``engine``, where given, runs in place of the graph it was built from.
    ``quantized``: the quantized network before anything of it was cast, which the layers of ``graph`` are held to.
    """
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    network = network_of_spec(graph.spec)
    results = network.results(reference, request.graph_options())
    values = results.values if engine is None else ()  # an engine has the outputs it was built with
    exact = OnnxRuntimeSession.from_graph(with_values(reference, values))
    trained = request.random_weights is None
    if engine is not None:
        found = measure_quantization(exact, engine, evidence, network.int8_images, results, input_scale)
        return replace(found, trained=trained)
    rounded = open_with_values(graph, values)
    found = measure_quantization(exact, rounded, evidence, network.int8_images, results, input_scale)
    own = has_own_images(rounded, evidence, input_scale, values) and answer_alike(results, reference, graph)
    layers = None if quantized is None else judge_quantized(graph.model, quantized, evidence, input_scale)
    consistent = found.consistent and own
    return replace(found, trained=trained, layers=layers, consistent=consistent, non_finite=rounded.non_finite())


def judge_quantized(graph: Model, quantized: Model, evidence: Evidence, scale: float | None) -> LayerJudgement:
    """The layers of ``graph`` against those of ``quantized``, on the first image."""
    names = {info.name: info.name for info in (*quantized.graph.inputs, *quantized.graph.outputs)}
    takes_int8 = quantized.graph.inputs[0].dtype is DType.INT8
    image = evidence.images.read(0)
    fed = quantized_image(image, scale) if takes_int8 and scale is not None else image
    return judge_layers(graph, quantized.copy(), names, fed)


def answer_alike(results: Results, reference: PreparedGraph, graph: PreparedGraph) -> bool:
    """Whether both graphs make the same of the same raw results, where they make anything of them."""
    return results.answer_alike is None or results.answer_alike(reference, graph)


def has_own_images(session: WatchedSession, evidence: Evidence, scale: float | None, values: Sequence[str]) -> bool:
    """Whether the second image of a batch has the raw results that it has alone, rather than the first one's."""
    import numpy as np

    if len(evidence.images) < 2:
        return True
    name = session.inputs[0]
    images = [_as_input(session, evidence.images.read(index), scale) for index in range(2)]
    first, second = (session.run({name: image}) for image in images)
    both = session.run({name: np.concatenate(images)})
    raw = [n for n in both if n.removesuffix(REDUCED) in values]

    def distance(one: Outputs, other: Outputs, row: int) -> float:
        return float(sum(np.square(one[n][0] - other[n][row], dtype=np.float64).sum() for n in raw) ** 0.5)

    return distance(second, both, 1) <= distance(second, first, 0) / 2


def measure_quantization(
    reference: _Side,
    candidate: _Side,
    evidence: Evidence,
    count: int,
    results: Results,
    input_scale: float | None = None,
) -> QuantizationAccuracy:
    """Run both on the first ``count`` images and compare the raw ``results`` that both have among their outputs, and what they
    mean."""
    tally, total = Tally(results), min(count, len(evidence.images))
    for index in range(total):
        image = evidence.images.read(index)
        expected, got = (s.run({s.inputs[0]: _as_input(s, image, input_scale)}) for s in (reference, candidate))
        tally.add(expected, got)
    return QuantizationAccuracy(
        images=total,
        held_out=evidence.held_out,
        synthetic=evidence.synthetic,
        sqnr_db=tally.sqnr_db(),
        agreement=tally.agreed / tally.compared if tally.compared else None,
        agreement_of=results.kind,
        agreement_of_noise=tally.agreement_of_noise(),
        consistent=tally.consistent,
    )


def open_with_values(graph: PreparedGraph, names: Sequence[str]) -> WatchedSession:
    """The graph in its own arithmetic, with these raw results among the outputs as float32."""
    return WatchedSession(graph.model, names, [computed_name(graph.model.graph, name) for name in names])


def _share(value: float | None) -> float:
    return 0.0 if value is None else value


def with_values(graph: PreparedGraph, names: Sequence[str]) -> EncodedGraph:
    """The graph's bytes with these values among the outputs."""
    encoded, produced = graph.encoded, graph.model.graph.producers()
    message = encoded.message
    for name in names:
        message = with_output(message, name if name in produced else f"{name}{REDUCED}")
    return replace(encoded, message=message)


def _as_input(session: _Side, image: NDArray[np.float32], scale: float | None) -> NDArray[Any]:
    dtype = session.input_dtype(session.inputs[0])
    if dtype == "int8":
        assert scale is not None, "an int8 input needs its scale"
        return quantized_image(image, scale)
    return image.astype(dtype)
