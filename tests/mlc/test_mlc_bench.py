"""``mlcr …,_verify,_bench``: the evaluation of an engine in one line with its build, and what the next script gets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")


@pytest.fixture
def engines(small_published: Path, tmp_path: Path) -> Path:
    """The published engine, in a folder of its own for the logs."""
    shutil.copytree(small_published, tmp_path / "engines", copy_function=shutil.copy2)
    return tmp_path / "engines"


@pytest.mark.slow
def test_bench_exports_what_loadgen_found(small_mlc: Any, engines: Path, folder: Path) -> None:
    inputs = {"count": 4, "execute": "graph", "output_dir": str(engines)}
    answer = small_mlc.access("_random-weights,_bench,_verify", folder, **inputs)
    assert answer["return"] == 0, answer
    new = answer["new_env"]
    assert (new["MLC_MLPERF_RESULT_VALID"], new["MLC_MLPERF_RESULT_EXECUTED"]) == ("yes", "graph")
    assert new["MLC_MLPERF_RESULT_AGREES"] == "yes"
    assert float(new["MLC_MLPERF_RESULT_VALUE"]) > 0
    log = Path(new["MLC_MLPERF_RESULT_LOG_PATH"])
    assert log.is_relative_to(engines)
    assert "Result is : VALID" in (log / "mlperf_log_summary.txt").read_text()
    assert json.loads(Path(new["MLC_MLPERF_RESULT_FILE_WITH_PATH"]).read_text())["status"] == "complete"
    assert new["MLC_MLPERF_ENGINE_REUSED"] == "yes"
    assert not [key for key in new if key.startswith("CM_")]


@pytest.mark.slow
def test_an_invalid_run_is_an_error_with_its_code(small_mlc: Any, engines: Path, folder: Path) -> None:
    """MLC itself would end with 1."""
    flags = ("--scenario=SingleStream", "--count=4", "--execute=graph", f"--output_dir={engines}")
    done = small_mlc.mlcr("_random-weights,_bench", *flags, cwd=folder)
    assert done.returncode == 11, done.stdout
    assert "MLC error: LoadGen calls the run INVALID: Only processed 4 queries" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("env", "count"), [({"MLC_BATCH_COUNT": "2"}, "2"), ({}, "3")])
def test_accuracy_over_a_folder_of_images(
    small_mlc: Any, engines: Path, folder: Path, labelled_small_images: Path, env: dict[str, str], count: str
) -> None:
    """As many as asked for, else all of a folder that was named."""
    inputs = {"data": str(labelled_small_images), "execute": "graph", "output_dir": str(engines), "env": env}
    new = small_mlc.access("_random-weights,_verify", folder, **inputs)["new_env"]
    assert new["MLC_MLPERF_RESULT_ACCURACY_IMAGES"] == count
    assert (new["MLC_MLPERF_RESULT_ACCURACY_METRIC"], new["MLC_MLPERF_RESULT_ACCURACY_VERDICT"]) == ("top-1", "none")


@pytest.mark.parametrize(
    ("tags", "flag", "words"),
    [
        ("_random-weights", "--mode=accuracy", "--mode has no effect without _verify or _bench"),
        ("_random-weights,_bench", "--mode=fast", "mode is 'fast', expected one of performance, accuracy"),
        ("_random-weights,_bench", "--count", "--count was given without a value"),
        ("_random-weights,_bench", "--durations=3", "did you mean --duration"),
    ],
)
def test_mistakes_are_refused_before_the_build(mlc: Any, folder: Path, tags: str, flag: str, words: str) -> None:
    done = mlc.mlcr(tags, flag, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert words in done.stdout


@pytest.mark.parametrize("dry_run", ["yes", "no"])
@pytest.mark.parametrize(
    ("tags", "flag", "code", "words"),
    [
        ("_verify", "--data=none", 8, "data folder none does not exist"),
        ("_verify", "--data={labelled_images}", 8, "4 images were requested, expected at most the 3 listed"),
        ("_bench", "--user_conf=none.conf", 2, "none.conf"),
        ("_bench", "--labels=labels.txt", 8, "synthetic data has no labels"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    mlc: Any, folder: Path, labelled_images: Path, dry_run: str, tags: str, flag: str, code: int, words: str
) -> None:
    """Both before anything is built."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install tensorrt-rtx-cu13)")
    flags = (flag.format(labelled_images=labelled_images), "--count=4", f"--dry_run={dry_run}")
    done = mlc.mlcr(f"_random-weights,{tags}", *flags, cwd=folder)
    assert done.returncode == code, done.stdout
    assert words in done.stdout.replace(f"{folder}/", "")
    assert not list(folder.rglob("*.plan"))
