"""What the manifest says of the graph and the network of a build."""

from __future__ import annotations

import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.pipeline.prepare import Prepared, prepare
from cmx4trt.pipeline.records import graph_record, network_record
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.requests.build import BuildRequest

REQUEST = BuildRequest.from_values({"random_weights": 1, "batch_size": 4, "copy_streams": 2})


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(REQUEST, source_of_request(REQUEST), Silent())


def test_the_network_is_that_of_the_graph(prepared: Prepared) -> None:
    record = network_record(prepared.graph, REQUEST)
    assert record.title == "ResNet-50 v1.5"
    assert [(one.name, one.dtype, one.shape) for one in record.inputs or ()] == [("input", "float", ["N", 3, 224, 224])]
    assert [one.name for one in record.outputs or ()] == ["logits", "class"]
    assert record.profiles == {"count": 2, "batch_min": 1, "batch_opt": 4, "batch_max": 4}


def test_without_a_graph_of_ours_nothing_is_said_of_inputs_and_outputs() -> None:
    record = network_record(None, REQUEST)
    assert (record.inputs, record.outputs) == (None, None)
    assert record.profiles["count"] == 2


def test_the_graph_is_told_by_its_digest_and_its_layers(prepared: Prepared) -> None:
    record = graph_record(prepared).to_dict()
    assert record["sha256"] == prepared.graph.encoded.sha256()
    assert sum("Conv" in layer["op"] for layer in record["layers"]) == 53
    assert record.get("quantization") is None
