"""What a build says of its graph and its network in the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmx4trt.networks import spec_of
from cmx4trt.pipeline.prepare import Prepared
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.manifest import GraphRecord, NetworkRecord, TensorRecord

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.ir.model import ValueInfo


def graph_record(prepared: Prepared) -> GraphRecord:
    """Layers, notes and quantization of the graph that the builder was given."""
    from cmx4trt.graph.layers import count_layers

    graph = prepared.graph
    record: dict[str, Any] = {"sha256": graph.encoded.sha256(), **graph.notes}
    record.update(count_layers(graph.model.graph).to_dict())
    if prepared.quantization is not None:
        record["quantization"] = prepared.quantization.to_dict()
    return GraphRecord.from_dict(record)


def network_record(graph: PreparedGraph | None, request: BuildRequest) -> NetworkRecord:
    """Inputs, outputs and profiles of the engine; a builder that starts from the model has no ``graph`` of ours."""

    def shown(infos: list[ValueInfo]) -> list[TensorRecord]:
        return [TensorRecord(i.name, i.dtype.name.lower(), list(i.dims or ())) for i in infos]

    count, batch = request.copy_streams, request.batch_size
    return NetworkRecord(
        spec_of(request.network).title,
        shown(graph.inputs) if graph else None,
        shown(graph.outputs) if graph else None,
        {"count": count, "batch_min": 1, "batch_opt": batch, "batch_max": batch},
    )
