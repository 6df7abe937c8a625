"""What cannot be meant of an engine is refused before one is built or opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.cli import main
from cmx4trt.errors import RequestError
from cmx4trt.pipeline.evaluate import check_evaluation
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import LOADGEN_OPTIONS, EvaluationOptions

BUILT = BuildRequest.from_values({"random_weights": 0, "batch_size": 4})
SAMPLE = {"labels": "/l", "count": 5, "batch_size": 2, "scenario": "Server", "target_qps": 9.0, "user_conf": "/u"}


def check(command: str, **values: Any) -> None:
    check_evaluation(command, EvaluationOptions(**values), BUILT)


@pytest.mark.parametrize("name", LOADGEN_OPTIONS)
def test_verify_without_data_refuses_what_only_loadgen_would_read(name: str) -> None:
    with pytest.raises(RequestError, match=f"--{name} has no effect without --data"):
        check("verify", **{name: SAMPLE.get(name, "/x")})


@pytest.mark.parametrize(
    ("command", "values", "words"),
    [
        ("bench", {"mode": "accuracy", "duration": 5.0}, "--duration has no effect in accuracy mode"),
        ("bench", {"scenario": "MultiStream", "target_qps": 5.0}, "--target_qps has no effect in MultiStream"),
        ("verify", {"data": "/d", "scenario": "SingleStream", "target_qps": 5.0}, "no effect in SingleStream"),
        ("bench", {"rules": "mlperf", "count": 5}, "rules=mlperf takes count and duration from mlperf.conf"),
        ("bench", {"batch_size": 5}, "batch_size is 5, expected at most the engine's 4"),
        ("bench", {"user_conf": "/nowhere"}, "/nowhere"),
    ],
)
def test_what_contradicts_itself(command: str, values: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check(command, **values)


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("verify", {}),
        ("verify", {"data": "synthetic", "count": 5, "scenario": "Server", "target_qps": 9.0}),
        ("bench", {"scenario": "Server", "target_qps": 9.0, "duration": 1.0, "batch_size": 4}),
        ("bench", {"mode": "accuracy", "count": 8}),
    ],
)
def test_what_can_be_meant(command: str, values: dict[str, Any]) -> None:
    check(command, **values)


def test_a_build_does_not_begin_with_an_evaluation_that_cannot_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps({"bench": {"rules": "mlperf", "count": 5}}))
    out = tmp_path / "engines"
    assert main(["build", "--random_weights=0", f"--evaluation={evaluation}", f"--output_dir={out}"]) == 2
    assert "rules=mlperf" in capsys.readouterr().err
    assert not out.exists()
