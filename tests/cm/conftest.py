"""The real ``cmr``, with a CM home of its own in which CM runs this clone's script."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate engine mlperf inference nvidia"
"""What a user types; the draft of the same name in cmx4mlops has them too."""

pytest.importorskip("cmind", reason="CM is not installed (pip install cmind cmx4mlops)")
pytest.importorskip("cmx4mlops", reason="CM's script automation is not installed (pip install cmx4mlops)")


@dataclass(frozen=True)
class Cm:
    """CM's commands, each in a process of its own, with standard input closed."""

    home: Path
    environment: Mapping[str, str]

    def command(self, name: str, *words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run ``cm`` or ``cmr``; standard output and error are one text in ``stdout``."""
        return subprocess.run(
            [executable(name), *words],
            cwd=cwd,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )

    def cmr(self, tags: str, *flags: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """``cmr "generate engine mlperf inference nvidia <tags>" <flags>``"""
        return self.command("cmr", f"{TAGS} {tags}".strip(), *flags, cwd=cwd, **more)

    def result(self, tags: str, *flags: str, cwd: Path) -> dict[str, Any]:
        """The same with the answer of CM, read from the file that CM saves it to."""
        saved = cwd.parent / "answer.json"
        saved.unlink(missing_ok=True)
        done = self.cmr(tags, *flags, f"--save_to_json={saved}", cwd=cwd)
        assert saved.exists(), done.stdout
        answer: dict[str, Any] = json.loads(saved.read_text())
        assert answer["return"] == done.returncode, done.stdout
        return answer


def executable(name: str) -> str:
    """CM's command of the Python that runs the tests, as pip installed it."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"the command {name} is not installed beside {sys.executable}")
    return found


def clean_environment(home: Path) -> dict[str, str]:
    """The environment without what would change CM or the import path, and with CM's home at ``home``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CM_", "CMX4TRT_", "PYTHONPATH"))}
    return {**kept, "CM_REPOS": str(home), "COLUMNS": "120"}


@pytest.fixture(scope="session")
def cm(tmp_path_factory: pytest.TempPathFactory) -> Cm:
    """A fresh CM home where this clone's script comes first, as ``cmx4trt cm-setup`` leaves it, and with an index."""
    return make_cm(tmp_path_factory.mktemp("cm-home"))


def make_cm(home: Path) -> Cm:
    """The same, in the folder ``home``."""
    link = home / "repos" / "local" / "script" / "cmx4trt-generate-nvidia-engine"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    made = Cm(home, clean_environment(home))
    done = made.command("cm", "find", "script", "generate-nvidia-engine", cwd=home)
    assert str(link) in done.stdout, done.stdout
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unrelated, empty folder to type commands in, with a space and a letter beyond ASCII in its name."""
    path = tmp_path / "dossier à part"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def rtx() -> None:
    """Asks for TensorRT-RTX."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed (pip install tensorrt-rtx-cu13)")


@pytest.fixture(scope="session")
def small_cm(cm: Cm, small_environment: dict[str, str]) -> Cm:
    """The same CM, to which ResNet-50 is a small network."""
    return Cm(cm.home, {**cm.environment, **small_environment})


@pytest.fixture(scope="session")
def published(small_cm: Cm, rtx: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the engine of ``_random-weights`` in it, built through ``cmr``: later runs reuse it.

    It is of the small network: a seed says nothing of sizes, so that a run to which ResNet-50 is what it is finds it, too.
    """
    folder = tmp_path_factory.mktemp("published")
    done = small_cm.cmr("_random-weights", f"--output_dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder


@dataclass(frozen=True)
class Docker:
    """CM with the recording docker on its PATH; a folder to type in, and one for the Dockerfile."""

    cm: Cm
    record: Path
    folder: Path
    files: Path

    def run(
        self, action: str, tags: str, *flags: str, cwd: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """``cm <action> script "generate engine mlperf inference nvidia <tags>" <flags>`` with --docker_path."""
        words = (action, "script", f"{TAGS} {tags}".strip(), f"--docker_path={self.files}", *flags)
        self.record.unlink(missing_ok=True)
        return self.cm.command("cm", *words, cwd=cwd or self.folder, DOCKER_RECORD=str(self.record), **more)

    def calls(self, name: str) -> list[list[str]]:
        """The words of every call of ``docker <name>``."""
        lines = [json.loads(line) for line in self.record.read_text().splitlines()]
        return [line["words"] for line in lines if line["words"][0] == name]

    def dockerfile(self, base: str) -> Path:
        return self.files / "dockerfiles" / f"{base.rpartition('/')[2]}.Dockerfile"


@pytest.fixture(scope="module")
def cm_with_docker(cm: Cm, tmp_path_factory: pytest.TempPathFactory) -> Cm:
    """A CM home of its own, whose script folder holds links to this clone's files: CM works in that folder."""
    home, programs = tmp_path_factory.mktemp("docker-home"), tmp_path_factory.mktemp("bin")
    (programs / "docker").symlink_to(ROOT / "tests" / "data" / "container" / "docker")
    script = home / "repos" / "local" / "script" / "generate-nvidia-engine"
    script.mkdir(parents=True)
    for name in ("_cm.yaml", "customize.py", "run.sh"):
        (script / name).symlink_to(ROOT / name)
    kept = {k: v for k, v in cm.environment.items() if not re.search("(?i)_proxy$|^GH_TOKEN$", k)}
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    return Cm(home, {**kept, "CM_REPOS": str(home), "PATH": path})


@pytest.fixture
def docker(cm_with_docker: Cm, tmp_path: Path) -> Docker:
    folder = tmp_path / "here"
    folder.mkdir()
    return Docker(cm_with_docker, tmp_path / "record.jsonl", folder, tmp_path / "docker")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This working tree as a git repository of one commit: a clone as a user gets it."""
    clone = tmp_path_factory.mktemp("source") / "clone"
    clone.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        origin, copy = ROOT / name, clone / name
        if origin.is_symlink() or origin.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, copy, follow_symlinks=False)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    for words in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "all")):
        subprocess.run(["git", *words], cwd=clone, check=True)
    return clone
