"""Nothing is sent, and nothing but what was asked for is written: in an empty network namespace, with an empty home folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cmx4trt.base.telemetry import SWITCHES, switch_off

REPOSITORY = Path(__file__).parents[3]
IMPORT = "from cmx4trt.sessions.onnxruntime import fastest_providers; fastest_providers()"


def without_network() -> list[str]:
    """The words before a command that give it a network namespace with nothing in it."""
    for words in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        ):
            return words
    pytest.skip("network namespaces are not permitted here (unshare --net)")


def run(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    """The command without a network, without our switches, in a home folder of its own."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES and not name.startswith("XDG_")}
    environment = {**kept, "HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    words = [*without_network(), sys.executable, *command]
    return subprocess.run(words, env=environment, cwd=home.parent, capture_output=True, text=True, check=False)


def files_below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def test_a_build_writes_nothing_to_the_home_folder(tensorrt_rtx: str, resnet50_file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run(["-m", "cmx4trt", "build", f"--model={resnet50_file}", "--report=no"], home)
    assert done.returncode == 0, done.stderr
    assert "verify done" in done.stderr  # by ONNX Runtime
    assert files_below(home) == []


def test_nor_does_the_python_interface(tmp_path: Path) -> None:
    done = run(["-c", IMPORT], tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path / "home") == []


def test_processes_that_we_start_inherit_it(tmp_path: Path) -> None:
    code = "import os; from cmx4trt.cli import main; main(['inspect', 'none']); os.system('printenv ORT_DISABLE_TELEMETRY')"
    assert run(["-c", code], tmp_path / "home").stdout == "1\n"


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    switch_off()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
