"""Finds the ranges that a request asks for: in images, in what an earlier run kept of them, or in a cache file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cmx4trt.errors import DataError
from cmx4trt.flavour import TENSORRT, QuantizationFlavour
from cmx4trt.graph.network import Network
from cmx4trt.ir.model import Graph, Model
from cmx4trt.progress import Progress
from cmx4trt.quantize.bias import mean_channels
from cmx4trt.quantize.observe import STAGE, Method, Wanted, observe
from cmx4trt.quantize.placement import Placement
from cmx4trt.quantize.qdq import INT8_MAX
from cmx4trt.quantize.ranges import Ranges, RangesStore, digest_of_model
from cmx4trt.quantize.resnet50_names import nvidia_names
from cmx4trt.quantize.samples import FileSamples, RandomSamples, Samples, Shape, choose_samples, open_samples
from cmx4trt.quantize.tensorrt_cache import parse_cache
from cmx4trt.request import BuildRequest
from cmx4trt.values import RANDOM_DATA

DEFAULT_METHOD = Method.MSE
"""The best SQNR on a trained ResNet-50 (docs/decisions/022-calibration.md)."""
RANDOM_SAMPLES = 8
"""Default number of random images: nothing is learned from more."""
SIGMAS = 3.0
"""An input's range over the standard deviation of images made up for it: 0.3 % of normal values lie outside."""

INPUT_NAMES = ("input_tensor:0", "input_tensor_0", "images", "input", "image")
"""What files and NVIDIA's caches call the input that preparation renames."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Ranges with what is known of them.

    ``origin`` is where they come from, ``reused`` whether an earlier run had kept them; ``samples`` are the images they
    were taken from, if they are at hand, ``images`` those to measure on: others, if there are, else the same, else random
    ones (``synthetic``).
    """

    ranges: Ranges
    origin: str
    reused: bool
    samples: Samples | None
    images: Samples

    @property
    def held_out(self) -> bool:
        """Whether the ranges were taken from other images than ``images``."""
        return self.images is not self.samples

    @property
    def synthetic(self) -> bool:
        """Whether ``images`` are random."""
        return isinstance(self.images, RandomSamples)


def calibrate(
    network: Network,
    placement: Placement,
    request: BuildRequest,
    progress: Progress,
    flavour: QuantizationFlavour = TENSORRT,
) -> Calibration:
    """The ranges of ``placement``'s activations, as ``request`` asks. Runs images only where no earlier run did.

    Raises DataError.
    """
    if request.calibration_cache is None:
        return _calibrate_on_images(network, placement, request, progress, flavour)
    ranges, origin = ranges_from_file(request.calibration_cache, network.model, placement)
    samples: Samples | None = None
    images: Samples | None = None
    if request.calibration_data is not None:
        samples, rest = _open_images(request, network.spec.input_shape)
        images = rest or samples
    return Calibration(ranges, origin, False, samples, images or _made_up(network, ranges))


def _calibrate_on_images(
    network: Network, placement: Placement, request: BuildRequest, progress: Progress, flavour: QuantizationFlavour
) -> Calibration:
    model, method, store = network.model, Method(request.calibration_method or DEFAULT_METHOD), RangesStore()
    samples, rest = _open_images(request, network.spec.input_shape)
    with progress.stage("read images"):
        key = (digest_of_model(model), _digest(samples, store), flavour.describe(method.description()))
    ranges = store.find(*key)
    reused = ranges is not None
    if ranges is None:
        wanted = Wanted(placement.activations, mean_channels(model.graph, placement), placement.unsigned)
        with progress.stage(STAGE):
            observed = observe(model, wanted, samples, method, progress, store.path(*key) + ".state")
        scales = {name: _float32(largest / INT8_MAX) for name, largest in observed.ranges.items()}
        ranges = Ranges(scales, *key, len(samples), observed.means)
        store.keep(ranges)
    return Calibration(ranges, "images", reused, samples, rest or samples)


def ranges_from_file(path: str, model: Model, placement: Placement) -> tuple[Ranges, str]:
    """The ranges in a TensorRT cache or in our JSON, by the names of ``model``, and which of the two it was.

    Raises DataError on a damaged file, and on our JSON made for another network.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise DataError(f"calibration_cache {path} cannot be read: {error.strerror}") from error
    where, model_sha256 = f"calibration_cache {path}", digest_of_model(model)
    if content.lstrip()[:1] == b"{":
        ranges = Ranges.from_json(content.decode("utf-8", errors="replace"), where)
        if ranges.model_sha256 != model_sha256:
            raise DataError(f"{where} was made for another network (or another version of this one); calibrate again")
        return ranges, "ranges file"
    cache = parse_cache(content, where)
    names = names_in_cache(model.graph, cache.scales)
    scales = {tensor: cache.scales[names[tensor]] for tensor in placement.activations if tensor in names}
    return Ranges(scales, model_sha256, hashlib.sha256(content).hexdigest(), cache.header, 0), "TensorRT cache"


def names_in_cache(graph: Graph, entries: Mapping[str, float]) -> dict[str, str]:
    """Tensor of ``graph`` -> entry of a TensorRT cache: by equal names, else by NVIDIA's names for ResNet-50."""
    names = {tensor: tensor for tensor in graph.names() if tensor in entries}
    names.update({t: name for t, name in nvidia_names(graph).items() if t not in names and name in entries})
    known = [name for name in INPUT_NAMES if name in entries]
    if known:
        names.setdefault(graph.inputs[0].name, known[0])
    return names


def data_part(request: BuildRequest, shape: Shape) -> str:
    """What an engine's fingerprint says of the calibration data: a digest, cheap while the files are unchanged.

    Raises DataError.
    """
    parts = []
    if request.calibration_cache is not None:
        with open(request.calibration_cache, "rb") as stream:
            parts.append(f"cache:{hashlib.sha256(stream.read()).hexdigest()}")
    if request.calibration_data is not None:
        samples, _ = _open_images(request, shape)
        parts.append(f"images:{_digest(samples, RangesStore())}")
    return " ".join(parts)


def _open_images(request: BuildRequest, shape: Shape) -> tuple[FileSamples | RandomSamples, Samples | None]:
    """The calibration images and, where there are more, others to measure on."""
    assert request.calibration_data is not None
    if request.calibration_data == RANDOM_DATA:
        count = request.calibration_count or RANDOM_SAMPLES
        samples = RandomSamples(shape, 2 * count)
        return samples.part(0, count), samples.part(count, 2 * count)
    everything = open_samples(request.calibration_data, shape, request.calibration_list)
    chosen = choose_samples(everything, request.calibration_count, request.calibration_data)
    rest = everything.part(len(chosen), len(everything))
    return chosen, rest if len(rest) else None


def _digest(samples: FileSamples | RandomSamples, store: RangesStore) -> str:
    """The images' digest; files with an unchanged stamp are not read again."""
    if isinstance(samples, RandomSamples):
        return samples.digest()
    stamp = samples.stamp()
    digest = store.recall(stamp)
    if digest is None:
        digest = samples.digest()
        store.remember(stamp, digest)
    return digest


def _made_up(network: Network, ranges: Ranges) -> RandomSamples:
    """Images about as large as those that a cache was made with."""
    largest = ranges.scales.get(network.model.graph.inputs[0].name, 1.0) * INT8_MAX
    return RandomSamples(network.spec.input_shape, RANDOM_SAMPLES, largest / SIGMAS)


def _float32(value: float) -> float:
    import numpy as np

    return float(np.float32(value))
