"""What of a request the builder hopper can make, said before any work."""

from __future__ import annotations

from cmx4trt.backends.options import BuildOptions
from cmx4trt.errors import UnsupportedError


def check_request(request: BuildOptions) -> None:
    """Raises UnsupportedError for a request whose precision or layers the kernels cannot compute."""
    if request.precision != "int8":
        raise UnsupportedError(
            f"the builder hopper computes in int8 only, precision is {request.precision}; add --precision=int8, or take "
            "another builder"
        )
    if request.keep_fp16 is not None:
        raise UnsupportedError(
            f"the builder hopper has int8 kernels only, keep_fp16={request.keep_fp16} asks for layers in float16; leave it out, "
            "or use another builder"
        )
