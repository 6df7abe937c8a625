"""Frozen classes behave as frozen dataclasses do, and the functions of ``dataclasses`` take them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from cmx4trt.base.frozen import Frozen, field, fields, replace


class Size(Frozen):
    """A size."""

    width: int
    height: int = 1


class Box(Size):
    """A size with more."""

    names: Mapping[str, int] = field(default_factory=dict)
    note: str = field(default="none", metadata={"shown": "no"})


class Whole(Frozen):
    """Looks at its values."""

    value: float

    def __post_init__(self) -> None:
        if self.value != int(self.value):
            raise ValueError(f"{self.value} is not whole")


def test_values_by_position_by_name_and_by_default() -> None:
    box = Box(3, note="big")
    assert (box.width, box.height, box.names, box.note) == (3, 1, {}, "big")
    assert Box(1).names is not Box(1).names
    assert [one.name for one in fields(Box)] == ["width", "height", "names", "note"]


@pytest.mark.parametrize(
    ("values", "named", "sentence"),
    [
        ((), {}, "needs 'width'"),
        ((1, 2, 3), {}, "takes 2 values, got 3"),
        ((1,), {"depth": 1}, "does not take 'depth'"),
        ((1,), {"width": 1}, "does not take 'width', or got it twice"),
    ],
)
def test_values_that_do_not_fit(values: tuple[Any, ...], named: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        Size(*values, **named)


def test_nothing_can_be_changed() -> None:
    size = Size(1)
    with pytest.raises(AttributeError, match=r"Size\.width cannot be changed"):
        size.width = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"Size\.width cannot be deleted"):
        del size.width


def test_equality_hash_and_text() -> None:
    assert Size(1, 2) == Size(1, 2) != Size(1, 3)
    assert Size(1) != Box(1) != 1
    assert len({Size(1, 2), Size(1, 2)}) == 1
    assert repr(Size(1)) == "Size(width=1, height=1)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Box(1))


def test_values_are_looked_at_when_all_are_there() -> None:
    with pytest.raises(ValueError, match=r"1\.5 is not whole"):
        Whole(1.5)


def test_a_default_that_could_be_changed_is_refused() -> None:
    with pytest.raises(TypeError, match="all instances would share one list"):
        type("Shared", (Frozen,), {"__annotations__": {"items": "list"}, "items": []})


def test_a_field_of_dataclasses_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Mixed\.items is declared with dataclasses\.field"):
        type("Mixed", (Frozen,), {"__annotations__": {"items": "list"}, "items": dataclasses.field(default=1)})


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_are_equal(again: Any) -> None:
    assert again(Box(1, names={"a": 1})) == Box(1, names={"a": 1})


def test_dataclasses_take_it() -> None:
    box = Box(1)
    assert replace(box, width=2) == dataclasses.replace(box, width=2) == Box(2)  # type: ignore[type-var]
    assert dataclasses.is_dataclass(Box)
    assert dataclasses.asdict(box) == {"width": 1, "height": 1, "names": {}, "note": "none"}  # type: ignore[call-overload]
    assert [(f.name, f.type) for f in dataclasses.fields(Size)] == [("width", "int"), ("height", "int")]  # type: ignore[arg-type]


def test_what_a_command_imports_has_no_generated_methods() -> None:
    """``dataclasses`` costs a reuse hit more than all else but reading its files, and numpy a build without verification."""
    for modules in (
        "cmx4trt.cli.build, cmx4trt.pipeline.build",
        "cmx4trt.networks.graphs, cmx4trt.networks.resnet50.onnx_import, cmx4trt.pipeline.records, cmx4trt.graph.layers",
        "cmx4trt.backends.tensorrt.serialize, cmx4trt.backends.tensorrt.preload",
    ):
        program = f"import sys, {modules}; print(*sorted({{'dataclasses', 'inspect', 'numpy'}} & {{*sys.modules}}))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [], modules
