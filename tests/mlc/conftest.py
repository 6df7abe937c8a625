"""The real ``mlcr``, with a home of its own: this package's repository, and a stand-in for the scripts it depends on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate,engine,mlperf,inference,nvidia"


@dataclass(frozen=True)
class Mlc:
    """MLC's commands, each in a process of its own, with standard input closed."""

    environment: Mapping[str, str]

    def command(self, name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command beside this Python; standard output and error are one text in ``stdout``."""
        return subprocess.run(
            [str(Path(sys.executable).parent / name), *words],
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
