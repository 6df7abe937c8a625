"""Facts about each network in NVIDIA's code that do not depend on the release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """``calibration_map``: list of the calibration images; ``calibration_arrays``: folder in the scratch space that must contain
    all of them, created by ``preprocess``.

    ``mark``: a name inside the file that NVIDIA's exporter writes, if only that file can be built; ``marks``: different
    ones for some releases.
    """

    title: str
    how_to_get: str
    calibration_map: str
    calibration_arrays: str | None = None
    preprocess: str = ""
    mark: bytes | None = None
    marks: Mapping[str, bytes] = field(default_factory=dict)

    def mark_of(self, release: str) -> bytes | None:
        """The mark of the file for a release."""
        return self.marks.get(release, self.mark)


FILES: Mapping[str, NetworkFiles] = {
    "resnet50": NetworkFiles(
        title="ResNet-50",
        how_to_get='give --model=PATH of resnet50_v1.onnx (cmr "get ml-model resnet50 _onnx")',
        calibration_map="data_maps/imagenet/cal_map.txt",
        calibration_arrays="preprocessed_data/imagenet/ResNet50/fp32",
        preprocess='cmr "reproduce mlperf inference nvidia harness _preprocess_data _resnet50"',
    ),
    "retinanet": NetworkFiles(
        title="RetinaNet",
        how_to_get="make it with: make download_model BENCHMARKS=retinanet, in closed/NVIDIA",
        calibration_map="data_maps/open-images-v6-mlperf/cal_map.txt",
        # A raw head's output; in r2.1 the plugin's node.
        mark=b"classification_head_100",
        marks={"r2.1": b"EfficientNMS_TRT"},
    ),
}
