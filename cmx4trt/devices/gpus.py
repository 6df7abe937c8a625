"""What NVIDIA publishes about its GPUs: peak rates without sparsity, and memory bandwidth, for estimates only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cmx4trt.base.values import nearest
from cmx4trt.errors import RequestError

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: ``tera_per_second`` are 10^12 operations (a multiply-accumulate is two) for each supported precision.

    ``gigabytes_per_second``: memory bandwidth; ``source``: the NVIDIA document with these figures.
    """

    name: str
    architecture: str
    compute_capability: str
    tera_per_second: Mapping[str, float]
    gigabytes_per_second: float
    source: str

    @property
    def sm(self) -> str:
        """The compute capability in the format of targets: sm89."""
        return "sm" + self.compute_capability.replace(".", "")


def _gpu(
    name: str,
    architecture: str,
    capability: str,
    rates: tuple[float, float, float | None, float],
    gb: float,
    source: str,
) -> Gpu:
    named = zip(("fp32", "fp16", "bf16", "int8"), rates, strict=True)
    return Gpu(name, architecture, capability, {p: rate for p, rate in named if rate is not None}, gb, source)


GPUS: tuple[Gpu, ...] = (
    _gpu("T4", "Turing", "7.5", (8.1, 65, None, 130), 320, "NVIDIA Turing GPU Architecture whitepaper, T4 datasheet"),
    _gpu("A100", "Ampere", "8.0", (156, 312, 312, 624), 2039, "NVIDIA A100 Tensor Core GPU datasheet, 80 GB SXM"),
    _gpu("A40", "Ampere", "8.6", (74.8, 149.7, 149.7, 299.3), 696, "NVIDIA A40 datasheet"),
    _gpu(
        "L4",
        "Ada",
        "8.9",
        (60, 121, 121, 242.5),
        300,
        "NVIDIA L4 Tensor Core GPU datasheet, halved (given with sparsity)",
    ),
    _gpu("L40S", "Ada", "8.9", (183, 362.05, 362.05, 733), 864, "NVIDIA L40S datasheet"),
    _gpu(
        "RTX 4090",
        "Ada",
        "8.9",
        (82.6, 330.3, 165.2, 660.6),
        1008,
        "NVIDIA Ada GPU Architecture whitepaper, appendix A",
    ),
    _gpu(
        "H100",
        "Hopper",
        "9.0",
        (494.5, 989.5, 989.5, 1979),
        3350,
        "NVIDIA H100 datasheet, SXM, halved (given with sparsity)",
    ),
    _gpu(
        "H200",
        "Hopper",
        "9.0",
        (494.5, 989.5, 989.5, 1979),
        4800,
        "NVIDIA H200 datasheet, SXM, halved (given with sparsity)",
    ),
    _gpu(
        *("RTX 5090", "Blackwell", "12.0", (104.8, 419, 209.5, 838), 1792),
        source="NVIDIA RTX Blackwell GPU Architecture whitepaper, appendix A",
    ),
)
"""Rates in the order fp32, fp16, bf16, int8. The highest dense rate is used as the roof of the type: fp32 as
TF32 on tensor cores if supported, fp16 accumulated in float16. A figure that NVIDIA does not publish is None."""

NAMES = tuple(gpu.name for gpu in GPUS)


def gpu_of_name(name: str) -> Gpu:
    """The GPU called ``name``; case, spaces and 'NVIDIA', 'GeForce' are ignored. Raises RequestError."""
    wanted = _plain(name)
    for gpu in GPUS:
        if _plain(gpu.name) == wanted:
            return gpu
    raise RequestError(f"gpu is '{name}', expected one of {', '.join(NAMES)}{nearest(name, NAMES)}")


def gpu_of_device(device: str) -> Gpu | None:
    """The GPU in a library's device name, such as 'NVIDIA H200'; None if it is not in the table."""
    found = (gpu for gpu in GPUS if re.search(rf"\b{gpu.name}\b", device, re.IGNORECASE))
    return next(found, None)


def _plain(name: str) -> str:
    kept = name.lower().replace("nvidia", "").replace("geforce", "")
    return "".join(character for character in kept if character.isalnum())
