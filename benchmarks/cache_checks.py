"""How many sound calibration caches are refused, and how many of those with one scale off by a power of two.

    python benchmarks/cache_checks.py random [FOLDER …] [--calibration 24]

``random`` is ResNet-50 with random weights; each FOLDER was written by train_resnet50.py or train_retinanet.py. The ranges of
every method are a cache, checked on held-out images and on synthetic ones.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from trained import CALIBRATION_SEED, read_trained

from cmx4trt.base.progress import Silent
from cmx4trt.errors import DataError
from cmx4trt.ir.int8 import INT8_MAX
from cmx4trt.ir.model import Model
from cmx4trt.networks import network_of_spec, spec_of
from cmx4trt.networks.graphs import network_from_model
from cmx4trt.quantize.calibration import SIGMAS
from cmx4trt.quantize.observe import Method, Wanted, observe
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.plausibility import IMAGES, check_against, jumps_of
from cmx4trt.quantize.random_samples import RandomSamples
from cmx4trt.quantize.samples import Samples, open_samples
from cmx4trt.requests.build import BuildRequest

FACTORS = (2.0, 4.0, 0.5, 0.25)
"""What flipping one of the two lowest bits of an exponent makes of a scale."""
Scales = Mapping[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="random, or folders with a trained network")
    parser.add_argument("--calibration", type=int, default=24, help="calibration images")
    options = parser.parse_args()
    print(
        "| network | checked on | largest jump | sound caches refused | "
        + " | ".join(f"x {f:g} found" for f in FACTORS)
        + " |"
    )
    print("|---" * (4 + len(FACTORS)) + "|")
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            model, calibration, held_out = opened(name, options.calibration, Path(folder))
            for line in rows(Path(name).name, model, calibration, held_out):
                print(line, flush=True)


def opened(name: str, count: int, folder: Path) -> tuple[Model, Samples, Samples]:
    """A network with calibration and held-out images."""
    if name == "random":
        spec = spec_of("resnet50")
        options = BuildRequest.from_values({"random_weights": 0}).graph_options()
        model = network_from_model(network_of_spec(spec).model_from_seed(0), spec, options).model
        samples = RandomSamples(spec.input_shape, count + IMAGES)
        return model, samples.part(0, count), samples.part(count, count + IMAGES)
    trained = read_trained(Path(name))
    found = []
    for title, seed, number in (
        ("calibration", CALIBRATION_SEED, count),
        ("held out", trained.facts["held_out_seed"], IMAGES),
    ):
        images, _ = trained.images(seed, 0, number, 1.0)
        np.save(folder / f"{title}.npy", images)
        found.append(open_samples(str(folder / f"{title}.npy"), images.shape[1:]))
    return trained.network().model, found[0], found[1]


def rows(name: str, model: Model, calibration: Samples, held_out: Samples) -> list[str]:
    """A row for each kind of images that the caches are checked on."""
    image, caches = model.graph.inputs[0].name, [scales_of(model, calibration, method) for method in Method]
    spread = max(cache[image] for cache in caches) * INT8_MAX / SIGMAS
    kinds = {"held-out images": held_out, "synthetic images": RandomSamples(calibration.shape, IMAGES, spread)}
    return [row(name, kind, largest(model, images), image, caches) for kind, images in kinds.items()]


def row(name: str, kind: str, seen: Scales, image: str, caches: list[Scales]) -> str:
    jumps = [
        jump for cache in caches for jump in jumps_of({n: cache[n] / seen[n] for n in seen if n != image}).values()
    ]
    most = max(max(jump, 1 / jump) for jump in jumps)
    cells = [name, kind, f"{most:.1f}", f"{sum(refused(cache, seen, image) for cache in caches)} of {len(caches)}"]
    for factor in FACTORS:
        damaged = [{**cache, one: cache[one] * factor} for cache in caches for one in cache if one != image]
        cells.append(f"{np.mean([refused(cache, seen, image) for cache in damaged]):.0%}")
    return "| " + " | ".join(cells) + " |"


def refused(cache: Scales, seen: Scales, image: str) -> bool:
    try:
        check_against(seen, image, cache)
    except DataError:
        return True
    return False


def scales_of(model: Model, samples: Samples, method: Method) -> Scales:
    wanted = Wanted(place(model.graph).activations, {})
    found = observe(model, wanted, samples, method, Silent()).ranges
    return {name: value / INT8_MAX for name, value in found.items()}


def largest(model: Model, samples: Samples) -> Scales:
    return observe(model, Wanted(place(model.graph).activations, {}), samples, Method.MINMAX, Silent()).ranges


if __name__ == "__main__":
    main()
