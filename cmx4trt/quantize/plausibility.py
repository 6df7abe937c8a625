"""Ranges from a file held against the network: could a calibration have given them?

A cache has no checksum, and one flipped bit of an exponent turns a scale into 16 or 2^64 times what it was. So the network is run
on a few of the build's images, and every range is compared with the values seen there, and with what its neighbors' are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from cmx4trt.base.progress import Progress
from cmx4trt.errors import DataError
from cmx4trt.ir.int8 import INT8_MAX
from cmx4trt.ir.model import Model
from cmx4trt.quantize.observe import Method, Wanted, observe
from cmx4trt.quantize.placement import Placement
from cmx4trt.quantize.samples import Samples

STAGE = "check ranges"
IMAGES = 4
"""Images to run: extremes of a layer differ by less than a factor of two between images."""
LEAST_RATIO, LARGEST_RATIO = 1 / 64, 1024.0
"""Smallest and largest accepted range over the largest value seen: below, nearly everything clips; above, nothing reaches an
eighth of an int8 step. Measured on the trained networks of benchmarks/int8_accuracy.py, all methods: 0.09 (entropy) to 1.3 on
images, 0.6 to 69 on synthetic ones, which excite deep layers less."""
SMALLEST_INPUT, LARGEST_INPUT = 1 / 16, 4096.0
"""Ranges of images: normalized ones reach 1 to 3, pixels 255."""
LARGEST_JUMP = 12.0
"""Largest accepted factor between a range's ratio and the median of its neighbors'. Measured on sound caches: up to 6.6, in one
tensor of a trained detector (benchmarks/cache_checks.py)."""
ALIKE, ALONE = 2**0.4, 2**0.8
"""Where all ratios but one are within ``ALIKE`` of their neighbors' median, one off by more than ``ALONE`` is damaged: the lowest
bits of an exponent are factors of 2 and 4. Sound caches of trained networks have several tensors between 2 and 6, each of the
calibrator's choice, so that nothing can be said there (docs/decisions/022-calibration.md has the rates)."""
NEIGHBORS = 3
"""Activations before and behind that count as neighbors."""
FEW = 4
"""With more scales than this, equal ones are no coincidence."""

Cited = Callable[[str], str]
"""Tensor -> where its scale stands, for sentences: file and line."""


def check_plausible(
    model: Model, placement: Placement, scales: Mapping[str, float], samples: Samples, cited: Cited, progress: Progress
) -> None:
    """Refuse ``scales`` that no calibration of ``model`` gives. Raises DataError, naming the tensor and its line."""
    known = [name for name in placement.activations if name in scales]
    if len(known) > FEW and len({scales[name] for name in known}) == 1:
        raise DataError(
            f"{cited(known[0])} gives tensor '{known[0]}' the scale {scales[known[0]]:g}, as it does all {len(known)} tensors, "
            "which no calibration does; calibrate again"
        )
    image = model.graph.inputs[0].name
    if not SMALLEST_INPUT <= scales.get(image, 1.0) * INT8_MAX <= LARGEST_INPUT:
        raise DataError(
            f"{cited(image)} gives the network's input '{image}' the scale {scales[image]:g}, a range of "
            f"{scales[image] * INT8_MAX:.3g}, expected {SMALLEST_INPUT:g} to {LARGEST_INPUT:g}; it is damaged: calibrate again"
        )
    part = samples.part(0, min(IMAGES, len(samples)))
    with progress.stage(STAGE):
        largest = observe(model, Wanted(tuple(known), {}), part, Method.MINMAX, progress).ranges
    check_against(largest, image, scales, cited)


def check_against(
    largest: Mapping[str, float], image: str, scales: Mapping[str, float], cited: Cited = lambda tensor: "the cache"
) -> None:
    """Refuse ``scales`` that do not go with the ``largest`` values seen in the activations, of which the network's input is
    called ``image``. Raises DataError, naming the tensor and its line."""
    ratios = {name: scales[name] * INT8_MAX / seen for name, seen in largest.items() if seen > 0}
    for name, ratio in ratios.items():
        _check_ratio(name, ratio, scales[name], largest[name], cited)
    _check_jumps(ratios, image, scales, cited)


def _check_ratio(name: str, ratio: float, scale: float, largest: float, cited: Cited) -> None:
    if LEAST_RATIO <= ratio <= LARGEST_RATIO:
        return
    effect = (
        f"it would clip at {scale * INT8_MAX:.3g}, while values reach {largest:.3g}"
        if ratio < LEAST_RATIO
        else f"one step would be worth {scale:.3g}, while no value exceeds {largest:.3g}"
    )
    raise DataError(
        f"{cited(name)} gives tensor '{name}' the scale {scale:g}: {effect} on the build's images; it is damaged, or of another "
        "network: calibrate again"
    )


def _check_jumps(ratios: Mapping[str, float], image: str, scales: Mapping[str, float], cited: Cited) -> None:
    for name, jump in jumps_of(ratios).items():
        if not 1 / LARGEST_JUMP <= jump <= LARGEST_JUMP:
            raise DataError(_damaged(name, jump, ratios, scales, cited))
    jumps = jumps_of({name: ratio for name, ratio in ratios.items() if name != image})  # no layer has made the input
    off = {name: max(jump, 1 / jump) for name, jump in jumps.items()}
    last, worst = sorted(off, key=lambda name: off[name])[-2:] if len(off) > 2 * NEIGHBORS else ("", "")
    if worst and off[worst] > ALONE and off[last] <= ALIKE:
        rest = f"while all others are within {off[last]:.3g} times of theirs"
        raise DataError(_damaged(worst, jumps[worst], ratios, scales, cited, rest))


def jumps_of(ratios: Mapping[str, float]) -> dict[str, float]:
    """Each ratio over the median of its neighbors'."""
    values = list(ratios.values())
    found = {}
    for place, (name, ratio) in enumerate(ratios.items()):
        near = values[max(0, place - NEIGHBORS) : place] + values[place + 1 : place + 1 + NEIGHBORS]
        found[name] = ratio / median(near) if near else 1.0
    return found


def _damaged(
    name: str, jump: float, ratios: Mapping[str, float], scales: Mapping[str, float], cited: Cited, rest: str = ""
) -> str:
    names = list(ratios)
    place = names.index(name)
    near = ", ".join(names[max(0, place - 1) : place + 2 : 2] if place else names[1:2])
    return (
        f"{cited(name)} gives tensor '{name}' the scale {scales[name]:g}, {jump:.3g} times as much as its neighbors' ({near}) "
        f"suggest{', ' + rest if rest else ''}; a bit of it may be flipped: calibrate again"
    )
