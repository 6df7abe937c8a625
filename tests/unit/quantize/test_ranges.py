"""The file of ranges and the store of earlier results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.errors import DataError
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.quantize.ranges import Ranges, RangesStore, digest_of_model

scales = st.dictionaries(st.text(min_size=1), st.floats(0, 2.0**100, width=32), min_size=1)


def some_ranges(**changes: object) -> Ranges:
    means = {"a": np.array([0.1, -2.5], np.float32)}
    values: dict[str, object] = {"scales": {"a": 0.5}, "method": "minmax", "samples": 4, "means": means}
    values["largest"] = {"a": 60.0, "b": 70000.0}
    return Ranges(**{"model_sha256": "m" * 64, "data_sha256": "d" * 64, **values, **changes})  # type: ignore[arg-type]


@given(scales)
def test_json_keeps_every_bit(values: dict[str, float]) -> None:
    again = Ranges.from_json(some_ranges(scales=values).to_json(), "it")
    assert again.scales == values
    assert again.means["a"].tobytes() == some_ranges().means["a"].tobytes()
    assert again.largest == {"a": 60.0, "b": 70000.0}
    assert (again.method, again.samples, again.model_sha256) == ("minmax", 4, "m" * 64)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "cmx4trt-ranges/0"}', '{"schema": "cmx4trt-ranges/1"}'])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="it is not a file of ranges"):
        Ranges.from_json(text, "it")


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
def test_impossible_scales_are_refused(bad: float) -> None:
    content = {**json.loads(some_ranges().to_json()), "scales": {"a": 1.0, "b": bad}}
    with pytest.raises(DataError, match="its sha256 is not that of its content"):
        Ranges.from_json(json.dumps(content), "it")
    del content["sha256"]
    with pytest.raises(DataError, match="it gives tensor 'b' the scale"):
        Ranges.from_json(json.dumps(content), "it")


def test_store_finds_what_it_kept_and_nothing_else(own_cache: Path) -> None:
    store, ranges = RangesStore(), some_ranges()
    assert store.find("m" * 64, "d" * 64, "minmax") is None
    path = store.keep(ranges)
    assert path.startswith(str(own_cache))
    found = store.find("m" * 64, "d" * 64, "minmax")
    assert found is not None
    assert found.scales == ranges.scales
    assert store.find("m" * 64, "d" * 64, "entropy") is None
    assert store.find("x" * 64, "d" * 64, "minmax") is None


def test_a_damaged_file_is_a_miss() -> None:
    store = RangesStore()
    path = Path(store.keep(some_ranges()))
    path.write_text(path.read_text()[:-30])
    assert store.find("m" * 64, "d" * 64, "minmax") is None


def test_a_file_under_a_wrong_name_is_a_miss() -> None:
    store = RangesStore()
    path = Path(store.keep(some_ranges()))
    path.rename(store.path("x" * 64, "d" * 64, "minmax"))
    assert store.find("x" * 64, "d" * 64, "minmax") is None


def test_model_digest_follows_weights_and_structure(residual: Model) -> None:
    first = digest_of_model(residual)
    assert digest_of_model(residual.copy()) == first
    heavier = residual.copy()
    heavier.graph.initializers["w1"] = Tensor.from_numpy("w1", residual.graph.initializers["w1"].numpy() + 1)
    other = residual.copy()
    other.graph.nodes[1].op_type = "Sigmoid"
    assert len({first, digest_of_model(heavier), digest_of_model(other)}) == 3


def test_ranges_of_an_earlier_release_are_found_anew(own_cache: Path) -> None:
    """They do not say how large values were; a user's own file may lack it."""
    store = RangesStore()
    store.keep(some_ranges(largest={}))
    assert store.find("m" * 64, "d" * 64, "minmax") is None
    content = json.loads(some_ranges().to_json())
    del content["largest_magnitudes"], content["sha256"]
    assert Ranges.from_json(json.dumps(content), "it").largest == {}


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_impossible_magnitudes_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="magnitudes that are NaN or infinite"):
        Ranges.from_json(some_ranges(largest={"a": bad}).to_json(), "it")
