"""RetinaNet (ResNeXt-50 32x4d FPN, OpenImages): what MLPerf Inference fixes about the network and its post-processing.

Network: Lin et al., "Focal Loss for Dense Object Detection" (arXiv:1708.02002), in torchvision's form
(torchvision/models/detection/retinanet.py), with the ResNeXt-50 32x4d backbone (arXiv:1611.05431) and 264 classes that MLPerf
Inference uses since v2.1.
"""

from __future__ import annotations

from math import log

from cmx4trt.base.frozen import Frozen, field
from cmx4trt.graph.spec import ModelSpec

CLASSES = 264
"""Classes of the OpenImages subset (MLPerf Inference, vision/classification_and_detection: openimages-mlperf)."""
ANCHORS_PER_LOCATION = 9
"""3 scales x 3 aspect ratios (arXiv:1708.02002, section 4)."""
LEVELS = 5
"""Feature levels P3 … P7 (arXiv:1708.02002, section 4)."""
IMAGE_SIZE = 800


class Body(Frozen):
    """Sizes of the layers between image and heads: ResNeXt-50 32x4d (arXiv:1611.05431, table 1), a pyramid of 256 channels, heads
    of four convolutions in front of the last one (arXiv:1708.02002, section 4)."""

    stem: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 128
    """Channels of the first stage's grouped convolutions; doubled from stage to stage."""
    groups: int = 32
    pyramid: int = 256
    tower: int = 4


EXPANSION = 2
"""Output channels of a ResNeXt-50 32x4d block over the channels of its grouped convolution."""


class DetectorSpec(Frozen):
    """What a detector's heads must look like, and how detections are made of them.

    Thresholds and counts are those of MLPerf's model: torchvision's defaults, except for the number of detections (300
    there). A file's own take their place.
    """

    classes: int = CLASSES
    anchors_per_location: int = ANCHORS_PER_LOCATION
    levels: int = LEVELS
    score_threshold: float = 0.05
    """torchvision's ``score_thresh``; NVIDIA's plugin has the same ``confidenceThreshold``."""
    iou_threshold: float = 0.5
    """torchvision's ``nms_thresh``; NVIDIA's plugin has the same."""
    candidates: int = 1000
    """Best (box, class) pairs of each level: torchvision's ``topk_candidates``."""
    detections: int = 1000
    """Most boxes of one image: ``keepTopK`` of NVIDIA's plugin; the count of records in its output."""
    max_log_ratio: float = log(1000.0 / 16)
    """Largest log of a box's size over its anchor's: torchvision's ``bbox_xform_clip`` (models/detection/_utils.py)."""
    body: Body = field(default_factory=Body)
    nms_block: int = 1000
    """Candidates whose suppression is settled together: short chains, a fifth of the memory traffic of one block of 5000
    (docs/decisions/010-nms-without-plugin.md)."""
    nms_iterations: int = 16
    """Fixpoint steps of one block. Measured: real and random boxes need 1 … 9 (same page)."""


DETECTOR = DetectorSpec()

SPEC = ModelSpec(
    name="retinanet",
    title="RetinaNet ResNeXt-50 32x4d FPN",
    input_shape=(3, IMAGE_SIZE, IMAGE_SIZE),
    # The class logits of P3: 9 anchors x 264 classes on 100 x 100 positions.
    largest_activation=ANCHORS_PER_LOCATION * CLASSES * (IMAGE_SIZE // 8) ** 2,
    details=DETECTOR,
)
