"""``cmr "… _sweep" --sweep=FILE``: a sweep in place of one build, with the best engine of each scenario for the next script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")

TEXT = """\
defaults: {random_weights: 0, report: no, bench: {execute: graph, count: 2}}
include: [{batch_size: 1}]
"""


@pytest.mark.slow
def test_a_sweep_exports_the_best_engine(small_cm: Any, rtx: None, published: Path, folder: Path) -> None:
    (folder / "s.yaml").write_text(TEXT)
    answer = small_cm.result("_sweep", "--sweep=s.yaml", f"--output_dir={published}", cwd=folder)
    assert answer["return"] == 0, answer
    new = answer["new_env"]
    assert Path(new["CM_MLPERF_SWEEP_BEST_OFFLINE_WITH_PATH"]).is_relative_to(published)
    assert Path(new["CM_MLPERF_SWEEP_PAGE_WITH_PATH"]) == folder / "s.sweep" / "index.html"
    assert (new["CM_MLPERF_SWEEP_CELLS"], new["CM_MLPERF_SWEEP_FAILED"]) == ("1", "0")
    assert not [key for key in new if key.startswith("CM_MLPERF_ENGINE_")]


def test_a_dry_run_shows_the_cells(cm: Any, rtx: None, folder: Path) -> None:
    (folder / "s.yaml").write_text(TEXT)
    done = cm.cmr("_sweep", "--sweep=s.yaml", "--dry_run=yes", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "1 builds, 1 measurements" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["s.yaml"]


@pytest.mark.parametrize(
    ("tags", "flags", "sentence"),
    [
        ("_sweep", (), "_sweep runs a sweep file, and none was given"),
        ("", ("--sweep=s.yaml",), "--sweep has no effect without _sweep"),
        ("_sweep", ("--sweep=none.yaml",), "there is no sweep file"),
        ("_sweep _fp16", ("--sweep=s.yaml",), "_fp16 has no effect with _sweep"),
        ("_sweep", ("--sweep=s.yaml", "--batch_size=4"), "--batch_size has no effect with _sweep"),
        ("_sweep", ("--sweep",), "--sweep was given without a value"),
        ("_sweep", ("--sweep=bad.yaml",), "bad.yaml:1: 'matrx' is not part of a sweep; did you mean 'matrix'"),
    ],
)
def test_refusals(cm: Any, folder: Path, tags: str, flags: tuple[str, ...], sentence: str) -> None:
    (folder / "s.yaml").write_text(TEXT)
    (folder / "bad.yaml").write_text("matrx: {}\n")
    done = cm.cmr(tags, *flags, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert f"CM error: {sentence}" in done.stdout.replace(f"{folder}/", "")
