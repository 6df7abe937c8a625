"""RetinaNet: from a file with dynamic post-processing to a static graph with exact detections, without a plugin."""

from cmx4trt.graph.detector.network import network_from_detector
from cmx4trt.graph.detector.postprocess import attach_outputs

__all__ = ["attach_outputs", "network_from_detector"]
