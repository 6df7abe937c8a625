"""Pipes in the place of a tree's files and of the log: nothing is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cmx4trt.backends.common_code.provenance import digest_of_tree
from cmx4trt.backends.common_code.run import run_make
from cmx4trt.base.progress import Silent
from cmx4trt.errors import OutputError


def test_a_pipe_among_the_sources(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Makefile")
    with pytest.raises(OSError, match="is not a regular file"):
        digest_of_tree(str(tmp_path), "resnet50")


def test_a_pipe_in_the_place_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("generate_engines:\n\t@echo built\n")
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OutputError, match=r"cannot write .*log: what is there is not a regular file"):
        run_make(str(tmp_path), [], os.environ, str(tmp_path / "log"), Silent())
