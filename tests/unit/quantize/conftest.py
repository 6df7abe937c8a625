"""A residual network that runs in milliseconds, images for it, and a place for ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model


@pytest.fixture
def residual_network(residual: Model) -> CanonicalGraph:
    return CanonicalGraph(residual, ModelSpec("resnet50", "a small network", (3, 8, 8), 1000))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ranges are kept in the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Six images [3, 8, 8] as .npy."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for index in range(6):
        np.save(folder / f"image{index}.npy", rng.standard_normal((3, 8, 8)).astype(np.float32))
    return folder
