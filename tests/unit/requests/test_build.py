from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.base.values import parse_size
from cmx4trt.errors import RequestError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import build_options


def refused(**values: object) -> str:
    with pytest.raises(RequestError) as error:
        BuildRequest.from_values(values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults() -> None:
    request = BuildRequest.from_values({})
    assert (request.network, request.device, request.builder, request.precision) == (
        "resnet50",
        "cpu",
        "tensorrt-rtx",
        "fp16",
    )
    assert (request.batch_size, request.copy_streams, request.scenario) == (1, 1, "Offline")
    assert request.workspace_size == 4 << 30
    assert request.output_dir == os.path.abspath("engines")
    assert request.verify


def test_names_of_options_are_text() -> None:
    with pytest.raises(RequestError, match="there is no option '1'"):
        BuildRequest.from_values({1: 2})  # type: ignore[dict-item]


def test_defaults_that_follow_from_others() -> None:
    assert BuildRequest.from_values({"device": "cuda"}).builder == "common-code"
    assert BuildRequest.from_values({"device": "cuda"}).precision == "int8"
    assert BuildRequest.from_values({"device": "cuda", "builder": "tensorrt"}).precision == "fp16"


def test_case_and_spaces_do_not_matter() -> None:
    request = BuildRequest.from_values({"scenario": " server ", "precision": "BF16", "batch_size": " 8 "})
    assert (request.scenario, request.precision, request.batch_size) == ("Server", "bf16", 8)


@pytest.mark.parametrize("value", ["0", "-1", "1e9", "many", "1.5", "", "\uff11\uff12", 1000000000, True, 2.0])
def test_impossible_batches(value: object) -> None:
    assert "batch_size" in refused(batch_size=value)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("network", "resnet", "did you mean 'resnet50'?"),
        ("scenario", "Ofline", "did you mean 'Offline'?"),
        ("precision", "fp61", "did you mean 'fp16'?"),
        ("target", "sm95", "or the name of a card such as 'RTX 4090'"),
        ("target", "ampear", "did you mean 'ampere'?"),
        ("builder", "tensorrt_rtx", "did you mean 'tensorrt-rtx'?"),
        ("device", "gpu", "expected one of cpu, cuda"),
    ],
)
def test_unknown_words_get_a_suggestion(name: str, value: str, hint: str) -> None:
    assert hint in refused(**{name: value})


def test_unknown_option() -> None:
    assert refused(batchsize=1) == "there is no option 'batchsize'; did you mean 'batch_size'?"


def test_a_flag_without_value() -> None:
    assert "write --scenario=VALUE, with the equals sign" in refused(scenario=True)


def test_combinations_that_exclude_each_other() -> None:
    assert "exclude each other" in refused(model="m.onnx", random_weights=1)
    assert "needs a GPU" in refused(device="cpu", builder="common-code")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4194304", 4 << 30),
        ("512MiB", 512 << 20),
        ("4GiB", 4 << 30),
        ("1 GB", 10**9),
        ("16777216B", 1 << 24),
        (4194304, 4 << 30),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size("workspace_size", text) == size


@pytest.mark.parametrize("text", ["", "4", "1GiBB", "GiB", "-1GiB", "1e3MiB", "999999999999GiB", "0x10"])
def test_impossible_sizes(text: str) -> None:
    with pytest.raises(RequestError, match="workspace_size"):
        parse_size("workspace_size", text)


def test_paths_become_absolute_and_keep_spaces_and_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = BuildRequest.from_values({"output_dir": "mes modèles/été", "model": Path("a b.onnx")})
    assert request.output_dir == str(tmp_path / "mes modèles/été")
    assert request.model == str(tmp_path / "a b.onnx")
    assert "NUL" in refused(model="a\0b")


@given(
    st.integers(1, 65536), st.integers(1, 16), st.integers(16 << 20, 2**40), st.sampled_from(["yes", "no", True, False])
)
def test_json_round_trip(batch: int, streams: int, workspace: int, verify: object) -> None:
    values = {"batch_size": batch, "copy_streams": streams, "workspace_size": f"{workspace}B", "verify": verify}
    request = BuildRequest.from_values(values)
    assert BuildRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


@pytest.mark.parametrize("record", ["", [], None, 1])
def test_what_is_no_record(record: object) -> None:
    with pytest.raises(RequestError, match=f"the request is of type {type(record).__name__}, expected an object"):
        BuildRequest.from_dict(record)


def test_graph_code_gets_the_few_options_it_reads() -> None:
    options = BuildRequest.from_values({"precision": "fp32", "output_dtype": "fp16"}).graph_options()
    assert (options.precision, options.output_dtype, options.model) == ("fp32", "fp16", None)
    assert {f.name for f in fields(options)} < {f.name for f in fields(BuildRequest)}


def test_summary_names_every_option_in_effect() -> None:
    summary = dict(BuildRequest.from_values({}).summary())
    unset = {"model", "random_weights"}
    assert not unset & summary.keys()
    assert list(summary) == [option.name for option in build_options() if option.name in summary]
    assert summary["workspace_size"] == "4 GiB"
    assert summary["verify"] == "yes"


def test_every_option_has_a_meaning_and_a_parsable_default() -> None:
    for option in build_options():
        assert option.help
        if option.default is not None:
            option.parse(option.default)
