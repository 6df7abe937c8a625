"""Sweep files, and the null backend here and in child processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cmx4trt.backends import registered
from cmx4trt.backends.null import NullBackend
from cmx4trt.sweep.run import Sweep, SweepRequest, open_sweep


@pytest.fixture
def null(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A builder that builds at once, here and in child processes."""
    folder = str(Path(__file__).parents[2] / "data" / "null_backend")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH")))))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("CMX4TRT_BACKENDS", "null_backend")
    with registered(NullBackend()):
        yield


@pytest.fixture
def sweep_of(tmp_path: Path) -> Callable[[str], Sweep]:
    """The sweep of a file's text."""

    def make(text: str) -> Sweep:
        path = tmp_path / "s.yaml"
        path.write_text(text)
        return open_sweep(SweepRequest(str(path)))

    return make
