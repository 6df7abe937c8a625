"""``mlcr …,_verify,_bench``: the evaluation of an engine in one line with its build, and what the next script gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from framework_cases import (
    MISTAKES,
    REFUSED_BY_A_DRY_RUN,
    check_accuracy_exports,
    check_bench_exports,
    check_refusal,
)

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")


@pytest.mark.slow
def test_bench_exports_what_loadgen_found(small_mlc: Any, engines: Path, folder: Path) -> None:
    inputs = {"count": 4, "execute": "graph", "output_dir": str(engines)}
    answer = small_mlc.access("_random-weights,_bench,_verify", folder, **inputs)
    assert answer["return"] == 0, answer
    new = answer["new_env"]
    check_bench_exports(new, "MLC_", engines)
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
    check_accuracy_exports(new, "MLC_", count)


@pytest.mark.parametrize(("tags", "flag", "words"), MISTAKES)
def test_mistakes_are_refused_before_the_build(mlc: Any, folder: Path, tags: str, flag: str, words: str) -> None:
    check_refusal(mlc.mlcr(tags.replace(" ", ","), flag, cwd=folder), folder, 2, words)


@pytest.mark.parametrize("dry_run", ["yes", "no"])
@pytest.mark.parametrize(("tags", "flag", "code", "words"), REFUSED_BY_A_DRY_RUN)
def test_a_dry_run_refuses_what_the_run_refuses(
    mlc: Any, folder: Path, labelled_images: Path, dry_run: str, tags: str, flag: str, code: int, words: str
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install tensorrt-rtx-cu13)")
    flags = (flag.format(labelled_images=labelled_images), "--count=4", f"--dry_run={dry_run}")
    check_refusal(mlc.mlcr(f"_random-weights,{tags}", *flags, cwd=folder), folder, code, words)
