"""What of a request shapes a graph. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmx4trt.base.frozen import Frozen, replace


class GraphOptions(Frozen):
    """The few options of a build that a graph depends on, under their own names; ``BuildRequest.graph_options`` makes it.

    ``model``: the file that sentences about the graph name, None for random weights; ``own``: the options of networks.
    """

    model: str | None
    precision: str
    input_dtype: str
    output_dtype: str
    own: Mapping[str, Any]

    def in_float32(self) -> GraphOptions:
        """The same network with float32 arithmetic and input: what an int8 graph is held to."""
        return replace(self, precision="fp32", input_dtype="fp32")
