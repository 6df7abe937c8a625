"""The options that only native TensorRT has. Standard library only."""

from __future__ import annotations

from cmx4trt.base.options import PATH, OwnOptions, choice, option, whole

TILING_LEVELS = ("none", "fast", "moderate", "full")
"""TensorRT's enumeration ``TilingOptimizationLevel``."""
MAX_AUX_STREAMS = 64
"""Far more than TensorRT uses by default; each stream costs a CUDA stream and scratch memory."""
_GROUP = "TensorRT's builder"


class TensorRTOptions(OwnOptions):
    """Settings of its builder."""

    builder_optimization_level: int | None = option(
        whole(0, 5),
        "builder optimization level, 0 (fastest build) to 5 (fastest engine) (default: the library's)",
        group=_GROUP,
    )
    tiling_optimization_level: str | None = option(
        choice(TILING_LEVELS), "tiling optimization level (default: the library's)", group=_GROUP
    )
    max_aux_streams: int | None = option(
        whole(0, MAX_AUX_STREAMS),
        "maximum number of auxiliary streams (default: the library's choice)",
        group=_GROUP,
    )
    timing_cache: str | None = option(
        PATH,
        "timing cache to reuse (default: one in the output folder)",
        group=_GROUP,
        shapes_engine=False,  # it only has kernel timings, on which an engine depends no more than on the time of day
    )
