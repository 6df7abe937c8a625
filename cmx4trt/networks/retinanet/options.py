"""The options that only RetinaNet has. Standard library only."""

from __future__ import annotations

from cmx4trt.base.options import TENSORS, YES_NO, OwnOptions, choice, option

NORMALIZED, PIXELS = INPUT_RANGES = ("normalized", "0-1")
TENSOR_OUTPUTS, NVIDIA_RECORDS, RAW = POSTPROCESS = ("tensors", "mlperf-nvidia", "none")


class RetinaNetOptions(OwnOptions):
    """What its engine takes, and what it gives."""

    input_range: str = option(
        choice(INPUT_RANGES),
        "range of the input images: normalized (by the caller), or 0-1 (the engine normalizes them)",
        default=NORMALIZED,
        group=TENSORS,
    )
    postprocess: str = option(
        choice(POSTPROCESS),
        "outputs: tensors (boxes, scores, labels), mlperf-nvidia (the 7001-float record of NVIDIA's harness), "
        "none (raw head tensors)",
        default=TENSOR_OUTPUTS,
        group=TENSORS,
    )
    nms_offset: bool = option(
        YES_NO,
        "use the class-offset trick of torchvision's batched_nms, as exported ONNX files do (no: compare the boxes "
        "themselves, as PyTorch does for many boxes)",
        default=True,
        group=TENSORS,
    )
