"""Schedules: every operation once, no two live buffers in one place, kernels that fit, choices that are followed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cmx4trt.backends.hopper.choices import Choices, Table, choices_from_json, shipped_choices
from cmx4trt.backends.hopper.network import Convolution, MaxPool, Network
from cmx4trt.backends.hopper.plan import Launch, Plan
from cmx4trt.backends.hopper.schedule import Types, schedule
from cmx4trt.backends.hopper.site import SHARED_BYTES
from cmx4trt.backends.hopper.tune import options_of, variants
from cmx4trt.errors import UnsupportedError

EXTRA = {"quantize", "arg max", "round the logits"}
ALL_TYPES = [Types("int8"), Types("float32"), Types("float16", "float16")]


def plans(network: Network, max_batch: int, types: Types) -> list[Plan]:
    """The plan of the shipped choices, and those of every variant that tuning measures."""
    chosen = [shipped_choices(), *(Choices("", {1: table}) for table in variants(network))]
    return [schedule(network, max_batch, types, choices).plan for choices in chosen]


def changed(network: Network, name: str, **values: Any) -> Network:
    """The network with one operation changed."""
    return replace(
        network, operations=tuple(replace(op, **values) if op.name == name else op for op in network.operations)
    )


@pytest.mark.parametrize("types", ALL_TYPES, ids=lambda types: types.input)
def test_every_operation_is_computed_once(hopper_resnet50: Any, types: Types) -> None:
    wanted = sorted(operation.name for operation in hopper_resnet50.network.operations)
    for plan in plans(hopper_resnet50.network, 1024, types):
        assert [program.first for program in plan.programs] == [
            1,
            *(program.last + 1 for program in plan.programs[:-1]),
        ]
        assert plan.programs[-1].last == 1024
        for program in plan.programs:
            assert sorted(n for launch in program.launches for n in launch.operations if n not in EXTRA) == wanted


@pytest.mark.parametrize("types", ALL_TYPES, ids=lambda types: types.input)
@pytest.mark.parametrize("max_batch", [1, 3, 64, 2048])
def test_live_buffers_do_not_overlap(hopper_resnet50: Any, types: Types, max_batch: int) -> None:
    for plan in plans(hopper_resnet50.network, max_batch, types):
        places = {
            b.name: (b.offset - b.before, b.offset + b.bytes_per_image * max_batch + b.after) for b in plan.buffers
        }
        assert all(start >= 0 and end <= plan.arena_bytes for start, end in places.values())
        for program in plan.programs:
            lives = lives_of(program.launches, places)
            for first in lives:
                for second in lives:
                    together = lives[first][0] <= lives[second][1] and lives[second][0] <= lives[first][1]
                    apart = places[first][1] <= places[second][0] or places[second][1] <= places[first][0]
                    assert first == second or not together or apart, (first, second)


def lives_of(launches: tuple[Launch, ...], places: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """For every buffer the first and the last launch that touches it."""
    touched = {name: [i for i, one in enumerate(launches) if name in (*one.reads, *one.writes)] for name in places}
    return {name: (found[0], found[-1]) for name, found in touched.items() if found}


def test_what_is_read_was_written(hopper_resnet50: Any) -> None:
    for plan in plans(hopper_resnet50.network, 64, Types()):
        for program in plan.programs:
            written = {"input"}
            for launch in program.launches:
                assert written >= set(launch.reads), launch
                written.update(launch.writes)
            assert {"logits", "class"} <= written


def test_kernels_fit_a_multiprocessor(hopper_resnet50: Any) -> None:
    for plan in plans(hopper_resnet50.network, 64, Types()):
        assert all(kernel.shared_bytes <= SHARED_BYTES and kernel.threads <= 1024 for kernel in plan.kernels)


@pytest.mark.parametrize("padding", [0, 1])
def test_the_stem_pools_with_either_padding(hopper_resnet50: Any, padding: int) -> None:
    (pool,) = (op for op in hopper_resnet50.network.operations if isinstance(op, MaxPool))
    plan = schedule(changed(hopper_resnet50.network, pool.name, padding=padding), 1, Types(), shipped_choices()).plan
    (stem,) = (kernel for kernel in plan.kernels if kernel.source == "stem.cu")
    assert stem.constants["POOL_PADDING"] == padding


def test_an_operation_without_a_kernel_is_named(hopper_resnet50: Any) -> None:
    network = hopper_resnet50.network
    (odd,) = (op for op in network.operations if isinstance(op, Convolution) and op.name == "res4b_branch2a")
    narrow = replace(odd, weights=odd.weights[..., :96])
    with pytest.raises(
        UnsupportedError, match=r"no kernel for res4b_branch2a \(Convolution with weights \[256, 1, 1, 96\]\)"
    ):
        schedule(changed(network, odd.name, weights=narrow.weights), 1, Types(), shipped_choices())


def test_the_fastest_measured_candidate_is_taken(hopper_resnet50: Any) -> None:
    options = options_of(hopper_resnet50.network)
    signature = "1x1/1 1024->256 at 14"
    for wanted in options[signature]:
        times = {name: 1.0 if name == wanted else 2.0 for name in options[signature]}
        plan = schedule(hopper_resnet50.network, 64, Types(), Choices("", {1: Table({signature: times})})).plan
        (launch,) = (one for one in plan.programs[0].launches if one.operations == ("res4b_branch2a",))
        family, *numbers = wanted.split("-")
        assert launch.kernel.startswith(family)
        assert all(f"_{number}" in launch.kernel for number in numbers)


def test_tables_serve_the_batches_around_them() -> None:
    tables = {batch: Table({}) for batch in (1, 8, 64)}
    assert [(first, last) for first, last, _ in Choices("", tables).ranges(1000)] == [(1, 2), (3, 22), (23, 1000)]
    assert [(first, last) for first, last, _ in Choices("", tables).ranges(2)] == [(1, 2)]


def test_choices_survive_their_file() -> None:
    shipped = shipped_choices()
    assert choices_from_json(shipped.to_json()) == shipped
    for text in ("", "{}", '{"gpu": "x", "milliseconds": {}}', '{"gpu": "x", "milliseconds": {"0": {}}}', "[]"):
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            choices_from_json(text)
