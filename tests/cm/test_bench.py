"""``cmr "… _verify _bench"``: the evaluation of an engine in one line with its build."""

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
def test_bench_exports_what_loadgen_found(small_cm: Any, engines: Path, folder: Path) -> None:
    answer = small_cm.result(
        "_random-weights _bench _verify", "--count=4", "--execute=graph", f"--output_dir={engines}", cwd=folder
    )
    assert answer["return"] == 0, answer
    new = answer["new_env"]
    assert new["CM_MLPERF_RESULT_VALID"] == "yes"
    assert new["CM_MLPERF_RESULT_EXECUTED"] == "graph"
    assert new["CM_MLPERF_RESULT_AGREES"] == "yes"
    assert float(new["CM_MLPERF_RESULT_VALUE"]) > 0
    log = Path(new["CM_MLPERF_RESULT_LOG_PATH"])
    assert log.is_relative_to(engines)
    assert "Result is : VALID" in (log / "mlperf_log_summary.txt").read_text()
    assert json.loads(Path(new["CM_MLPERF_RESULT_FILE_WITH_PATH"]).read_text())["status"] == "complete"
    assert new["CM_MLPERF_ENGINE_FILE_WITH_PATH"].startswith(str(engines))


@pytest.mark.slow
def test_an_invalid_run_is_an_error_with_its_code(small_cm: Any, rtx: None, folder: Path) -> None:
    flags = ("--scenario=SingleStream", "--count=4", "--execute=graph")
    done = small_cm.cmr("_random-weights _bench", *flags, cwd=folder)
    assert done.returncode == 11, done.stdout
    assert "CM error: LoadGen calls the run INVALID: Only processed 4 queries" in done.stdout
    assert len(list(folder.rglob("cmx4trt_result.json"))) == 1
    assert len(list(folder.rglob("*.plan"))) == 1  # the build itself was fine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tags", "flags", "count"),
    [
        ("_bench", ("--mode=accuracy", "--env.CM_BATCH_COUNT=2"), "2"),
        ("_verify", (), "3"),
        ("_verify", ("--count=1",), "1"),
    ],
)
def test_accuracy_over_a_folder_of_images(
    small_cm: Any,
    engines: Path,
    folder: Path,
    labelled_small_images: Path,
    tags: str,
    flags: tuple[str, ...],
    count: str,
) -> None:
    """As many as asked for, else all of a folder that was named."""
    common = (f"--data={labelled_small_images}", "--execute=graph", f"--output_dir={engines}")
    answer = small_cm.result(f"_random-weights {tags}", *flags, *common, cwd=folder)
    assert answer["return"] == 0, answer
    assert answer["new_env"]["CM_MLPERF_RESULT_ACCURACY_IMAGES"] == count
    assert answer["new_env"]["CM_MLPERF_RESULT_ACCURACY_METRIC"] == "top-1"
    assert answer["new_env"]["CM_MLPERF_RESULT_ACCURACY_VERDICT"] == "none"


@pytest.mark.parametrize(
    ("tags", "flag", "words"),
    [
        ("_random-weights", "--mode=accuracy", "--mode has no effect without _verify or _bench"),
        ("_random-weights _bench", "--mode=fast", "mode is 'fast', expected one of performance, accuracy"),
        ("_random-weights _bench", "--count", "--count was given without a value"),
        ("_random-weights _bench", "--durations=3", "did you mean --duration"),
    ],
)
def test_mistakes_are_refused_before_the_build(cm: Any, folder: Path, tags: str, flag: str, words: str) -> None:
    done = cm.cmr(tags, flag, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert words in done.stdout
    assert list(folder.iterdir()) == []


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
    cm: Any, rtx: None, folder: Path, labelled_images: Path, dry_run: str, tags: str, flag: str, code: int, words: str
) -> None:
    """Both before anything is built."""
    flags = (flag.format(labelled_images=labelled_images), "--count=4", f"--dry_run={dry_run}")
    done = cm.cmr(f"_random-weights {tags}", *flags, cwd=folder)
    assert done.returncode == code, done.stdout
    assert words in done.stdout.replace(f"{folder}/", "")
    assert not list(folder.rglob("*.plan"))
