"""Which kernels can compute an operation."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.backends.hopper import launches, products
from cmx4trt.backends.hopper.network import Classifier, Convolution, Projection, Residual
from cmx4trt.backends.hopper.plan import Place
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
"""Instances of the kernel with resident weights that are worth measuring."""
STREAMED = ((256, 4), (128, 6))
"""Instances of the kernel with streamed weights: columns, stages."""
SPLIT = (1, 2, 4, 8)
"""Blocks that share a sum in the kernel for small batches; 8 is the largest cluster that every GPU of compute capability 9.0
supports (CUDA C++ Programming Guide, Thread Block Clusters)."""
EXPAND_REDUCE = "expand_reduce"
"""The table's name of the kernel for an expansion and the next block's reduction."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to compute a convolution: a kernel family and its parameters."""

    family: str
    numbers: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name in the table."""
        return "-".join([self.family, *map(str, self.numbers)])


def signature_of(site: Site, convolution: Convolution) -> str:
    """The table's name of a convolution: window, channels, output size, stride, addend."""
    n, k, _, c = convolution.weights.shape
    height = site.activation(convolution.output).height
    addend = f" +{type(convolution.addend).__name__.lower()}" if convolution.addend else ""
    return f"{k}x{k}/{convolution.stride} {c}->{n} at {height}{addend}"


def pair_signature(site: Site, expand: Convolution, reduce: Convolution) -> str:
    """The table's name of two convolutions that one kernel computes."""
    return f"{signature_of(site, expand)}, {signature_of(site, reduce)}"


def classifier_signature(classifier: Classifier) -> str:
    """The table's name of the last matrix product."""
    classes, channels = classifier.weights.shape
    return f"classifier {channels}->{classes}"


def classifier_candidates(classifier: Classifier) -> list[Candidate]:
    """All candidates for the last matrix product, the generally best first."""
    chunks = classifier.weights.shape[1] // CHUNK
    return [
        Candidate("streamed", STREAMED[-1]),
        *(Candidate("split", (n,)) for n in SPLIT if _split_fits(chunks, n, False)),
    ]


def make_classifier(site: Site, classifier: Classifier, logits: Place, candidate: Candidate) -> Made:
    """The launch of a candidate for the last matrix product, whose float32 result goes to ``logits``."""
    if candidate.family == "split":
        return products.split_classifier(site, classifier, logits, candidate.numbers[0])
    return products.classifier(site, classifier, logits)


def candidates_of(site: Site, convolution: Convolution) -> list[Candidate]:
    """All candidates for ``convolution``, the generally best first."""
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
    side = convolution.addend.weights.shape[3] if isinstance(convolution.addend, Projection) else 0
    chunks = (k * k * c + side) // CHUNK
    found += [Candidate("split", (blocks,)) for blocks in SPLIT if _split_fits(chunks, blocks, side > 0)]
    return found


def _split_fits(chunks: int, blocks: int, projection: bool) -> bool:
    return blocks <= chunks and products.split_shared_bytes(chunks, blocks, projection) <= SHARED_BYTES


def _fits(convolution: Convolution, numbers: tuple[int, ...]) -> bool:
    block, columns, warpgroups, stages, residual_stages = numbers
    n, _, _, c = convolution.weights.shape
    projection = convolution.addend if isinstance(convolution.addend, Projection) else None
    side = projection.weights.shape[3] if projection else 0
    chunks = (c + side) // CHUNK
    shared = products.resident_shared_bytes(chunks, block, warpgroups, stages + residual_stages, bool(side))
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
        return products.resident(site, convolution, block, columns, warpgroups, stages, residual_stages)
    if candidate.family == "split":
        return products.split(site, convolution, candidate.numbers[0])
    columns, stages = candidate.numbers
    return products.streamed(site, convolution, columns, stages)
