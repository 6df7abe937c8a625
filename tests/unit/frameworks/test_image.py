"""What docker-setup leaves for an image, and what pip makes of it."""

from __future__ import annotations

import configparser
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cmx4trt import __version__
from cmx4trt.base.install import release
from cmx4trt.errors import OutputError
from cmx4trt.frameworks import image

NEEDS_HATCHLING = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed (pip install hatchling)"
)


@NEEDS_HATCHLING
def test_an_image_finds_this_release_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip, with the folder as its configuration and without an index, takes what a Dockerfile asks for."""
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's spelling of yes
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = tmp_path / "my docker" / "dockerfiles" / "pip"
    folder.mkdir(parents=True)
    (folder / "cmx4trt-0.0.9-py3-none-any.whl").touch()
    rows = dict(image.prepare(str(tmp_path / "my docker")))
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(path).name for path in rows.values())
    settings = configparser.ConfigParser()
    settings.read(folder / "pip.conf")
    assert dict(settings["install"]) == {"find-links": image.INSIDE, "constraint": f"{image.INSIDE}/constraints.txt"}
    assert "pytest==" in Path(rows["constraints"]).read_text()
    words = ["install", "--dry-run", "--no-deps", "--ignore-installed", f"--find-links={folder}", release("rtx,bench")]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Would install cmx4trt-{__version__}" in done.stdout


def test_a_release_of_the_index_needs_no_wheel(tmp_path: Path, installed: Callable[..., Path]) -> None:
    installed()
    rows = dict(image.prepare(str(tmp_path)))
    assert list(rows) == ["release", "constraints", "pip's configuration"]


def test_a_copy_whose_wheel_is_gone(tmp_path: Path, installed: Callable[..., Path]) -> None:
    installed({"url": "file:///nowhere/gone.whl", "archive_info": {}})
    folder = tmp_path / "docker"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"installed from /nowhere/gone\.whl, which is no longer there"):
        image.prepare(str(folder))
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "dockerfiles").touch()
    with pytest.raises(OutputError, match=r"cannot write into .*; give another folder"):
        image.prepare(str(tmp_path))
