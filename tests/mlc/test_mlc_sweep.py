"""``mlcr …,_sweep --sweep=FILE``: the same as through CM (tests/cm/test_sweep.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'cmx4trt[rtx]')")


def test_a_dry_run_shows_the_cells_and_other_flags_are_refused(mlc: Any, folder: Path) -> None:
    (folder / "s.yaml").write_text("defaults: {random_weights: 0}\nmatrix: {batch_size: [1, 2]}\n")
    done = mlc.mlcr("_sweep", "--sweep=s.yaml", "--dry_run=yes", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "2 builds, 2 measurements" in done.stdout
    done = mlc.mlcr("_sweep,_bench", "--sweep=s.yaml", cwd=folder)
    assert done.returncode == 2, done.stdout
    assert "MLC error: _bench has no effect with _sweep" in done.stdout
