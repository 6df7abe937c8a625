"""The three hooks, called as CM calls them, without CM and without the worker."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt import backends
from cmx4trt.cm import hooks
from cmx4trt.frameworks.keys import internal_keys
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_options

MAPPING = {option.name: f"KEY_{option.name.upper()}" for option in (*build_options(), *CM_OPTIONS)} | {
    "dry_run": "CMX4TRT_DRY_RUN"
}


class FakeBuilder:
    def version(self) -> str:
        return "1.0"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., None]) -> Path:
    """The user's folder; whatever a test does, the process returns to where it was."""
    for name in backends.names():
        stand_in(name, builder=FakeBuilder)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def call(env: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """What CM hands to a hook; ``given`` are the flags."""
    return {
        "env": {"CM_TMP_CURRENT_PATH": os.getcwd(), **(env or {})},
        "input": given,
        "meta": {"input_mapping": MAPPING, "variations": {"cpu": {}, "random-weights.#": {}}},
        "os_info": {"platform": "linux"},
        "variation_tags": [],
        "run_script_input": {
            "const": {MAPPING[flag]: value for flag, value in given.items() if flag in MAPPING},
            "customize_common_input": {"input": given},
        },
    }


def finish(i: dict[str, Any], status: int | str, result: dict[str, Any] | None) -> dict[str, Any]:
    """What run.sh leaves, then postprocess."""
    if result is not None:
        Path(i["env"]["CMX4TRT_RESULT_FILE"]).write_text(json.dumps(result))
    i["env"]["CMX4TRT_EXIT_STATUS"] = str(status)
    return hooks.postprocess(i)


def start(**given: Any) -> dict[str, Any]:
    i = call(**given)
    assert hooks.predeps(i) == {"return": 0}
    assert hooks.preprocess(i) == {"return": 0}
    return i


def test_whole_run(home: Path) -> None:
    i = start(random_weights="7", batch_size="4", output_dir="engines é")
    scratch = Path.cwd()
    assert scratch != home
    request = json.loads(Path(i["env"]["CMX4TRT_REQUEST_FILE"]).read_text())
    ours = {key for key in i["env"] if key.startswith("CMX4TRT_")}
    assert ours - {*MAPPING.values()} <= internal_keys(), "else a second engine of the same script is refused"
    assert (request["random_weights"], request["batch_size"]) == (7, 4)
    assert request["output_dir"] == str(home / "engines é")
    assert i["env"]["CM_PYTHON_BIN_WITH_PATH"] == sys.executable
    answer = finish(i, 0, {"engine": "e", "manifest": "m", "exports": {"BATCH_SIZE": 4, "SHA256": "ab"}})
    assert answer == {"return": 0}
    assert (i["env"]["CM_MLPERF_ENGINE_BATCH_SIZE"], i["env"]["CM_MLPERF_ENGINE_SHA256"]) == ("4", "ab")
    assert Path.cwd() == home
    assert not scratch.exists()
    assert i["input"]["dirty"] is True


def test_values_are_canonical_for_the_dependencies(home: Path) -> None:
    i = call(env={MAPPING["scenario"]: "server"}, network="RESNET50", random_weights="1", output_dir="~/x")
    assert hooks.predeps(i)["return"] == 0
    env, const = i["env"], i["run_script_input"]["const"]
    assert env[MAPPING["network"]] == const[MAPPING["network"]] == "resnet50"
    assert env[MAPPING["scenario"]] == "Server"
    assert MAPPING["scenario"] not in const
    assert const[MAPPING["output_dir"]] == os.path.expanduser("~/x")
    assert env["CMX4TRT_HAVE_MODEL"] == "yes"
    assert env["CMX4TRT_HAVE_NUMPY"] == env["CMX4TRT_HAVE_BLAKE3"] == "yes"
    finish_early(i)


def finish_early(i: dict[str, Any]) -> None:
    assert hooks.preprocess(i)["return"] == 0
    finish(i, 1, None)


def test_another_python_is_asked_by_the_dependencies() -> None:
    i = call(env={"CM_PYTHON_BIN_WITH_PATH": "/opt/python"}, random_weights="1")
    assert hooks.predeps(i)["return"] == 0
    assert i["env"]["CM_PYTHON_BIN_WITH_PATH"] == "/opt/python"
    assert not {"CMX4TRT_HAVE_NUMPY", "CMX4TRT_HAVE_BLAKE3"} & set(i["env"])
    finish_early(i)


def test_model_of_the_dependency(home: Path, tmp_path: Path) -> None:
    i = call()
    assert hooks.predeps(i)["return"] == 0
    assert "CMX4TRT_HAVE_MODEL" not in i["env"]
    i["env"]["CM_ML_MODEL_FILE_WITH_PATH"] = str(tmp_path / "model.onnx")
    assert hooks.preprocess(i)["return"] == 0
    assert json.loads(Path(i["env"]["CMX4TRT_REQUEST_FILE"]).read_text())["model"] == str(tmp_path / "model.onnx")
    finish(i, 0, {"exports": {}})


def test_dependency_without_a_model(home: Path) -> None:
    i = call()
    assert hooks.predeps(i)["return"] == 0
    answer = hooks.preprocess(i)
    assert answer["return"] == 3
    assert "get,ml-model,resnet50 provided no file" in answer["error"]
    assert Path.cwd() == home


@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        ({"batch_size": "0"}, 2, "batch_size is 0"),
        ({"batch_sise": "1"}, 2, "did you mean --batch_size"),
        ({"model": "none.onnx"}, 3, "none.onnx does not exist"),
        ({"output_dir": "taken"}, 4, "is not a folder"),
    ],
)
def test_refusals(home: Path, given: dict[str, str], code: int, text: str) -> None:
    (home / "taken").touch()
    answer = hooks.predeps(call(**given))
    assert answer["return"] == code
    assert text in answer["error"]
    assert answer["error"][-1] not in ".!?"
    assert "\n" not in answer["error"]
    assert Path.cwd() == home


