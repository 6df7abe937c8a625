"""``cmr "… _verify _bench"``: the evaluation of an engine in one line with its build."""

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
def test_bench_exports_what_loadgen_found(small_cm: Any, engines: Path, folder: Path) -> None:
    answer = small_cm.result(
        "_random-weights _bench _verify", "--count=4", "--execute=graph", f"--output_dir={engines}", cwd=folder
    )
    assert answer["return"] == 0, answer
    check_bench_exports(answer["new_env"], "CM_", engines)


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
    check_accuracy_exports(answer["new_env"], "CM_", count)


@pytest.mark.parametrize(("tags", "flag", "words"), MISTAKES)
def test_mistakes_are_refused_before_the_build(cm: Any, folder: Path, tags: str, flag: str, words: str) -> None:
    check_refusal(cm.cmr(tags, flag, cwd=folder), folder, 2, words)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("dry_run", ["yes", "no"])
@pytest.mark.parametrize(("tags", "flag", "code", "words"), REFUSED_BY_A_DRY_RUN)
def test_a_dry_run_refuses_what_the_run_refuses(
    cm: Any, rtx: None, folder: Path, labelled_images: Path, dry_run: str, tags: str, flag: str, code: int, words: str
) -> None:
    flags = (flag.format(labelled_images=labelled_images), "--count=4", f"--dry_run={dry_run}")
    check_refusal(cm.cmr(f"_random-weights {tags}", *flags, cwd=folder), folder, code, words)
