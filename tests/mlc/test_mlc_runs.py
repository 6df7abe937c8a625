"""What a user types at MLCFlow, and what comes of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from framework_cases import CONSUMER, check_consumer_of_the_page, check_terminated, check_two_engines

TAGS = "generate,engine,mlperf,inference,nvidia"

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install tensorrt-rtx-cu13)")


def shown(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        if len(words := line.split(maxsplit=1)) == 2:
            found.setdefault(*words)
    return found


@pytest.mark.parametrize(
    ("tags", "flags", "expected"),
    [
        ("_random-weights", (), {"device": "cpu", "builder": "tensorrt-rtx", "precision": "fp16"}),
        ("_retinanet,_random-weights.7", (), {"network": "retinanet", "random_weights": "7"}),
        ("_random-weights,_copy_streams.2,_batch_size.3", (), {"copy_streams": "2", "batch_size": "3"}),
        ("_random-weights", ("--batch-size=8", "--target=ada,ampere"), {"batch_size": "8", "target": "sm80+sm86+sm89"}),
        ("_random-weights", ("--env.MLC_BATCH_SIZE=5",), {"batch_size": "5"}),
        ("_random-weights", ("--env.MLC_MODEL=retinanet",), {"network": "retinanet"}),
        ("_random-weights", ("--env.CMX4TRT_PRECISION=bf16",), {"precision": "bf16"}),
        ("_random-weights", ("--env.MLC_TENSORRT_WORKSPACE_SIZE=65536",), {"workspace_size": "64 MiB"}),
        ("_random-weights", ("--env.MLC_LOADGEN_SCENARIO=server",), {"scenario": "Server"}),
    ],
)
def test_dry_run(mlc: Any, folder: Path, tags: str, flags: tuple[str, ...], expected: dict[str, str]) -> None:
    done = mlc.mlcr(tags, *flags, "--dry_run", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert {name: shown(done.stdout)[name] for name in expected} == expected
    assert [path.name for path in folder.iterdir()] == [".mlc-log.txt"], "that is MLC's own"


@pytest.mark.parametrize(
    ("tags", "flags", "code", "sentence"),
    [
        ("", ("--network=foo",), 2, "network is 'foo', expected one of resnet50, retinanet"),
        ("_retinanet", ("--network=resnet50",), 2, "_retinanet and --network=resnet50 conflict"),
        ("_cpu", ("--env.MLC_MLPERF_DEVICE=gpu",), 2, "_cpu and --env.MLC_MLPERF_DEVICE=gpu conflict"),
        ("", ("--bogus=1",), 2, "unknown flag --bogus"),
        ("", ("--scenario", "Server"), 2, "--scenario was given without a value (the word 'Server' stands alone)"),
        ("", ("Server",), 2, "the word 'Server' stands alone"),
        ("", ("--version=1",), 2, "--version is a flag of MLC that has no effect here"),
        ("", ("--model=none.onnx", "--dry_run"), 3, "model file none.onnx does not exist"),
        ("_random-weights", ("--output_dir=$HOME",), 2, "--output_dir contains a dollar sign"),
    ],
)
def test_refusals(mlc: Any, folder: Path, tags: str, flags: tuple[str, ...], code: int, sentence: str) -> None:
    """One sentence with our own exit code, without MLC's guesses at downloads and its address for issues."""
    done = mlc.mlcr(tags, *flags, cwd=folder)
    assert done.returncode == code, done.stdout
    assert f"MLC error: {sentence}" in done.stdout.replace(f"{folder}/", "")
    assert [text for text in ("Traceback", "Likely cause", "file an issue") if text in done.stdout] == []


def test_help_runs_nothing(mlc: Any, folder: Path) -> None:
    done = mlc.mlcr("", "-h", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "mlcr generate,engine,mlperf,inference,nvidia,_retinanet,_batch_size.4 --dry_run=yes" in done.stdout


def test_python_builds_and_exports(small_mlc: Any, folder: Path) -> None:
    answer = small_mlc.access("", folder, output_dir=str(folder / "engines"), random_weights=0, verify="no")
    exported = answer["new_env"]
    assert Path(exported["MLC_MLPERF_ENGINE_FILE_WITH_PATH"]).is_file()
    assert (exported["MLC_MLPERF_ENGINE_REUSED"], exported["MLC_MLPERF_ENGINE_BUILDER"]) == ("no", "tensorrt-rtx")
    assert not [key for key in exported if key.startswith("CM_")]


def test_two_engines_of_one_script(mlc: Any, folder: Path) -> None:
    """The second is not published in the folder of the first."""
    script = Path(mlc.environment["MLC_REPOS"]) / "local" / "script" / "consumer"
    script.mkdir(parents=True, exist_ok=True)
    (script / "meta.yaml").write_text(CONSUMER.format(more="default_env: {MLC_X: 'y'}\nnew_env_keys: [MLC_MLPERF_*]"))
    check_two_engines(mlc.command("mlcr", "two,engines", cwd=folder), folder)


@pytest.mark.slow
def test_consumer_of_the_page(small_mlc: Any, folder: Path, block_of_page: Any) -> None:
    lines = block_of_page("docs/how-to/consumer.md", "tests/mlc/test_mlc_runs.py::test_consumer_of_the_page")
    check_consumer_of_the_page(small_mlc.bash(lines, cwd=folder), folder)


def test_terminated(mlc: Any, folder: Path, tmp_path: Path, processes_that_name: Any) -> None:
    """SIGTERM to mlcr alone: the worker ends, nothing is published, no temporary folder stays."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    command = [str(Path(sys.executable).parent / "mlcr"), f"{TAGS},_random-weights"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**mlc.environment, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list(scratch.glob("cmx4trt-*/request.json")) and process.poll() is None:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    check_terminated(process.returncode, text, "MLC", folder, scratch)
    assert not processes_that_name(scratch)
