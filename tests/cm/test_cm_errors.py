"""What cannot be meant ends in one sentence and a non-zero exit code, and leaves the user's folder as it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

RANDOM = "_random-weights"


def refused(cm: Any, folder: Path, tags: str, *flags: str, **environment: str) -> str:
    """The one sentence of a refusal."""
    before = sorted(path.name for path in folder.iterdir())
    done = cm.cmr(tags, *flags, cwd=folder, **environment)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    sentences = re.findall(r"^CM error: (.*)$", done.stdout, re.MULTILINE)
    assert len(sentences) == 1, done.stdout
    assert sentences[0].endswith("!")
    assert not sentences[0].endswith((".!", "?!", "!!"))
    assert sorted(path.name for path in folder.iterdir()) == before
    return str(sentences[0])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--batchsize=4",), "unknown flag --batchsize; did you mean --batch_size"),
        (("--batch_sise=4",), "did you mean --batch_size"),
        (("--outputdir=x",), "did you mean --output_dir"),
        (("--frobnicate=1",), "unknown flag --frobnicate; the flags are batch_size, "),
        (("--cuda",), "'cuda' is a variation, add _cuda to the tags"),
        (("--output=x",), "--output is a flag of CM that has no effect here; use --output_dir for the engine's folder"),
        (("--outdirname=x",), "has no effect here"),
        (("--env.CMX4TRT_BUILDR=x",), "unknown environment key CMX4TRT_BUILDR; did you mean CMX4TRT_BUILDER"),
        (("--scenario", "Server"), "--scenario was given without a value (the word 'Server' stands alone)"),
        (("--batch_size", "4"), "write --batch_size=VALUE, with the equals sign"),
        (("--model",), "--model was given without a value"),
        (("_fp32",), "the word '_fp32' stands alone"),
        (("--batch_size=0",), "batch_size is 0, expected a whole number from 1"),
        (("--batch_size=-4",), "batch_size is -4"),
        (("--batch_size=four",), "batch_size is 'four'"),
        (("--batch_size=1000000000",), "batch_size is 1000000000"),
        (("--batch_size=",), "batch_size"),
        (("--scenario=Sever",), "did you mean 'Server'"),
        (("--precision=fp8",), "precision is 'fp8'"),
        (("--network=resnet",), "did you mean 'resnet50'"),
        (("--target=ampre",), "did you mean 'ampere'"),
        (("--builder=tensorrt",), "needs a GPU"),
        (("--workspace_size=1MiB",), "workspace_size"),
        (("--verify=maybe",), "verify is 'maybe', expected yes or no"),
        (("--dry_run=perhaps",), "dry_run is 'perhaps'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_flags(cm: Any, folder: Path, flags: tuple[str, ...], expected: str) -> None:
    assert expected in refused(cm, folder, RANDOM, *flags)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("_cpu _cuda", 'for the variation group "device"'),
        ("_fp16 _fp32", 'for the variation group "precision"'),
        ("_batch_size.0", "batch_size is 0"),
        ("_copy_streams.99", "copy_streams is 99"),
        ("_random-weights.x", "random_weights is 'x'"),
        ("_int8", "--calibration_data"),
    ],
)
def test_variations(cm: Any, folder: Path, tags: str, expected: str) -> None:
    assert expected in refused(cm, folder, f"{RANDOM} {tags}" if "random" not in tags else tags)


@pytest.mark.parametrize("builder", ["", "_tensorrt", "_common-code", "_tensorrt-rtx"])
def test_cuda_without_a_driver(cm: Any, folder: Path, builder: str) -> None:
    """CM would install system packages with sudo, and CUDA, before anybody notices."""
    if find_library("cuda"):
        pytest.skip("this machine has an NVIDIA driver")
    sentence = refused(cm, folder, f"{RANDOM} _cuda {builder} _fp16" if "tensorrt" in builder else f"_cuda {builder}")
    assert "device cuda needs an NVIDIA GPU and its driver" in sentence


def test_model_files(cm: Any, rtx: None, folder: Path) -> None:
    (folder / "empty.onnx").touch()
    (folder / "sub").mkdir()
    (folder / "text.onnx").write_text("this is not a network\n")
    assert "does not exist" in refused(cm, folder, "", "--model=missing.onnx")
    assert "is empty" in refused(cm, folder, "", "--model=empty.onnx")
    assert "is a folder" in refused(cm, folder, "", "--model=sub")
    assert "text.onnx" in refused(cm, folder, "", "--model=text.onnx")
    assert "exclude each other" in refused(cm, folder, RANDOM, "--model=text.onnx")


def test_output_folder_that_is_a_file(cm: Any, rtx: None, folder: Path) -> None:
    (folder / "taken").write_text("mine")
    assert "is not a folder" in refused(cm, folder, RANDOM, "--output_dir=taken")
    assert (folder / "taken").read_text() == "mine"


HOSTILE = [
    'x"y',
    "$(touch PWNED)",
    "`touch PWNED`",
    'x"; touch PWNED; echo "',
    "$HOME",
    "a\\",
    "a\\\\b",
    "a\nb",
    "a\rb",
]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--output_dir", value) for value in HOSTILE),
        *(
            (flag, 'x"; touch PWNED; echo "$(touch PWNED)')
            for flag in ("--model", "--scenario", "--env.SOME_KEY", "--const.SOME_KEY", "--adr.loadgen.tags", "--name")
        ),
    ],
)
def test_hostile_values(cm: Any, folder: Path, flag: str, value: str) -> None:
    """Nothing is executed or altered: the value is refused before CM starts its first shell."""
    sentence = refused(cm, folder, RANDOM if flag != "--model" else "", f"{flag}={value}")
    assert " contains a" in sentence
    assert not (folder / "PWNED").exists()


@pytest.mark.parametrize("key", ["K;touch PWNED;X", "K$(touch PWNED)", "K L", "K-L", "1K", ""])
def test_hostile_names(cm: Any, folder: Path, key: str) -> None:
    assert "is not the name of an environment key" in refused(cm, folder, RANDOM, f"--env.{key}=1")
    assert not (folder / "PWNED").exists()


def test_hostile_folder(cm: Any, tmp_path: Path) -> None:
    folder = tmp_path / "$(touch PWNED)"
    folder.mkdir()
    assert "the path of the current folder contains a dollar sign" in refused(cm, folder, RANDOM)
    assert list(folder.iterdir()) == []


def test_folder_for_temporary_files(cm: Any, folder: Path, tmp_path: Path) -> None:
    """The private folder's path goes through CM's shells too."""
    altered = tmp_path / "t$NOT_A_KEY"
    altered.mkdir()
    assert "folder for temporary files" in refused(cm, folder, RANDOM, TMPDIR=str(altered))
    assert list(altered.iterdir()) == []


def test_values_that_only_look_dangerous(cm: Any, rtx: None, folder: Path) -> None:
    name = "it's; a & b | c * ? ! # ~ {x} <y> 100% é 引擎\tend"
    done = cm.cmr(RANDOM, f"--output_dir={name}", "--dry_run", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert str(folder / name) in done.stdout


PYTHON_CALL = """
import cmind, json, sys
answer = cmind.access({"action": "run", "automation": "script", "tags": "generate,engine,mlperf,inference,nvidia",
                       "quiet": True, "dry_run": "yes", "random_weights": 1, "env": json.loads(sys.argv[1])})
print(json.dumps({k: answer.get(k) for k in ("return", "error")}))
"""


@pytest.mark.parametrize(
    ("env", "accepted"),
    [
        ({"CM_ML_MODEL_INPUT_SHAPES": '\\"input_tensor:0\\": (BATCH_SIZE, 3, 224, 224)'}, True),
        ({"SOME_KEY": "$(touch PWNED)"}, False),
        ({"SOME_KEY": 'a"b'}, False),
        ({"SOME_KEY": "a\\"}, False),
        ({"CM_MLPERF_OUTPUT_DIR": 'a\\"b'}, False),
    ],
)
def test_environment_from_python(cm: Any, rtx: None, folder: Path, env: dict[str, str], accepted: bool) -> None:
    """From Python come other scripts' keys too, with the escapes that CM's own scripts write."""
    done = subprocess.run(
        [sys.executable, "-c", PYTHON_CALL, json.dumps(env)],
        cwd=folder,
        env=cm.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer["return"] == 0) is accepted, answer
    assert os.listdir(folder) == []
