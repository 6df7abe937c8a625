"""The option that only the builder for Hopper has. Standard library only."""

from __future__ import annotations

from cmx4trt.base.options import OwnOptions, option, path_or

SHIPPED = ("h100", "h200")
"""The cards with a table in the package; the first is for all others."""


class HopperOptions(OwnOptions):
    """How its kernels are selected."""

    kernel_choices: str | None = option(
        path_or(*SHIPPED),
        "kernel timings by which kernels are selected: a file from cmx4trt tune, or those of h100 or h200 (default: of the "
        "local card with the device cuda, otherwise h100)",
        group="Hopper kernels",
        shapes_engine=False,  # its digest is part of the builder's identity
    )
