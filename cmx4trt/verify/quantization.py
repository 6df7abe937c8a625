"""Measures what INT8 changes: the quantized graph against the float32 one, on images that it was not calibrated with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log10
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED
from cmx4trt.images.int8 import quantized_image
from cmx4trt.ir.onnx_file import EncodedGraph, with_output
from cmx4trt.networks import network_of_spec
from cmx4trt.networks.base import Outputs, Results
from cmx4trt.requests.build import BuildRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session

MIN_SQNR_DB = 10.0
"""Outputs whose error exceeds a tenth of their energy are no longer those of the network. Sound INT8 networks lie at 20 to
45 dB (ResNet-50, random weights: 44 dB; without bias correction, and in other tools, 35 dB), wrong scales below 5 dB."""

FLOOR_SQNR_DB = 3.0
"""Below this an output is half noise, whatever the images: no engine is published. Sound caches on synthetic images lie above the
limit itself (measured on the networks of benchmarks/int8_accuracy.py); one range flipped to nothing gives 0 dB."""

MIN_AGREEMENT = 0.5
"""Of a detector whose heads are not among the outputs (an engine) only the detections can be compared. INT8 keeps more than
nine tenths of a trained network's (MLPerf accepts a loss of 1 % of mAP); where less than half are found again it is another
network. Random weights show nothing here: their best scores are tied, and ONNX Runtime's own two ways to compute one INT8
RetinaNet share 15 % of the detections (measured), as many as INT8 and float32 do."""


_REDUCED = "_float16"
"""Ends the names of values that graph.precision computes in float16."""


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
    was measured too.
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

    @property
    def verdict(self) -> str:
        """PASSED where every output keeps its SQNR (a NaN does not), or, without such outputs, enough detections are found
        again. Synthetic images can show that graphs agree, but not that they differ where it matters: then SKIPPED, unless
        nothing is left of an output."""
        if any(value is not None and not value >= FLOOR_SQNR_DB for value in self.sqnr_db.values()):
            return FAILED
        if self.sqnr_db:
            good = all(value is None or value >= self.limit_db for value in self.sqnr_db.values())
            telling = not self.synthetic
        else:
            good = self.agreement is not None and self.agreement >= self.limit_agreement
            telling = self.trained and not self.synthetic
        if good:
            return PASSED
        return FAILED if telling else SKIPPED

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        method = "ONNX Runtime: the INT8 graph given to the builder against the float32 graph"
        values = {name: value for name, value in asdict(self).items() if name != "float32_graph" or value is not None}
        return {**values, "verdict": self.verdict, "method": method}

    def sentence(self) -> str:
        """The measurement in words."""
        kind = "synthetic" if self.synthetic else "held-out" if self.held_out else "calibration"
        share = "none" if self.agreement is None else f"{self.agreement:.1%}"
        found = f"{share} of {self.agreement_of} agree"
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
) -> QuantizationAccuracy:
    """Compare ``graph``, the bytes given to the builder, with ``reference``, the same network prepared in float32.

    ``input_scale`` is that of an int8 input; ``engine``, where given, runs in place of the graph it was built from.
    """
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    network = network_of_spec(graph.spec)
    results = network.results(graph, request.graph_options())
    values = results.values if engine is None else ()  # an engine has the outputs it was built with
    exact = OnnxRuntimeSession.from_graph(_with_values(reference, values))
    rounded = engine or OnnxRuntimeSession.from_graph(_with_values(graph, values))
    found = measure_quantization(exact, rounded, evidence, network.int8_images, results, input_scale)
    return replace(found, trained=request.random_weights is None)


def measure_quantization(
    reference: Session,
    candidate: Session,
    evidence: Evidence,
    count: int,
    results: Results,
    input_scale: float | None = None,
) -> QuantizationAccuracy:
    """Run both on the first ``count`` images and compare the raw ``results`` that both have among their outputs, and what they
    mean."""
    tally, total = _Tally(results), min(count, len(evidence.images))
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
    )


def sqnr_db(signal: float, noise: float) -> float | None:
    """10 log10 (signal / noise) of two energies; None where there is no noise."""
    if noise == 0:
        return None
    return 10 * log10(signal / noise) if signal > 0 else float("-inf")


class _Tally:
    """Sums over images."""

    def __init__(self, results: Results) -> None:
        self.agreed = self.compared = 0
        self._results = results
        self._energies: dict[str, tuple[float, float]] = {}

    def add(self, expected: Outputs, got: Outputs) -> None:
        agreed, compared = self._results.count_agreeing(expected, got)
        self.agreed += agreed
        self.compared += compared
        found = {name.removesuffix(_REDUCED): name for name in got}
        for name in self._results.values:
            if name in expected and name in found:
                self._add_energies(name, expected[name], got[found[name]])

    def _add_energies(self, name: str, expected: NDArray[Any], got: NDArray[Any]) -> None:
        import numpy as np

        exact = expected.astype(np.float64)
        signal, noise = self._energies.get(name, (0.0, 0.0))
        error = got.astype(np.float64) - exact
        self._energies[name] = (signal + float(np.square(exact).sum()), noise + float(np.square(error).sum()))

    def sqnr_db(self) -> dict[str, float | None]:
        return {name: sqnr_db(*energies) for name, energies in sorted(self._energies.items())}


def _with_values(graph: PreparedGraph, names: Sequence[str]) -> EncodedGraph:
    """The graph's bytes with these values among the outputs."""
    encoded, produced = graph.encoded, graph.model.graph.producers()
    message = encoded.message
    for name in names:
        message = with_output(message, name if name in produced else f"{name}{_REDUCED}")
    return replace(encoded, message=message)


def _as_input(session: Session, image: NDArray[np.float32], scale: float | None) -> NDArray[Any]:
    dtype = session.input_dtype(session.inputs[0])
    if dtype == "int8":
        assert scale is not None, "an int8 input needs its scale"
        return quantized_image(image, scale)
    return image.astype(dtype)
