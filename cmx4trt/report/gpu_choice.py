"""Which GPU in the table a report estimates the speed for."""

from __future__ import annotations

from collections.abc import Sequence

from cmx4trt.devices.gpus import GPUS, Gpu, gpu_of_name
from cmx4trt.report.facts import EngineFacts

_USUAL = ("H100", "RTX 4090", "A40", "RTX 5090", "T4")
"""Of equally suitable GPUs, the first of these is shown. TensorRT-RTX does not support the H100, so it means TensorRT only."""
_NEAREST = "RTX 5090"
"""For engines that no GPU in the table can run: those for sm121 only, the other Blackwell that TensorRT-RTX compiles for."""


def gpu_of_engines(engines: Sequence[EngineFacts]) -> Gpu:
    """The GPU to show unless another is requested, regardless of the order of the engines.

    It is one that most of them may be intended for; of several such, one that ran most of them; of those, the usual one.
    """
    fitting = [gpu for facts in engines for gpu in facts.gpus]
    ran = [facts.gpu_that_ran for facts in engines]

    def rank(gpu: Gpu) -> tuple[int, int, int]:
        usual = _USUAL.index(gpu.name) if gpu.name in _USUAL else len(_USUAL)
        return fitting.count(gpu), ran.count(gpu), -usual

    return max(GPUS, key=rank) if fitting else gpu_of_name(_NEAREST)
