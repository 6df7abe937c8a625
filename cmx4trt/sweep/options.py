"""What a cell of a sweep can be given: the options of ``build``, those of ``bench`` and ``verify`` with a prefix, and its GPU."""

from __future__ import annotations

from collections.abc import Mapping

from cmx4trt.base.values import parse_bool, parse_text
from cmx4trt.devices.cards import capability_of
from cmx4trt.errors import RequestError
from cmx4trt.requests.evaluation_options import BENCH_OPTIONS, VERIFY_OPTIONS
from cmx4trt.requests.options import OPTIONS, Option

BENCH, ACCURACY = "bench", "accuracy"
"""Prefixes: ``bench.duration`` is an option of ``cmx4trt bench``, ``accuracy.data`` one of ``cmx4trt verify``."""
GPU = "gpu"
_OF_THE_SWEEP = ("output_dir", "wait", "network", "model", "log_dir")
"""Options that are the same for all cells, or that follow from the build."""


def _parse_gpu(name: str, value: object) -> str:
    """A compute capability ('sm90'), however it is said, or else a scheduler's own word for a kind of GPU."""
    text = parse_text(name, value)
    found = capability_of(text)
    if found is None and not text.replace("-", "").replace("_", "").isalnum():
        raise RequestError(f"{name} is '{text}', expected a compute capability such as sm90, or the name of a card")
    return found or text


def _prefixed(prefix: str, options: tuple[Option, ...]) -> dict[str, Option]:
    return {f"{prefix}.{option.name}": option for option in options if option.name not in _OF_THE_SWEEP}


CELL_OPTIONS: Mapping[str, Option] = {
    **{option.name: option for option in OPTIONS if option.name not in ("output_dir", "wait")},
    GPU: Option(
        GPU,
        None,
        "the kind of GPU that a cell is measured on, and built on with the device cuda: a compute capability such as sm90, the "
        "name of a card, or the scheduler's own word (default: none; the engine's graph runs on the CPU)",
        _parse_gpu,
    ),
    BENCH: Option(BENCH, True, "whether LoadGen measures the cell", parse_bool, ("yes", "no")),
    **_prefixed(BENCH, BENCH_OPTIONS),
    **_prefixed(ACCURACY, VERIFY_OPTIONS),
}
"""Name in the file -> the option."""
