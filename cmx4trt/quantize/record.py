"""What the manifest says of INT8: on what grounds the network was quantized, and how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cmx4trt.base.frozen import field
from cmx4trt.base.typed import Record


class LayerGain(Record):
    """What leaving one layer in floating point brings: its part of the error, and the SQNR of the outputs it gains, in dB.

    Errors of layers are taken to add up, which holds while they are small and independent.
    """

    layer: str
    share: float
    gain_db: float


class QuantizationRecord(Record):
    """The grounds, and the extent; fields with a default were not recorded by every release.

    ``origin``: where the ranges come from: ``samples`` images by ``method``, ``synthetic`` if random; ``coverage``: part of the
    activations that have a range, 0 to 1; ``quantized_layers`` of ``layers``, those ``kept`` in floating point by name;
    ``pairs``: of Q/DQ; ``rules``: inputs quantized by each; ``ranking``: layers, the most sensitive first.
    """

    origin: str = ""
    method: str = ""
    samples: int = 0
    data_sha256: str = ""
    model_sha256: str = ""
    reused: bool = False
    coverage: float = 0.0
    without_range: Sequence[str] = ()
    layers: int = 0
    quantized_layers: int = 0
    kept: Sequence[str] = ()
    pairs: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    corrected_biases: int = 0
    input_scale: float | None = None
    held_out: bool = False
    synthetic: bool = False
    ranking: Sequence[LayerGain] = ()