def test_cuda_without_a_driver(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    answer = hooks.predeps(call(device="cuda", builder="tensorrt", random_weights="1"))
    assert answer["return"] == 9
    assert "needs an NVIDIA GPU" in answer["error"]
    assert hooks.predeps(call(device="cuda", builder="tensorrt", random_weights="1", dry_run=True)) == answer


def test_cuda_in_the_spelling_of_the_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: None)  # the driver
    i = call(device="cuda", builder="tensorrt", random_weights="1", dry_run=True)
    assert hooks.predeps(i)["return"] == 0
    assert (i["env"][MAPPING["device"]], i["env"]["CMX4TRT_CHOSEN_BUILDER"]) == ("gpu", "tensorrt")
    finish_early(i)


def test_data_of_the_dependencies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user named is not fetched; what was fetched reaches the request."""
    monkeypatch.setattr("ctypes.CDLL", lambda name: None)  # the driver
    i = call(random_weights="1", device="cuda", builder="common-code", common_code="mine", dry_run=True)
    assert hooks.predeps(i)["return"] == 0
    assert i["env"]["CMX4TRT_HAVE_COMMON_CODE"] == "yes"
    assert "CMX4TRT_HAVE_INFERENCE_SOURCE" not in i["env"]
    i["run_script_input"]["cmx4trt_run"].dry_run = False
    i["env"]["CM_MLPERF_INFERENCE_SOURCE"] = "/fetched"
    assert hooks.preprocess(i)["return"] == 0
    request = json.loads(Path(i["env"]["CMX4TRT_REQUEST_FILE"]).read_text())
    assert (request["common_code"], request["inference_source"]) == (str(home / "mine"), "/fetched")
    finish(i, 1, None)


def test_images_of_the_dependency(home: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("x")
    i = call(model=str(tmp_path / "model.onnx"), precision="int8")
    assert hooks.predeps(i)["return"] == 0
    assert "CMX4TRT_HAVE_CALIBRATION" not in i["env"]
    i["env"]["CM_DATASET_PREPROCESSED_PATH"] = "/images"
    assert hooks.preprocess(i)["return"] == 0
    assert json.loads(Path(i["env"]["CMX4TRT_REQUEST_FILE"]).read_text())["calibration_data"] == "/images"
    finish(i, 1, None)


@pytest.mark.parametrize("given", [{"random_weights": "1"}, {"model": "m.onnx", "calibration_cache": "c"}])
def test_images_that_are_not_needed(home: Path, given: dict[str, str]) -> None:
    (home / "m.onnx").write_text("x")
    i = call(precision="int8", **given)
    assert hooks.predeps(i)["return"] == 0
    assert i["env"]["CMX4TRT_HAVE_CALIBRATION"] == "yes"
    finish_early(i)


def test_windows() -> None:
    i = call()
    i["os_info"]["platform"] = "windows"
    assert hooks.predeps(i)["return"] == 10


def test_unforeseen_errors_are_one_sentence_too(home: Path) -> None:
    class Broken(dict[str, Any]):
        def __missing__(self, key: str) -> None:
            raise ZeroDivisionError("two\nlines")

    assert hooks.predeps({**call(), "os_info": Broken()}) == {
        "return": 1,
        "error": "unforeseen ZeroDivisionError in predeps: two lines",
    }


@pytest.mark.parametrize(
    ("status", "result", "code", "text"),
    [
        (3, {"error": "model x is empty; do y.", "exit_code": 3}, 3, "model x is empty; do y"),
        (3, {"exports": {}}, 3, "exit status 3"),
        ("", None, 1, "without a result"),
    ],
)
def test_failed_workers(home: Path, status: int | str, result: dict[str, Any] | None, code: int, text: str) -> None:
    i = start(random_weights="1")
    answer = finish(i, status, result)
    assert answer["return"] == code
    assert text in answer["error"]
    assert answer["error"][-1] not in ".!"
    assert Path.cwd() == home


def test_short_help_skips_the_run(home: Path) -> None:
    i = call(h=True)
    assert hooks.predeps(i) == {"return": 0}
    assert i["env"]["CMX4TRT_DRY_RUN"] == "yes", "the dependencies are skipped"
    assert hooks.preprocess(i) == {"return": 0, "skip": True}
    assert Path.cwd() == home


def test_dry_run_reaches_the_worker(home: Path) -> None:
    i = start(dry_run=True)
    assert i["env"]["CMX4TRT_WORKER_DRY_RUN"] == "yes"
    assert json.loads(Path(i["env"]["CMX4TRT_REQUEST_FILE"]).read_text())["model"] is None
    finish(i, 0, {"exports": {}})


def test_clone_is_importable_by_the_worker(installed: Callable[..., Path]) -> None:
    root = installed().parent
    i = start(random_weights="1")
    assert i["env"]["CMX4TRT_PYTHONPATH"] == "", "an installed package is importable already"
    finish(i, 1, None)
    (root / "_cm.yaml").touch()
    i = start(random_weights="1")
    assert i["env"]["CMX4TRT_PYTHONPATH"] == str(root)
    finish(i, 1, None)
