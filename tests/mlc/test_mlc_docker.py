"""``mlc docker script``: what MLCFlow makes of our docker settings, down to the lines of docker and the Dockerfile.

MLCFlow leaves both to scripts of MLCommons' repository, which is on a forge. Stand-ins (tests/data/mlc_repo) take what those
take; a docker that writes down how it is called stands in for the real one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import cmx4trt
from cmx4trt.base.install import release
from cmx4trt.frameworks.input import with_words
from cmx4trt.mlc.hooks import MLC

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate,engine,mlperf,inference,nvidia"
CPU, CUDA = "debian:bookworm-slim", "nvcr.io/nvidia/tensorrt:25.11-py3"
IMAGES = {
    CPU: f"localhost/local/cmx4trt:debian-bookworm-slim-{cmx4trt.__version__}",
    CUDA: f"localhost/local/cmx4trt:nvcr.io-nvidia-tensorrt-25.11-py3-{cmx4trt.__version__}",
}
META = yaml.safe_load(
    (ROOT / "cmx4trt" / "mlc" / "repo" / "script" / "generate-nvidia-engine" / "meta.yaml").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Docker:
    """MLC with the recording docker on its PATH; a folder to type in, and one for the Dockerfile."""

    environment: Mapping[str, str]
    record: Path
    folder: Path
    files: Path

    def run(self, tags: str, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
        """``mlc docker script --tags=generate,engine,mlperf,inference,nvidia,<tags> <flags>`` with --docker_path."""
        named = ",".join(filter(None, (TAGS, tags)))
        words = ("docker", "script", f"--tags={named}", f"--docker_path={self.files}", *flags)
        self.record.unlink(missing_ok=True)
        return subprocess.run(
            [str(Path(sys.executable).parent / "mlc"), *words],
            cwd=self.folder,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def calls(self, name: str) -> list[list[str]]:
        """The words of every call of ``docker <name>``."""
        lines = [json.loads(line) for line in self.record.read_text().splitlines()]
        return [line["words"] for line in lines if line["words"][0] == name]

    def dockerfile(self, base: str) -> Path:
        return self.files / "dockerfiles" / f"{base.replace('/', '-').replace(':', '-')}.Dockerfile"


@pytest.fixture
def docker(mlc: Any, tmp_path: Path) -> Docker:
    folder, programs = tmp_path / "here", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    (programs / "docker").symlink_to(ROOT / "tests" / "data" / "container" / "docker")
    record = tmp_path / "record.jsonl"
    kept = {k: v for k, v in mlc.environment.items() if not re.search("(?i)_proxy$|^GH_TOKEN$", k)}
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    return Docker({**kept, "PATH": path, "DOCKER_RECORD": str(record)}, record, folder, tmp_path / "docker")


@pytest.mark.parametrize(("tags", "base", "gpus"), [("", CPU, []), ("_cuda", CUDA, ["--gpus=all"])])
def test_exact_lines(docker: Docker, tags: str, base: str, gpus: list[str]) -> None:
    """The engine ends in ``engines`` of the folder typed in, though nothing names it."""
    done = docker.run(f"{tags},_random-weights".strip(","))
    assert done.returncode == 0, done.stdout
    [build], [run] = docker.calls("build"), docker.calls("run")
    assert build[-5:] == ["-f", str(docker.dockerfile(base)), "-t", IMAGES[base], "."]
    inside = f"/mlc-mount{docker.folder}/engines"
    image = [IMAGES[base], "bash", "-c"]
    assert run[:-1] == ["run", "--entrypoint", "", *gpus, "-v", f"{docker.folder}/engines:{inside}", *image]
    program, first, *rest = shlex.split(run[-1])
    assert (program, first) == ("mlcr", f"--tags={','.join(filter(None, (TAGS, tags, '_random-weights')))}")
    assert set(rest[1:]) == {f"--output_dir={inside}", f"--env.MLC_MLPERF_OUTPUT_DIR={inside}"}
    assert rest[0].startswith("--mlc_run_cmd=")
    assert [path.name for path in docker.folder.iterdir()] == [".mlc-log.txt"], "that is MLC's own"


def test_inputs_go_into_the_container_and_paths_are_mounted(docker: Docker, tmp_path: Path) -> None:
    """A folder is mounted itself, for a file the folder it is in; once each."""
    folder, file = tmp_path / "data", tmp_path / "model" / "resnet50.onnx"
    folder.mkdir()
    file.parent.mkdir()
    file.touch()
    names = META["docker"]["skip_input_for_fake_run"][1:]
    paths = dict.fromkeys(names, folder) | {"model": file, "output_dir": "engines"}
    flags = [*(f"--{name}={path}" for name, path in paths.items()), "--batch_size=4", "--env.MLC_BATCH_COUNT=2"]
    done = docker.run("_cpu", *flags)
    assert done.returncode == 0, done.stdout
    [run] = docker.calls("run")
    mounts = {run[i + 1] for i, word in enumerate(run) if word == "-v"}
    assert mounts == {f"{p}:/mlc-mount{p}" for p in (folder, file.parent, docker.folder / "engines")}
    words = set(shlex.split(run[-1]))
    assert {f"--{name}=/mlc-mount{docker.folder / path}" for name, path in paths.items()} < words
    assert {"--batch_size=4", "--env.MLC_BATCH_COUNT=2"} < words


def test_every_path_is_mounted() -> None:
    """The inputs that CM mounts, by their keys."""
    cm = yaml.safe_load((ROOT / "_cm.yaml").read_text(encoding="utf-8"))
    keys = [META["input_mapping"][name] for name in cm["docker"]["input_paths"]]
    assert META["file_path_env_keys"] == keys
    assert META["docker"]["mounts"] == [f"${{{{ {key} }}}}:${{{{ {key} }}}}" for key in keys]


def test_word_arrives_as_a_word(docker: Docker, mlc: Any) -> None:
    """What the container is told, told here: the recorded line with the folder that MLC mounts."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install tensorrt-rtx-cu13)")
    done = docker.run("_random-weights,_int8", "--calibration_data=random", "--dry_run=yes")
    assert done.returncode == 0, done.stdout
    [run] = docker.calls("run")
    name, *words = shlex.split(run[-1])
    assert f"--calibration_data=/mlc-mount{docker.folder}/random" in words
    inside = mlc.command(name, *words, cwd=docker.folder)
    assert inside.returncode == 0, inside.stdout
    assert re.search(r"calibration_data +random\n", inside.stdout)


