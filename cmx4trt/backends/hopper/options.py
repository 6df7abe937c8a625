"""The option that only the builder for Hopper has. Standard library only."""

from __future__ import annotations

from cmx4trt.base.options import PATH, OwnOptions, option


class HopperOptions(OwnOptions):
    """How its kernels are selected."""

    kernel_choices: str | None = option(
        PATH,
        "file of kernel timings from cmx4trt tune, by which kernels are selected (default: timings of an H100)",
        group="Hopper kernels",
        shapes_engine=False,  # its digest is part of the builder's identity
    )
