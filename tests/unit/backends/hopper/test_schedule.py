"""Networks that no kernel computes are refused where launches are chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.backends.hopper.network import MaxPool
from cmx4trt.backends.hopper.schedule import Types, schedule
from cmx4trt.errors import UnsupportedError


def test_a_pooling_that_begins_at_the_edge_is_refused_not_computed_wrongly(hopper_resnet50: Any) -> None:
    network = hopper_resnet50.network
    operations = tuple(replace(op, padding=0) if isinstance(op, MaxPool) else op for op in network.operations)
    with pytest.raises(UnsupportedError, match=r"no kernel for pool1 \(MaxPool\): its windows begin at the edge"):
        schedule(replace(network, operations=operations), 1, Types("int8"), shipped_choices())