@pytest.mark.parametrize(
    ("content", "expected"), [(None, "synthetic"), ((), "synthetic"), (("a.npy",), "{folder}/synthetic")]
)
def test_words_survive_the_mounting(tmp_path: Path, content: tuple[str, ...] | None, expected: str) -> None:
    """MLC makes the folder that it mounts; one with files in it is the user's."""
    framework = type("Framework", (), {"mounted": f"{tmp_path}/"})()
    if content is not None:
        (tmp_path / "synthetic").mkdir()
        for name in content:
            (tmp_path / "synthetic" / name).touch()
    key = META["input_mapping"]["data"]
    found = with_words(framework, {key: f"{tmp_path}/synthetic"}, META["input_mapping"])
    assert found == {key: expected.format(folder=tmp_path)}
    assert MLC.mounted == "/mlc-mount/"


@pytest.mark.parametrize(("tags", "base", "extra"), [("", CPU, "rtx"), ("_cuda", CUDA, "cuda")])
def test_dockerfile(docker: Docker, tags: str, base: str, extra: str) -> None:
    """The same for any inputs; pip installs this release, MLC finds it, and nothing is fetched for the script."""
    assert docker.run(tags).returncode == 0
    text = docker.dockerfile(base).read_text()
    assert docker.run(tags, "--model=/a/model.onnx", "--output_dir=elsewhere").returncode == 0
    assert docker.dockerfile(base).read_text() == text
    assert text.startswith(f"FROM {base}\n")
    pip = next(line for line in text.splitlines() if "pip install" in line)
    assert shlex.split(pip)[-1] == release(f"{extra},hopper,bench,mlc")
    assert ("-m venv" in text) == (base == CPU), "the container's own Python has TensorRT"
    last = text.splitlines()[-2:]
    assert last[0] == "RUN cmx4trt mlc-setup"
    assert last[1].startswith(f"RUN mlcr --tags={','.join(filter(None, (TAGS, tags)))} --quiet --fake_run")


def test_an_image_that_is_there_is_used_again(docker: Docker) -> None:
    assert docker.run("_random-weights", DOCKER_IMAGE="0123456789ab\n").returncode == 0
    assert (len(docker.calls("build")), len(docker.calls("run"))) == (0, 1)
    assert docker.run("_random-weights", "--docker_rebuild=yes", DOCKER_IMAGE="0123456789ab\n").returncode == 0
    assert (len(docker.calls("build")), len(docker.calls("run"))) == (1, 1)


@pytest.mark.parametrize("step", ["build", "run"])
def test_failure_of_docker_is_a_failure(docker: Docker, step: str) -> None:
    assert docker.run("_random-weights", DOCKER_FAILS=step).returncode != 0
    assert len(docker.calls("run")) == (1 if step == "run" else 0)
