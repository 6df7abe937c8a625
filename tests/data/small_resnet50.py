"""The small classifier as ResNet-50, seeds included: CMX4TRT_NETWORKS=small_resnet50 puts it in its place."""

from __future__ import annotations

from small_network import SmallNetwork, small_model

from cmx4trt.base.frozen import replace
from cmx4trt.ir.model import Model


class SmallResNet50(SmallNetwork):
    """For tests that are about something else: what takes ResNet-50 seconds takes it hundredths."""

    spec = replace(SmallNetwork.spec, name="resnet50")

    def model_from_seed(self, seed: int) -> Model:
        """The small network."""
        return small_model(seed)


NETWORKS = (SmallResNet50(),)
