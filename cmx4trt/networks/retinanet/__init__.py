"""RetinaNet, MLPerf's object detection: from a file with dynamic post-processing to a static graph with exact detections,
without a plugin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import RequestError
from cmx4trt.images.normalization import InputForm
from cmx4trt.networks.base import AccuracyTarget, Answers, Network, Outputs, ResponderFactory, Results, Verification
from cmx4trt.networks.retinanet.options import PIXELS, RAW, RetinaNetOptions
from cmx4trt.networks.retinanet.spec import SPEC, DetectorSpec

if TYPE_CHECKING:
    from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.images.lists import ListedImage, Truth
    from cmx4trt.ir.model import Model
    from cmx4trt.networks.base import OriginalMessage, QuantizedFile
    from cmx4trt.sessions.base import Session


class RetinaNet(Network):
    """See ``spec`` for the network itself.

    Its target: MLPerf Inference rules, table of benchmarks, for the images of OpenImages v6 with MLPerf's classes. Files of
    images come from two preprocessors of MLPerf: its reference leaves pixels 0..1, CM's generic one normalizes.
    """

    spec = SPEC
    metric = "mAP"
    label_file = "annotations/openimages-mlperf.json"
    accuracy = AccuracyTarget(reference=37.57, images=24781)
    own_options = RetinaNetOptions
    stored_as_pixels = True
    int8_images = 2

    @property
    def _detector(self) -> DetectorSpec:
        from cmx4trt.networks.retinanet.details import detector_spec

        return detector_spec(self.spec)

    def of_engine(self, notes: Mapping[str, Any]) -> Network:
        """With the classes, thresholds and counts of the file that the engine was built from."""
        from cmx4trt.networks.retinanet.details import with_parameters

        if "postprocessing" not in notes:
            return self
        return self.with_spec(with_parameters(self.spec, json.loads(notes["postprocessing"])))

    def check_request(self, request: GraphOptions) -> None:
        """Boxes need float32."""
        if RetinaNetOptions.of(request).postprocess != RAW and request.output_dtype != "fp32":
            raise RequestError(
                f"output_dtype {request.output_dtype} cannot hold boxes: float16 steps are half a pixel at 800; use fp32"
            )

    def model_from_seed(self, seed: int) -> Model:
        """See ``random_weights``."""
        from cmx4trt.networks.retinanet import random_weights

        return random_weights.model_from_seed(seed)

    def load(self) -> None:
        """See ``onnx_import``."""
        import cmx4trt.networks.retinanet.onnx_import  # noqa: F401

    def import_model(self, model: Model, options: GraphOptions) -> CanonicalGraph:
        """See ``onnx_import``."""
        from cmx4trt.networks.retinanet.onnx_import import network_from_detector

        return network_from_detector(model, self.spec, options)

    def gives_raw_results(self, options: GraphOptions) -> bool:
        """Without post-processing."""
        return RetinaNetOptions.of(options).postprocess == RAW

    def attach_outputs(self, graph: CanonicalGraph, options: GraphOptions) -> None:
        """See ``postprocess``."""
        from cmx4trt.networks.retinanet.postprocess import attach_outputs

        attach_outputs(graph, options)

    def compare(
        self, graph: PreparedGraph, original: OriginalMessage, options: GraphOptions, engine: Session | None = None
    ) -> Verification:
        """Detections, and the candidates they are chosen from."""
        from cmx4trt.networks.retinanet.comparison import verify_detector

        return verify_detector(graph, original, options, engine)

    def open_quantized_file(
        self, graph: PreparedGraph, original: OriginalMessage, options: GraphOptions
    ) -> QuantizedFile:
        """Its head tensors."""
        from cmx4trt.networks.retinanet.details import Detector
        from cmx4trt.networks.retinanet.file_run import QuantizedDetector

        assert isinstance(graph.details, Detector)
        return QuantizedDetector(original(graph.details.file_results[0]), graph.details, RetinaNetOptions.of(options))

    def results(self, graph: PreparedGraph, options: GraphOptions) -> Results:
        """The head tensors, the classes' without their prior, and the detections."""
        from cmx4trt.networks.retinanet.details import Detector, head_names
        from cmx4trt.networks.retinanet.detections import candidates_from_heads, detections_from_outputs
        from cmx4trt.networks.retinanet.heads_compared import class_priors
        from cmx4trt.networks.retinanet.made_heads import graphs_agree
        from cmx4trt.networks.retinanet.matching import are_tied, compare_exactly, found_again, total_agreement

        detector, own = graph.details, RetinaNetOptions.of(options)
        assert isinstance(detector, Detector)

        def count_found_again(expected: Outputs, found: Outputs) -> tuple[int, int]:
            both = (detections_from_outputs(o, detector.spec, own.nms_offset, detector) for o in (expected, found))
            return found_again(*both)

        classes, boxes = head_names(len(detector.levels))

        def follow(outputs: Outputs) -> bool:
            heads = {name: outputs[name] for name in (*classes, *boxes)}
            both = (detections_from_outputs(o, detector.spec, own.nms_offset, detector) for o in (heads, outputs))
            found = [compare_exactly(wanted, got, detector.spec) for wanted, got in zip(*both, strict=True)]
            rows = [candidates_from_heads(heads, image, detector) for image in range(len(heads[classes[0]]))]
            return total_agreement(found).agrees or are_tied(rows, detector.spec.score_threshold)

        def answer_alike(first: PreparedGraph, second: PreparedGraph) -> bool:
            return graphs_agree(first, second, own.nms_offset)

        priors = class_priors(graph.model.graph, classes)
        return Results((*classes, *boxes), "detections", count_found_again, priors, True, follow, answer_alike)

    def input_form(self, notes: Mapping[str, Any], scale: float | None, options: GraphOptions) -> InputForm:
        """MLPerf's normalization, unless its file was seen to have another, or the engine normalizes by itself."""
        mean, std = self.mean, self.std
        if RetinaNetOptions.of(options).input_range == PIXELS:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        elif "normalization" in notes:
            found = json.loads(notes["normalization"])
            (r, g, b), (std_r, std_g, std_b) = (map(float, found[name]) for name in ("mean", "std"))
            mean, std = (r, g, b), (std_r, std_g, std_b)
        return InputForm(mean, std, scale, self.stored_as_pixels)

    def answers(self, declared: Sequence[Mapping[str, Any]], options: GraphOptions) -> Answers:
        """The records of each sample's detections."""
        _, height, width = self.spec.input_shape
        own = RetinaNetOptions.of(options)

        def factory(outputs: Sequence[str]) -> ResponderFactory:
            from cmx4trt.networks.retinanet.postprocess import CANDIDATES, RECORDS
            from cmx4trt.networks.retinanet.records import records_of_nvidia, records_of_tensors
            from cmx4trt.networks.retinanet.responses import DetectionResponder

            if RECORDS in outputs:
                records = records_of_nvidia(RECORDS)
            elif CANDIDATES in outputs:
                records = records_of_tensors(self._detector, height, width, own.nms_offset)
            else:
                raise self.unanswerable(outputs)
            return lambda lg, size: DetectionResponder(lg, size, records)

        return factory

    def listed_images(self, path: str, names: Sequence[str]) -> list[ListedImage]:
        """Those of an annotation file in COCO's format."""
        from cmx4trt.networks.retinanet.annotations import images_of_annotations

        return images_of_annotations(path, self._detector.classes)

    def check_measurable(self) -> None:
        """It takes pycocotools."""
        from cmx4trt.networks.retinanet.accuracy import import_pycocotools

        import_pycocotools()

    def accuracy_of_answers(self, answers: Mapping[int, bytes], truth: Truth) -> float | None:
        """Mean average precision; None where no object is annotated in the images."""
        from cmx4trt.networks.retinanet.accuracy import map_of_answers
        from cmx4trt.networks.retinanet.annotations import read_annotations

        return map_of_answers(answers, read_annotations(truth.path, self._detector.classes), truth.positions)


NETWORKS = (RetinaNet(),)
