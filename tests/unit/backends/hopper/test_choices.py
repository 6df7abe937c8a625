"""The table that chooses kernels: the shipped one, one of the user's, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmx4trt.backends.hopper import Hopper
from cmx4trt.backends.hopper.candidates import Candidate
from cmx4trt.backends.hopper.choices import Choices, Table, choices_of
from cmx4trt.backends.hopper.options import SHIPPED
from cmx4trt.errors import DataError, RequestError
from cmx4trt.requests.build import BuildRequest

GOOD = {"gpu": "NVIDIA H100", "milliseconds": {"1": {"classifier": {"streamed": 0.5, "split-2": 0.25}}}}


def request(path: Path | None = None) -> BuildRequest:
    values = {"builder": "hopper", "random_weights": 0, "calibration_data": "random"}
    return BuildRequest.from_values({**values, "kernel_choices": path})


def test_the_fastest_that_was_measured_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text(json.dumps(GOOD))
    table = choices_of(str(path)).tables[1]
    streamed, split, unknown = Candidate("streamed"), Candidate("split", (2,)), Candidate("halo")
    assert table.choose("classifier", [streamed, split, unknown]) == split
    assert table.choose("another", [unknown, split]) == unknown


@pytest.mark.parametrize(
    ("gpu", "card"),
    [
        ("", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200"),
        ("NVIDIA GH200 480GB", "H100"),
        ("NVIDIA H20", "H100"),
    ],
)
def test_without_a_file_it_is_the_table_of_the_card_or_of_an_h100(gpu: str, card: str) -> None:
    assert card in choices_of(None, gpu).gpu


@pytest.mark.parametrize("card", SHIPPED)
def test_a_card_names_its_table_on_any_machine(card: str) -> None:
    assert card.upper() in choices_of(card, "NVIDIA H100 80GB HBM3").gpu


def test_what_tune_writes_is_read_back(tmp_path: Path) -> None:
    made = Choices("NVIDIA H200", {1: Table({"a": {"x": 0.5}}), 64: Table({"a": {"x": 0.5, "y": 1.0}})})
    path = tmp_path / "choices.json"
    path.write_text(made.to_json())
    assert choices_of(str(path)) == made
    path.write_text(json.dumps(json.loads(made.to_json())))
    assert choices_of(str(path)).digest == made.digest, "the spelling does not matter"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "list indices"),
        ("{}", "KeyError"),
        ("[" * 100_000, "nested too deep"),
        (json.dumps({**GOOD, "milliseconds": {}}), "no table for any batch size"),
        (json.dumps({**GOOD, "milliseconds": {"0": GOOD["milliseconds"]["1"]}}), "no table for any batch size"),  # type: ignore[index]
        (json.dumps({**GOOD, "milliseconds": {"many": {}}}), "invalid literal"),
        (json.dumps({**GOOD, "milliseconds": {"1": {}}}), "a batch size without a measurement"),
        (json.dumps({**GOOD, "milliseconds": {"1": {"a": {"x": -1}}}}), "-1 is not a time"),
        (json.dumps({**GOOD, "milliseconds": {"1": {"a": {"x": float("nan")}}}}), "nan is not a time"),
        (json.dumps({**GOOD, "milliseconds": {"1": {"a": {"x": True}}}}), "True is not a time"),
        (json.dumps({**GOOD, "milliseconds": {"1": {"a": {"x": "fast"}}}}), "'fast' is not a time"),
        (json.dumps({**GOOD, "gpu": 3}), "it names no GPU"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence_before_any_work(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "choices.json"
    path.write_text(content)
    with pytest.raises(DataError, match="is not a table of measured kernels") as caught:
        Hopper().builder().resolve(request(path))
    sentence = str(caught.value)
    assert sentence.startswith(f"kernel_choices {path} ")
    assert why in sentence
    assert sentence.endswith("; write it with 'cmx4trt tune ENGINE' on a machine with the GPU, or omit it")
    assert "\n" not in sentence


def test_a_file_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json is not a table of measured kernels \(No such file or directory\)"):
        Hopper().builder().resolve(request(tmp_path / "none.json"))


def test_other_builders_refuse_the_option(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="kernel_choices is for the builder hopper, not tensorrt-rtx; leave it out"):
        BuildRequest.from_values({"random_weights": 0, "kernel_choices": tmp_path})
