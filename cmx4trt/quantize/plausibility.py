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
"""Largest accepted factor between a range's ratio and the median of its neighbors'. Measured: 3.6 on synthetic images."""
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
    ratios = {name: scales[name] * INT8_MAX / largest[name] for name in known if largest[name] > 0}
    for name, ratio in ratios.items():
        _check_ratio(name, ratio, scales[name], largest[name], cited)
    _check_jumps(ratios, scales, cited)


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


def _check_jumps(ratios: Mapping[str, float], scales: Mapping[str, float], cited: Cited) -> None:
    names, values = list(ratios), list(ratios.values())
    for place, (name, ratio) in enumerate(ratios.items()):
        near = values[max(0, place - NEIGHBORS) : place] + values[place + 1 : place + 1 + NEIGHBORS]
        usual = median(near) if near else ratio
        if not 1 / LARGEST_JUMP <= ratio / usual <= LARGEST_JUMP:
            raise DataError(
                f"{cited(name)} gives tensor '{name}' the scale {scales[name]:g}, {ratio / usual:.3g} times as much as its "
                f"neighbors' ({', '.join(names[max(0, place - 1) : place + 2 : 2])}) suggest; a bit of it may be flipped: "
                "calibrate again"
            )
