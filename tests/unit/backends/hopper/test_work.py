"""Bytes and operations of launches, against counts by hand."""

from __future__ import annotations

from typing import Any

from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.backends.hopper.schedule import Types, schedule
from cmx4trt.backends.hopper.work import launch_records


def records_of(network: Any) -> dict[str, dict[str, Any]]:
    plan = schedule(network, 1024, Types("int8"), shipped_choices()).plan
    return {record["operations"]: record for record in launch_records(network, plan.program(1024))}


def test_the_stem_reads_the_image_and_writes_what_is_pooled(hopper_resnet50: Any) -> None:
    record = records_of(hopper_resnet50.network)["conv1 + pool1"]
    assert record["image_bytes"] == 3 * 224 * 224 + 56 * 56 * 64
    assert record["weight_bytes"] == 64 * 7 * 7 * 3
    assert record["image_operations"] == 2 * 112 * 112 * 64 * 7 * 7 * 3


def test_a_projection_with_a_stride_reads_every_fourth_pixel(hopper_resnet50: Any) -> None:
    record = records_of(hopper_resnet50.network)["res3a_branch2c"]
    assert record["image_bytes"] == 28 * 28 * (128 + 256 + 512)
    assert record["weight_bytes"] == 512 * (128 + 256)
    assert record["image_operations"] == 2 * 28 * 28 * 512 * (128 + 256)


def test_operations_add_up_to_the_networks(hopper_resnet50: Any) -> None:
    """8.2 billion for one image, as the manifest counts them from the graph."""
    total = sum(record["image_operations"] for record in records_of(hopper_resnet50.network).values())
    assert 8.1e9 < total < 8.3e9
