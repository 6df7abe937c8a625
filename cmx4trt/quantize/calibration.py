"""Finds the ranges that a request asks for: in images, in what an earlier run kept of them, or in a cache file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.base.files import open_file
from cmx4trt.base.progress import Progress
from cmx4trt.base.values import RANDOM_DATA
from cmx4trt.errors import DataError, OutputError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.own_quantization import OwnQuantization
from cmx4trt.images.files import Shape
from cmx4trt.ir.int8 import INT8_MAX
from cmx4trt.networks import network_of_spec
from cmx4trt.quantize.bias import mean_channels
from cmx4trt.quantize.magnitudes import watched_tensors
from cmx4trt.quantize.observe import STAGE, Method, Wanted, observe
from cmx4trt.quantize.placement import Placement
from cmx4trt.quantize.plausibility import Cited
from cmx4trt.quantize.random_samples import RandomSamples
from cmx4trt.quantize.ranges import Ranges, RangesStore, digest_of_model
from cmx4trt.quantize.samples import READING, FileSamples, Samples, choose_samples, open_samples
from cmx4trt.quantize.tensorrt_cache import parse_cache
from cmx4trt.requests.build import BuildRequest

OWN = "the model's own"
"""Origin of the scales of a model that is quantized already."""
NO_CALIBRATION = (
    "INT8 needs calibration: no images or cache given; give images (--calibration_data=FOLDER), "
    "or a calibration cache (--calibration_cache=FILE), or build in another precision (--precision=fp16)"
)
DEFAULT_METHOD = Method.RELATIVE
"""Of trained ResNet-50s it has the best median SQNR, at no less top-1 (docs/decisions/022-calibration.md)."""
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
    ones (``synthetic``). ``cited`` says where in a file a range stands.
    """

    ranges: Ranges
    origin: str
    reused: bool
    samples: Samples | None
    images: Samples
    cited: Cited | None = None

    @property
    def held_out(self) -> bool:
        """Whether the ranges were taken from other images than ``images``."""
        return self.images is not self.samples

    @property
    def synthetic(self) -> bool:
        """Whether ``images`` are random."""
        return isinstance(self.images, RandomSamples)


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationData:
    """What a request calibrates with: a cache file's content, or images, or both. Opened once for a build, so that the
    engine's fingerprint names what was used.

    ``sha256`` is that of ``samples``, ``rest`` are further images, to measure on.
    """

    cache: bytes | None = None
    samples: FileSamples | RandomSamples | None = None
    rest: Samples | None = None
    sha256: str = ""

    def part(self) -> str:
        """What an engine's fingerprint says of it."""
        cache = [] if self.cache is None else [f"cache:{hashlib.sha256(self.cache).hexdigest()}"]
        images = [] if self.samples is None else [f"images:{self.sha256}"]
        return " ".join(cache + images)


def open_data(request: BuildRequest, shape: Shape, progress: Progress) -> CalibrationData:
    """The calibration data that ``request`` names, read whole for their digests. Raises DataError."""
    cache = None if request.calibration_cache is None else _read_cache(request.calibration_cache)
    if request.calibration_data is None:
        return CalibrationData(cache)
    samples, rest = _open_images(request, shape)
    with progress.stage(READING):
        return CalibrationData(cache, samples, rest, samples.digest(progress))


def calibrate(
    network: CanonicalGraph,
    placement: Placement,
    request: BuildRequest,
    progress: Progress,
    flavor: QuantizationFlavor = TENSORRT,
    data: CalibrationData | None = None,
) -> Calibration:
    """The ranges of ``placement``'s activations, as ``request`` asks. Runs images only where no earlier run did.

    ``data`` is what ``open_data`` gave for the request, where that was done already. Raises DataError.
    """
    data = data or open_data(request, network.spec.input_shape, progress)
    if network.own is not None:
        return _own_calibration(network, network.own, data)
    if data.cache is None and data.samples is None:
        raise DataError(NO_CALIBRATION)
    if data.cache is None:
        return _calibrate_on_images(network, placement, request, data, progress, flavor)
    where = f"calibration_cache {request.calibration_cache}"
    ranges, origin, cited = ranges_from_content(data.cache, where, network, placement)
    images = data.rest or data.samples or _made_up(network, ranges)
    return Calibration(ranges, origin, False, data.samples, images, cited)


