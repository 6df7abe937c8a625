"""ResNet-50 v1.5, MLPerf's image classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cmx4trt.networks.base import AccuracyTarget
from cmx4trt.networks.classification import Classifier
from cmx4trt.networks.resnet50.spec import CLASSES, SPEC

if TYPE_CHECKING:
    from cmx4trt.graph.network import CanonicalGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.ir.model import Graph, Model


class ResNet50(Classifier):
    """See ``topology`` for the network itself.

    MLPerf subtracts ``mean`` from pixels 0..255 (its pre_process_vgg); nothing is divided. Its target: MLPerf Inference rules,
    table of benchmarks, for the 50000 images of ImageNet 2012.
    """

    spec = SPEC
    classes = CLASSES
    accuracy = AccuracyTarget(reference=76.456, images=50000)
    mean = (123.68 / 255, 116.78 / 255, 103.94 / 255)
    std = (1 / 255, 1 / 255, 1 / 255)

    def model_from_seed(self, seed: int) -> Model:
        """See ``random_weights``."""
        from cmx4trt.networks.resnet50 import random_weights

        return random_weights.model_from_seed(seed)

    def load(self) -> None:
        """See ``onnx_import``."""
        import cmx4trt.networks.resnet50.onnx_import  # noqa: F401

    def import_model(self, model: Model, options: GraphOptions) -> CanonicalGraph:
        """See ``onnx_import``."""
        from cmx4trt.networks.resnet50.onnx_import import network_from_classifier

        return network_from_classifier(model, self.spec)

    def names_in_caches(self, graph: Graph) -> Mapping[str, str]:
        """See ``nvidia_names``."""
        from cmx4trt.networks.resnet50.nvidia_names import nvidia_names

        return nvidia_names(graph)


NETWORKS = (ResNet50(),)
