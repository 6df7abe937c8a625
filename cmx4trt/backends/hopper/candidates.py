"""Which kernels can compute a convolution, and the table of measurements that chooses among them.

The table (``choices.json``) was measured by ``cmx4trt tune`` on the GPU that it names: signature -> candidate -> milliseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cmx4trt.backends.hopper import launches
from cmx4trt.backends.hopper.network import Convolution, Projection, Residual
from cmx4trt.backends.hopper.site import CHUNK, SHARED_BYTES, Made, Site

RESIDENT = (
    # block, columns, warpgroups, stages, residual stages
    (128, 128, 3, 6, 0),
    (128, 128, 2, 6, 0),
    (128, 128, 3, 5, 0),
    (128, 128, 3, 4, 0),
    (128, 128, 2, 8, 0),
    (256, 256, 2, 6, 0),
    (256, 128, 3, 4, 2),
    (128, 128, 3, 4, 2),
    (128, 128, 3, 4, 4),
    (512, 128, 3, 2, 4),
    (256, 128, 2, 6, 4),
)
"""Instances of the kernel with resident weights that are worth a measurement."""
STREAMED = ((256, 4), (128, 6))
"""Instances of the kernel with streamed weights: columns, stages."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to compute a convolution: a kernel family and its numbers."""

    family: str
    numbers: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return "-".join([self.family, *map(str, self.numbers)])


def signature_of(site: Site, convolution: Convolution) -> str:
    """What the table calls a convolution: window, channels, output size, stride, addend."""
    n, k, _, c = convolution.weights.shape
    height = site.activation(convolution.output).height
    addend = f" +{type(convolution.addend).__name__.lower()}" if convolution.addend else ""
    return f"{k}x{k}/{convolution.stride} {c}->{n} at {height}{addend}"


def candidates_of(site: Site, convolution: Convolution) -> list[Candidate]:
    """Everything that can compute ``convolution``, the generally best first."""
    n, k, _, c = convolution.weights.shape
    if c % CHUNK or n % 128:
        return []
    source = site.activation(convolution.input)
    found: list[Candidate] = []
    if (n, k, c, convolution.stride) == (128, 3, 128, 1) and source.width == 28 and convolution.addend is None:
        found.append(Candidate("halo"))
    residual = isinstance(convolution.addend, Residual)
    if k == 1 and convolution.stride == 1:
        found += [Candidate("resident", numbers) for numbers in RESIDENT if _fits(convolution, numbers)]
    if not residual:
        projected = convolution.addend is not None  # two accumulators leave room for 128 columns
        found += [
            Candidate("streamed", numbers)
            for numbers in STREAMED
            if n % numbers[0] == 0 and not (projected and numbers[0] > 128)
        ]
    return found


def _fits(convolution: Convolution, numbers: tuple[int, ...]) -> bool:
    block, columns, warpgroups, stages, residual_stages = numbers
    n, _, _, c = convolution.weights.shape
    projection = convolution.addend if isinstance(convolution.addend, Projection) else None
    side = projection.weights.shape[3] if projection else 0
    chunks = (c + side) // CHUNK
    shared = launches.resident_shared_bytes(chunks, block, warpgroups, stages + residual_stages, bool(side))
    one_pass = block == columns
    passes_hold = one_pass or (stages >= chunks and not side)  # several passes keep all chunks of a tile
    room = not side or columns <= 128  # for two accumulators
    residual = isinstance(convolution.addend, Residual)
    return n % block == 0 and shared <= SHARED_BYTES and passes_hold and room and residual == (residual_stages > 0)


def make(site: Site, convolution: Convolution, candidate: Candidate) -> Made:
    """The launch of a candidate."""
    if candidate.family == "halo":
        return launches.halo(site, convolution)
    if candidate.family == "resident":
        block, columns, warpgroups, stages, residual_stages = candidate.numbers
        return launches.resident(site, convolution, block, columns, warpgroups, stages, residual_stages)
    columns, stages = candidate.numbers
    return launches.streamed(site, convolution, columns, stages)


@dataclass(frozen=True, slots=True)
class Choices:
    """Measured times of candidates, by signature."""

    gpu: str
    milliseconds: Mapping[str, Mapping[str, float]]

    def choose(self, signature: str, candidates: Sequence[Candidate]) -> Candidate:
        """The fastest measured candidate; where none was measured, the first."""
        known = self.milliseconds.get(signature, {})
        measured = [candidate for candidate in candidates if candidate.name in known]
        return min(measured, key=lambda candidate: known[candidate.name]) if measured else candidates[0]


def shipped_choices() -> Choices:
    """The table that comes with the package."""
    with open(os.path.join(os.path.dirname(__file__), "choices.json"), encoding="utf-8") as file:
        table = json.load(file)
    return Choices(table["gpu"], table["milliseconds"])
