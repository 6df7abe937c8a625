"""A network outside the package: three convolutions, ten classes, images of 32 x 32. docs/how-to/network.md shows it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cmx4trt.graph.spec import ModelSpec
from cmx4trt.networks.base import wrong_model
from cmx4trt.networks.classification import Classifier

if TYPE_CHECKING:
    from cmx4trt.graph.network import CanonicalGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.ir.model import Graph, Model

CONVOLUTIONS = 3


class Throwaway(Classifier):
    """What only this network knows."""

    spec = ModelSpec("throwaway", "Throw-away classifier", (3, 32, 32), largest_activation=16 * 32 * 32)
    classes = 10
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def import_model(self, model: Model, options: GraphOptions) -> CanonicalGraph:
        """Whatever the exporter called things, and however it wrote the last layer."""
        from cmx4trt.networks.classification.onnx_import import ClassifierForm, import_classifier

        form = ClassifierForm(64, (self.classes,), CONVOLUTIONS, grid=(8, 8), check_body=self._check_body)
        return import_classifier(model, self.spec, form)

    def _check_body(self, graph: Graph) -> None:
        found = Counter(node.op_type for node in graph.nodes)["Conv"]
        if found != CONVOLUTIONS:
            raise wrong_model(self.spec, f"{found} convolutions", str(CONVOLUTIONS))


NETWORKS = (Throwaway(),)
