"""What a cell of a sweep can be given: the options of ``build``, those of ``bench`` and ``verify`` with a prefix, and its GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cmx4trt.base.options import YES_NO, Kind, Option
from cmx4trt.base.values import parse_text
from cmx4trt.devices.cards import capability_of
from cmx4trt.errors import RequestError
from cmx4trt.requests.evaluation_options import BENCH_OPTIONS, VERIFY_OPTIONS
from cmx4trt.requests.options import build_options

BENCH, ACCURACY = "bench", "accuracy"
"""Prefixes: ``bench.duration`` is an option of ``cmx4trt bench``, ``accuracy.data`` one of ``cmx4trt verify``."""
GPU = "gpu"
_OF_THE_STORE = ("output_dir", "wait")
_OF_THE_BUILD = ("network", "model", "log_dir")
"""Options of evaluations that follow from what is built."""


def _parse_gpu(name: str, value: object) -> str:
    """A compute capability ('sm90'), however it is said, or else a scheduler's own word for a kind of GPU."""
    text = parse_text(name, value)
    found = capability_of(text)
    if found is None and not text.replace("-", "").replace("_", "").isalnum():
        raise RequestError(f"{name} is '{text}', expected a compute capability such as sm90, or the name of a card")
    return found or text


GPU_KIND = Kind(_parse_gpu)
_GPU_HELP = (
    "kind of GPU on which a cell is measured and, with device cuda, built: a compute capability such as sm90, the name of a "
    "card, or the scheduler's own name for it (default: none; the engine's graph runs on the CPU)"
)


def _prefixed(prefix: str, options: tuple[Option, ...]) -> dict[str, Option]:
    named = ((f"{prefix}.{one.name}", one) for one in options if one.name not in _OF_THE_BUILD)
    return {name: replace(one, name=name) for name, one in named}


def cell_options() -> Mapping[str, Option]:
    """Name in the file -> the option."""
    return {
        **{one.name: one for one in build_options() if one.name not in _OF_THE_STORE},
        GPU: Option(GPU, GPU_KIND, _GPU_HELP),
        BENCH: Option(BENCH, YES_NO, "whether LoadGen measures the cell", True),
        **_prefixed(BENCH, BENCH_OPTIONS),
        **_prefixed(ACCURACY, VERIFY_OPTIONS),
    }
