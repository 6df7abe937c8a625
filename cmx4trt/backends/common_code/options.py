"""The options that only NVIDIA's MLPerf code has. Standard library only."""

from __future__ import annotations

from cmx4trt.base.options import PATH, OwnOptions, option

_GROUP = "NVIDIA's MLPerf code (common-code)"


class CommonCodeOptions(OwnOptions):
    """Where the code is. Digests of the folders are part of the builder's identity.

    Other CM scripts export both keys, so with another builder they are ignored rather than rejected.
    """

    common_code: str | None = option(
        PATH,
        "path to closed/NVIDIA in an MLPerf results repository, r2.1 to r6.0",
        group=_GROUP,
        shapes_engine=False,
        refused_elsewhere=False,
        cm_key="CM_MLPERF_INFERENCE_NVIDIA_CODE_PATH",
    )
    inference_source: str | None = option(
        PATH,
        "path to a clone of mlcommons/inference, which NVIDIA's code needs",
        group=_GROUP,
        shapes_engine=False,
        refused_elsewhere=False,
        cm_key="CM_MLPERF_INFERENCE_SOURCE",
    )
