"""Which requests the builder hopper supports, checked before any work."""

from __future__ import annotations

from cmx4trt.backends.options import BuildOptions
from cmx4trt.errors import UnsupportedError


def check_request(request: BuildOptions) -> None:
    """Raises UnsupportedError for a request whose precision or layers the kernels cannot compute."""
    if request.precision != "int8":
        raise UnsupportedError(
            f"the builder hopper computes in int8 only, but precision is {request.precision}; add --precision=int8, or use "
            "another builder"
        )
    if request.keep_fp16 is not None:
        raise UnsupportedError(
            f"the builder hopper has int8 kernels only, but keep_fp16={request.keep_fp16} requests layers in float16; omit it, "
            "or use another builder"
        )
