"""The real ``mlcr``, with a home of its own: this package's repository, and a stand-in for the scripts it depends on."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate,engine,mlperf,inference,nvidia"
CALL = """
import json, mlc, sys
json.dump(mlc.access(json.loads(sys.argv[1])), open(sys.argv[2], "w"))
"""


@dataclass(frozen=True)
class Mlc:
    """MLC's commands, each in a process of its own, with standard input closed."""

    environment: Mapping[str, str]

    def command(self, name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command beside this Python; standard output and error are one text in ``stdout``."""
        return self._run([str(Path(sys.executable).parent / name), *words], cwd)

    def bash(self, text: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a script, with the commands beside this Python on its PATH; it stops at the first that fails."""
        return self._run(["bash", "-euc", f"PATH='{Path(sys.executable).parent}':$PATH\n{text}"], cwd)

    def _run(self, words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )

    def mlcr(self, tags: str, *flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """``mlcr generate,engine,mlperf,inference,nvidia,<tags> <flags>``"""
        return self.command("mlcr", ",".join(filter(None, (TAGS, tags))), *flags, cwd=cwd)

    def access(self, tags: str, cwd: Path, **inputs: Any) -> dict[str, Any]:
        """The answer of ``mlc.access`` with these inputs."""
        saved = cwd.parent / "answer.json"
        saved.unlink(missing_ok=True)
        given = {
            "action": "run",
            "automation": "script",
            "tags": ",".join(filter(None, (TAGS, tags))),
            "quiet": True,
            **inputs,
        }
        words = [sys.executable, "-c", CALL, json.dumps(given), str(saved)]
        done = subprocess.run(
            words, cwd=cwd, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert saved.exists(), done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(saved.read_text())
        return answer


@pytest.fixture(scope="session")
def mlc(tmp_path_factory: pytest.TempPathFactory) -> Mlc:
    """An MLC home as ``cmx4trt mlc-setup`` leaves it."""
    pytest.importorskip("mlc", reason="MLCFlow is not installed (pip install mlcflow)")
    home = tmp_path_factory.mktemp("mlc-home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLC_", "CMX4TRT_", "PYTHONPATH"))}
    made = Mlc({**kept, "MLC_REPOS": str(home / "repos"), "HOME": str(home), "COLUMNS": "120"})
    for done in (
        made.command("mlc", "add", "repo", str(ROOT / "tests" / "data" / "mlc_repo"), cwd=home),
        made.command("cmx4trt", "mlc-setup", cwd=home),
    ):
        assert done.returncode == 0, done.stdout
    assert "nothing" not in done.stdout
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unrelated, empty folder to type commands in, with a space in its name."""
    path = tmp_path / "typed here"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def small_mlc(mlc: Mlc, small_environment: dict[str, str]) -> Mlc:
    """The same MLC, to which ResNet-50 is a small network."""
    return Mlc({**mlc.environment, **small_environment})


@pytest.fixture(scope="session")
def published(small_mlc: Mlc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the engine of ``_random-weights`` in it, built through ``mlcr``: later runs reuse it (as in CM)."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed (pip install tensorrt-rtx-cu13)")
    folder = tmp_path_factory.mktemp("published")
    done = small_mlc.mlcr("_random-weights", f"--output_dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder
