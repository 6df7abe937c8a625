from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cmx4trt.backends.installed import installed_version


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders on ``sys.path``, and one that does not exist."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / name) for name in ("gone", "one", "two")])
    return tmp_path


@pytest.mark.parametrize("name", ["tensorrt_cu13-1.2.3.4.dist-info", "TensorRT-cu13-1.2.3.4.dist-info"])
def test_the_version_is_that_of_the_metadata_folder(place: Path, name: str) -> None:
    (place / "two" / name).mkdir()
    assert installed_version(("tensorrt_cu13", "tensorrt_cu12")) == "1.2.3.4"


def test_the_first_on_the_path_counts(place: Path) -> None:
    (place / "one" / "tensorrt-2.dist-info").mkdir()
    (place / "two" / "tensorrt-1.dist-info").mkdir()
    assert installed_version({"tensorrt"}) == "2"


def test_other_distributions_do_not_count(place: Path) -> None:
    for name in ("tensorrt_stubs-1.dist-info", "tensorrt", "tensorrt-1.egg-info"):
        (place / "one" / name).mkdir()
    assert installed_version({"tensorrt"}) is None
