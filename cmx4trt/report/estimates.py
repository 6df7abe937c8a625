"""Roofline estimates: how fast an engine might be on a GPU, from its layers' operations and memory traffic. Nothing is measured.

The model is that of Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
Architectures", CACM 52(4), 2009: a layer takes as long as its operations at the peak rate, or as its traffic at the memory
bandwidth if that is longer. Engines are slower where they do not reach peak rates, faster where layers are fused further or
pass their data on in a cache; only the compute bound is a true limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cmx4trt.devices.gpus import GIGA, TERA, Gpu
from cmx4trt.graph.layers import Layer

ARITHMETIC, MEMORY = "arithmetic", "memory"
"""What limits a layer."""


@dataclass(frozen=True, slots=True)
class LayerEstimate:
    """One layer at a batch: ``intensity`` in operations per byte; ``arithmetic`` and ``memory`` in seconds."""

    layer: Layer
    intensity: float
    arithmetic: float
    memory: float

    @property
    def seconds(self) -> float:
        """The longer of the two times."""
        return max(self.arithmetic, self.memory)

    @property
    def limit(self) -> str:
        """Which of the two is longer."""
        return ARITHMETIC if self.arithmetic > self.memory else MEMORY


@dataclass(frozen=True, slots=True)
class Estimate:
    """All layers at ``batch``, one after the other."""

    gpu: Gpu
    batch: int
    layers: Sequence[LayerEstimate]

    @property
    def seconds(self) -> float:
        """The time of one batch."""
        return sum(estimate.seconds for estimate in self.layers)

    @property
    def images_per_second(self) -> float:
        """The throughput that follows from it."""
        return self.batch / self.seconds

    @property
    def most_images_per_second(self) -> float | None:
        """The compute bound at peak rates: no engine is faster. None if there are no operations."""
        arithmetic = sum(estimate.arithmetic for estimate in self.layers)
        return self.batch / arithmetic if arithmetic else None

    @property
    def memory_share(self) -> float:
        """The share of the time spent in memory-bound layers."""
        return sum(estimate.seconds for estimate in self.layers if estimate.limit == MEMORY) / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON types, labeled as an estimate."""
        return {
            "kind": "estimate (roofline), not a measurement",
            "gpu": self.gpu.name,
            "source": self.gpu.source,
            "batch": self.batch,
            "seconds_per_batch": self.seconds,
            "images_per_second": self.images_per_second,
            "most_images_per_second_by_arithmetic": self.most_images_per_second,
            "share_limited_by_memory": self.memory_share,
        }


def bytes_of_layer(layer: Layer, batch: int) -> int:
    """The bytes a layer moves for a batch: its constants once, its data for every image."""
    return layer.weight_bytes + layer.activation_bytes * batch


def estimate_layers(layers: Sequence[Layer], gpu: Gpu, batch: int) -> Estimate | None:
    """The estimate of ``layers``; None if there are none, or if the GPU has no published rate for one of them."""
    moving = [layer for layer in layers if bytes_of_layer(layer, batch)]
    if not moving or any(layer.macs and layer.precision not in gpu.tera_per_second for layer in moving):
        return None
    return Estimate(gpu, batch, [_estimate(layer, gpu, batch) for layer in moving])


def _estimate(layer: Layer, gpu: Gpu, batch: int) -> LayerEstimate:
    operations, size = 2 * layer.macs * batch, bytes_of_layer(layer, batch)
    arithmetic = operations / (gpu.tera_per_second[layer.precision] * TERA) if layer.macs else 0.0
    return LayerEstimate(layer, operations / size, arithmetic, size / (gpu.gigabytes_per_second * GIGA))
