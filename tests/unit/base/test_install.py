"""What pip is to be asked for, by how this copy came here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cmx4trt
from cmx4trt.base.install import lost_origin, pip_line, release, requirement


def test_clone() -> None:
    clone = Path(cmx4trt.__file__).resolve().parents[1]
    assert requirement("rtx") == f"{clone}[rtx]"
    assert pip_line("rtx,cm") == f"pip install -e '{clone}[rtx,cm]'"


def test_from_the_index(installed: Any) -> None:
    installed(None)
    assert pip_line("rtx") == "pip install 'cmx4trt[rtx]'"
    assert (lost_origin(), release("rtx,cm")) == ("", f"cmx4trt[rtx,cm]=={cmx4trt.__version__}")


def test_from_a_wheel(installed: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "cmx4trt 0.1.whl"
    wheel.touch()
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert pip_line("mlc") == f"pip install '{wheel}[mlc]'"
    assert lost_origin() == ""
    wheel.unlink()
    assert pip_line("mlc") == "pip install 'cmx4trt[mlc]'"
    assert lost_origin() == str(wheel)


def test_from_git(installed: Any) -> None:
    installed({"url": "https://example.com/x.git", "vcs_info": {"vcs": "git", "commit_id": "0"}})
    assert pip_line("cm") == "pip install 'cmx4trt[cm] @ git+https://example.com/x.git'"
