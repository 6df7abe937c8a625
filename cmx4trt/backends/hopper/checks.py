"""This backend's own checks of an engine: bit for bit against its specification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.facts import Check
from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.container import read_engine
from cmx4trt.backends.hopper.images import random_images
from cmx4trt.backends.hopper.lowering import lower
from cmx4trt.backends.hopper.schedule import CLASS, INPUT, LOGITS
from cmx4trt.backends.hopper.session import HopperSession

if TYPE_CHECKING:
    import numpy as np

    from cmx4trt.backends.hopper.network import Network
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session

SEED = 20261126
"""Seed of the images that both an engine and its specification compute."""
IMAGES = 5
"""Number of distinct images; larger batches repeat them, so that every position of a batch is compared."""
POISON = 0xCD
"""Every buffer is filled with this byte first, so that bytes that no kernel writes are detected."""


def check_engine(engine: Any, graph: PreparedGraph, session: Session | None) -> Sequence[Check]:
    """On a device: every stored activation and all outputs, at the smallest and the largest batch; otherwise the engine's
    content."""
    network = lower(graph.model)
    if not isinstance(session, HopperSession):
        return (_check_content(engine, network),)
    images = random_images(SEED, IMAGES, _shape(network), network.input.scale, session.input_dtype(INPUT))
    expected = reference.run(network, images, keep=True)
    batches = sorted({1, session.max_batch or 1})
    return tuple(check_batch(session, images, expected, batch) for batch in batches)


def _check_content(engine: Any, network: Network) -> Check:
    """Without a device: the engine reads back, and its plan computes every operation of the network exactly once."""
    plan = read_engine(engine, "the engine").plan
    wanted = sorted(operation.name for operation in network.operations)
    extra = {"quantize", "arg max", "round the logits"}
    for program in plan.programs:
        found = sorted(name for launch in program.launches for name in launch.operations if name not in extra)
        if found != wanted:
            difference = sorted(set(found) ^ set(wanted))
            return Check("all operations", False, f"batches {program.first} to {program.last}: {difference} differ")
    return Check(
        "all operations",
        True,
        f"the engine file is intact and computes each of the {len(wanted)} operations once, at every batch size; there is no "
        "GPU of compute capability 9.0 here to run it on",
        {"operations": len(wanted)},
    )


def check_batch(session: HopperSession, images: Any, expected: reference.Outputs, batch: int) -> Check:
    """Equality with the specification at one batch size, with ``images`` (IMAGES of them), repeated to fill a batch."""
    import numpy as np

    picked = np.arange(batch) % IMAGES
    session.poison(POISON)
    session.place({INPUT: images[picked]})
    compared = different = 0
    worst = ""
    for name, found, wanted in _pairs(session, images, expected, picked):
        unequal = sum(int(np.count_nonzero(one != wanted[index])) for one, index in zip(found, picked, strict=True))
        compared, different = compared + found.size, different + unequal
        worst = worst or (name if unequal else "")
    verdict = f"{compared:,} values at batch {batch}, {different:,} of them different" + (
        f", the first in {worst}" if worst else ""
    )
    figures = {"batch": batch, "compared": compared, "different": different}
    return Check(f"equal to the specification, batch {batch}", different == 0, verdict, figures)


def _pairs(
    session: HopperSession, images: Any, expected: reference.Outputs, picked: np.ndarray[Any, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name, the device's result for a batch, and the specification's result for each distinct image."""

    batch = len(picked)
    for name in session.activations(batch):
        if name in expected.activations:
            yield name, session.read_buffer(name, batch), expected.activations[name].reshape(IMAGES, -1)
    outputs = session.run({INPUT: images[picked]})
    yield LOGITS, outputs[LOGITS], expected.logits.astype(outputs[LOGITS].dtype)
    yield CLASS, outputs[CLASS], expected.classes


def _shape(network: Network) -> tuple[int, int, int]:
    return network.input.channels, network.input.height, network.input.width
