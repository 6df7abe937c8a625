"""What every launch has to do: bytes through the GPU's memory and operations, counted from the network's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.network import AveragePool, Classifier, Convolution, MaxPool, Projection

if TYPE_CHECKING:
    from cmx4trt.backends.hopper.network import Network, Operation
    from cmx4trt.backends.hopper.plan import Launch, Program


def launch_records(network: Network, program: Program) -> list[dict[str, Any]]:
    """For each launch: its operations and kernel, and for one image ``bytes`` and ``operations`` (two for each multiply-add).

    Bytes are the fewest: every activation that the launch reads or writes once, its weights once for a batch.
    """
    named = {operation.name: operation for operation in network.operations}
    return [
        _record(network, launch, [named[name] for name in launch.operations if name in named])
        for launch in program.launches
    ]


def _record(network: Network, launch: Launch, operations: list[Operation]) -> dict[str, Any]:
    sizes = {a.name: a.height * a.width * a.channels for a in network.activations.values()}
    sizes.update({"logits": 4 * len(network.classifier.weights), "class": 4})
    image = sizes[network.input.name]
    for operation in operations:  # a projection with a stride reads every so many pixels only
        if isinstance(operation, Convolution) and isinstance(operation.addend, Projection):
            sizes[operation.addend.input] //= operation.addend.stride**2
    return {
        "operations": " + ".join(launch.operations),
        "kernel": launch.kernel,
        "image_bytes": sum(sizes.get(name, image) for name in (*launch.reads, *launch.writes)),
        "weight_bytes": sum(weight_bytes(operation) for operation in operations),
        "image_operations": sum(operations_of(network, operation) for operation in operations),
    }


def weight_bytes(operation: Operation) -> int:
    """Bytes of an operation's weights, a projection's among them."""
    if isinstance(operation, Convolution):
        side = operation.addend.weights.size if isinstance(operation.addend, Projection) else 0
        return int(operation.weights.size + side)
    return int(operation.weights.size) if isinstance(operation, Classifier) else 0


def operations_of(network: Network, operation: Operation) -> int:
    """Operations for one image; a multiply-add is two. Pools, addends and requantization are not counted."""
    if isinstance(operation, (MaxPool, AveragePool)):
        return 0
    if isinstance(operation, Classifier):
        return 2 * int(operation.weights.size)
    output = network.activations.get(operation.output)
    assert output is not None
    return 2 * output.height * output.width * weight_bytes(operation)
