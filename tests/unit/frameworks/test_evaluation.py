"""CM's _verify and _bench: which options reach the worker, and when CM fetches images and LoadGen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.cm.hooks import CM
from cmx4trt.errors import DataError, RequestError
from cmx4trt.frameworks.evaluation import COMMAND_KEYS, ScriptEvaluation, evaluation_of_environment
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import CM_OPTIONS, EvaluationOptions

MAPPING = {option.name: f"KEY_{option.name.upper()}" for option in CM_OPTIONS}
REAL = BuildRequest.from_values({"model": "/models/resnet50.onnx"})
RANDOM = BuildRequest.from_values({"random_weights": 0})


def asked(*commands: str, request: BuildRequest = REAL, **flags: Any) -> ScriptEvaluation:
    env: dict[str, Any] = {COMMAND_KEYS[command]: "yes" for command in commands}
    env |= {MAPPING.get(name, name): value for name, value in flags.items()}
    return evaluation_of_environment(CM, env, [name for name in flags if name in MAPPING], MAPPING, request)


def test_nothing_is_proved_unless_asked_for() -> None:
    evaluation = asked()
    assert (evaluation.commands, evaluation.keys(), evaluation.worker_file(CM, "/nowhere", {})) == ({}, {}, "")


def test_flags_without_their_variation_are_refused() -> None:
    with pytest.raises(RequestError, match="--mode has no effect without _verify or _bench"):
        asked(mode="accuracy")


def test_keys_of_other_scripts_are_left_alone() -> None:
    """CM_MLPERF_LOADGEN_MODE may hold what another script of a workflow understands."""
    assert evaluation_of_environment(CM, {MAPPING["mode"]: "compliance"}, [], MAPPING, REAL).commands == {}
    with pytest.raises(RequestError, match="mode is 'compliance'"):
        asked("bench", mode="compliance")


def test_speed_needs_loadgen_and_no_images() -> None:
    evaluation = asked("bench", duration="2.5", mode="Performance")
    assert evaluation.commands == {"bench": EvaluationOptions(duration=2.5)}
    assert evaluation.keys() == {"CMX4TRT_RUN_LOADGEN": "yes"}


@pytest.mark.parametrize(("command", "flags"), [("verify", {}), ("bench", {"mode": "accuracy"})])
def test_accuracy_needs_the_data_set_and_counts_the_seeds_batches(
    command: str, flags: dict[str, str], tmp_path: Path
) -> None:
    evaluation = asked(command, CM_BATCH_COUNT="5", CM_BATCH_SIZE="20", **flags)
    assert evaluation.keys() == {
        "CMX4TRT_RUN_LOADGEN": "yes",
        "CMX4TRT_NEED_IMAGES": "yes",
        "CMX4TRT_HAVE_CALIBRATION": "no",
    }
    flag = evaluation.worker_file(CM, str(tmp_path), {"CM_DATASET_PREPROCESSED_PATH": "/data/preprocessed"})
    written = json.loads(Path(flag.removeprefix("--evaluation=")).read_text())
    assert written == {command: {**flags, "count": 100, "data": "/data/preprocessed"}}


def test_own_data_and_count_win() -> None:
    evaluation = asked("verify", data="/own", count="7", CM_BATCH_COUNT="5")
    assert evaluation.commands == {"verify": EvaluationOptions(data="/own", count=7)}
    assert evaluation.keys() == {"CMX4TRT_RUN_LOADGEN": "yes"}


def test_random_weights_have_no_accuracy() -> None:
    evaluation = asked("verify", request=RANDOM)
    assert evaluation.keys() == {}
    assert evaluation.commands == {"verify": EvaluationOptions()}


def test_both_at_once_share_the_flags_they_know(tmp_path: Path) -> None:
    evaluation = asked("verify", "bench", duration="3", execute="graph")
    flag = evaluation.worker_file(CM, str(tmp_path), {"CM_DATASET_PREPROCESSED_PATH": "/data"})
    written = json.loads(Path(flag.removeprefix("--evaluation=")).read_text())
    assert written == {
        "verify": {"execute": "graph", "count": 1, "data": "/data"},
        "bench": {"execute": "graph", "duration": 3.0},
    }


def test_what_verify_has_no_use_for_is_benchs_or_refused() -> None:
    evaluation = asked("verify", "bench", request=RANDOM, target_qps="100", log_dir="/logs")
    assert evaluation.commands == {
        "verify": EvaluationOptions(),
        "bench": EvaluationOptions(target_qps=100.0, log_dir="/logs"),
    }
    with pytest.raises(RequestError, match="--log_dir has no effect without --data"):
        asked("verify", request=RANDOM, log_dir="/logs")
    with pytest.raises(RequestError, match="--mode has no effect without _bench"):
        asked("verify", mode="accuracy")


def test_contradictions_are_refused_before_anything_is_fetched() -> None:
    with pytest.raises(RequestError, match="rules=mlperf takes count"):
        asked("bench", rules="mlperf", count="5")


def test_a_dependency_that_brought_no_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="CM_DATASET_PREPROCESSED_PATH"):
        asked("verify").worker_file(CM, str(tmp_path), {})


@pytest.mark.parametrize(("key", "value"), [("CM_BATCH_COUNT", "0"), ("CM_BATCH_SIZE", "many"), ("count", "-1")])
def test_numbers_are_checked_before_anything_is_fetched(key: str, value: str) -> None:
    with pytest.raises(RequestError, match=key):
        asked("verify", **{key: value})


@pytest.mark.parametrize(
    ("flags", "checked"),
    [({}, ["bench"]), ({"data": "/own"}, ["verify", "bench"]), ({"mode": "accuracy"}, [])],
)
def test_a_dry_run_checks_the_images_that_are_there(flags: dict[str, str], checked: list[str], tmp_path: Path) -> None:
    """Those that a dependency would fetch are not."""
    flag = asked("verify", "bench", **flags).worker_file(CM, str(tmp_path), {}, dry_run=True)
    assert (list(json.loads(Path(flag).read_text())) if flag else []) == checked