def _own_calibration(network: CanonicalGraph, own: OwnQuantization, data: CalibrationData) -> Calibration:
    """The scales that the model came with. Raises DataError where others are given, too."""
    if data.cache is not None or data.samples is not None:
        raise DataError(
            "the model is quantized already (Q/DQ) and is built with its own scales; leave out calibration_data and "
            "calibration_cache, or give the float model"
        )
    ranges = Ranges(own.scales, digest_of_model(network.model), "", OWN, 0)
    return Calibration(ranges, OWN, False, None, _made_up(network, ranges))


def _calibrate_on_images(
    network: CanonicalGraph,
    placement: Placement,
    request: BuildRequest,
    data: CalibrationData,
    progress: Progress,
    flavor: QuantizationFlavor,
) -> Calibration:
    model, method, store = network.model, Method(request.calibration_method or DEFAULT_METHOD), RangesStore()
    samples = data.samples
    assert samples is not None
    key = (digest_of_model(model), data.sha256, flavor.describe(method.description()))
    ranges = store.find(*key)
    reused = ranges is not None
    if ranges is None:
        means, watched = mean_channels(model.graph, placement), watched_tensors(model.graph)
        wanted = Wanted(placement.activations, means, placement.unsigned, watched)
        with progress.stage(STAGE):
            observed = observe(model, wanted, samples, method, progress, store.path(*key) + ".state")
        scales = {name: _float32(largest / INT8_MAX) for name, largest in observed.ranges.items()}
        ranges = Ranges(scales, *key, len(samples), observed.means, observed.largest)
        _keep(ranges, store, progress)
    return Calibration(ranges, "images", reused, samples, data.rest or samples)


def _keep(ranges: Ranges, store: RangesStore, progress: Progress) -> None:
    """Store ``ranges`` for later runs; this one goes on where that is impossible."""
    try:
        store.keep(ranges)
    except OutputError as error:
        progress.note(f"the ranges are not kept for later runs: {error}")


def _read_cache(path: str) -> bytes:
    try:
        with open_file(path) as stream:
            return stream.read()
    except OSError as error:
        raise DataError(f"calibration_cache {path} cannot be read: {error.strerror}") from error


def ranges_from_content(
    content: bytes, where: str, network: CanonicalGraph, placement: Placement
) -> tuple[Ranges, str, Cited]:
    """The ranges in a TensorRT cache or in our JSON, by the names of ``network``, which of the two it was, and where each stands.

    Raises DataError on a damaged file, and on our JSON made for another network.
    """
    model, model_sha256 = network.model, digest_of_model(network.model)
    text = content.decode("utf-8-sig", errors="replace")
    if text.lstrip()[:1] == "{":
        ranges = Ranges.from_json(text, where)
        if ranges.model_sha256 != model_sha256:
            raise DataError(f"{where} was made for another network (or another version of this one); calibrate again")
        channels = mean_channels(model.graph, placement)
        wrong = [name for name, found in ranges.means.items() if channels.get(name, len(found)) != len(found)]
        if wrong:
            raise DataError(
                f"{where} holds {len(ranges.means[wrong[0]])} means for '{wrong[0]}', expected one for each of its "
                f"{channels[wrong[0]]} channels; calibrate again"
            )
        return ranges, "ranges file", lambda tensor: where
    cache = parse_cache(content, where)
    names = names_in_cache(network, cache.scales)
    scales = {tensor: cache.scales[names[tensor]] for tensor in placement.activations if tensor in names}
    ranges = Ranges(scales, model_sha256, hashlib.sha256(content).hexdigest(), cache.header, 0)
    return ranges, "TensorRT cache", lambda tensor: f"{where}, line {cache.lines[names[tensor]]}"


def names_in_cache(network: CanonicalGraph, entries: Mapping[str, float]) -> dict[str, str]:
    """Tensor of ``network`` -> entry of a TensorRT cache: by equal names, else by NVIDIA's names, where they are known."""
    graph, nvidias = network.model.graph, network_of_spec(network.spec).names_in_caches(network.model.graph)
    names = {tensor: tensor for tensor in graph.names() if tensor in entries}
    names.update({t: name for t, name in nvidias.items() if t not in names and name in entries})
    known = [name for name in INPUT_NAMES if name in entries]
    if known:
        names.setdefault(graph.inputs[0].name, known[0])
    return names


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


def _made_up(network: CanonicalGraph, ranges: Ranges) -> RandomSamples:
    """Images about as large as those that a cache was made with."""
    largest = ranges.scales.get(network.model.graph.inputs[0].name, 1.0) * INT8_MAX
    return RandomSamples(network.spec.input_shape, RANDOM_SAMPLES, largest / SIGMAS)


def _float32(value: float) -> float:
    import numpy as np

    return float(np.float32(value))
