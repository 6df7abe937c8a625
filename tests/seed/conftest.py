"""Homes of both frameworks in which stand-ins take the place of the scripts that ours depends on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

DEPENDENCIES: dict[str, tuple[str, dict[str, str]]] = {
    "detect,os": ("detect-os", {}),
    "detect,cpu": ("detect-cpu", {}),
    "get,sys-utils-cm": ("get-sys-utils-cm", {}),
    "get,cuda": ("get-cuda", {}),
    "get,tensorrt": ("get-tensorrt", {}),
    "get,generic-python-lib": ("get-generic-python-lib", {}),
    "get,loadgen": ("get-mlperf-inference-loadgen", {}),
    "get,mlcommons,inference,src": ("get-mlperf-inference-src", {"MLPERF_INFERENCE_SOURCE": "/fetched"}),
    "get,nvidia,mlperf,inference,common-code": (
        "get-mlperf-inference-nvidia-common-code",
        {"MLPERF_INFERENCE_NVIDIA_CODE_PATH": "/fetched"},
    ),
    "get,dataset,preprocessed,imagenet": (
        "get-preprocessed-dataset-imagenet",
        {"DATASET_PREPROCESSED_PATH": "/fetched"},
    ),
    "get,dataset,preprocessed,openimages": (
        "get-preprocessed-dataset-openimages",
        {"DATASET_PREPROCESSED_PATH": "/fetched"},
    ),
    "get,ml-model,resnet50": ("get-ml-model-resnet50", {"ML_MODEL_FILE_WITH_PATH": "/fetched"}),
    "get,ml-model,retinanet": ("get-ml-model-retinanet", {"ML_MODEL_FILE_WITH_PATH": "/fetched"}),
}
"""Tags -> the script's alias in CM, and the keys that it gives."""
VARIATIONS = ("cudnn", "numpy", "pycuda", "custom-python", "package.#", "NCHW", "validation", "onnx", "fp32")


def stand_ins(folder: Path, prefix: str, meta_name: str, uids: Mapping[str, str]) -> None:
    """Scripts with the tags of our dependencies, which only say that they ran; with CM's uids they take CM's place."""
    for number, (tags, (alias, keys)) in enumerate(DEPENDENCIES.items()):
        script = folder / alias
        script.mkdir(parents=True)
        meta = {
            "alias": alias,
            "uid": uids.get(alias, f"{number:016x}"),
            "automation_alias": "script",
            "automation_uid": "5b4e0237da074764",
            "tags": tags.replace("sys-utils-cm", f"sys-utils-{prefix.lower()}").split(","),
            "env": {f"{prefix}_{key}": value for key, value in keys.items()},
            "new_env_keys": [f"{prefix}_{key}" for key in keys],
            "variations": {name: {"env": {f"{prefix}_STAND_IN_{name[:5]}".upper(): "yes"}} for name in VARIATIONS},
        }
        (script / meta_name).write_text(yaml.safe_dump(meta))
        wanted = "".join(f"${{{prefix}_STAND_IN_{name[:5].upper()}:+,_{name}}}" for name in ("numpy", "pycuda"))
        generic = wanted if tags == "get,generic-python-lib" else ""
        (script / "run.sh").write_text(f'echo "{tags}{generic}" >>"$FRONT_ENDS_RECORD/dependencies"\n')


def cm_home(home: Path) -> dict[str, str]:
    import cmx4mlops

    upstream = Path(cmx4mlops.__path__[0]) / "repo" / "script"
    uids = {alias: _uid(upstream / alias / "_cm.yaml") for alias, _ in DEPENDENCIES.values()}
    scripts = home / "repos" / "local" / "script"
    stand_ins(scripts, "CM", "_cm.yaml", uids)
    (scripts / "cmx4trt-generate-nvidia-engine").symlink_to(ROOT)
    return {"CM_REPOS": str(home)}


def _uid(path: Path) -> str:
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["uid"])


def mlc_home(home: Path) -> dict[str, str]:
    repository = home / "stand-in"
    stand_ins(repository / "script", "MLC", "meta.yaml", {})
    (repository / "meta.yaml").write_text("alias: stand-in\nuid: 5d1b0d6e2f7c4a10\ngit: false\n")
    environment = {"MLC_REPOS": str(home / "repos")}
    for folder in (repository, ROOT / "cmx4trt" / "mlc" / "repo"):
        words = [sys.executable, "-m", "mlc", "add", "repo", str(folder)]
        subprocess.run(words, cwd=home, env={**os.environ, **environment}, check=True, capture_output=True)
    return environment


def environment_of(front_end: str, base: Path) -> dict[str, str]:
    """A home of its own with the stand-ins and our script; a stand-in for NVIDIA's driver, which only has to be there."""
    framework, home = ("cm", cm_home) if front_end.startswith("cm") else ("mlc", mlc_home)
    pytest.importorskip({"cm": "cmx4mlops", "mlc": "mlc"}[framework])
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler for the stand-in of NVIDIA's driver")
    library = base / "driver" / "libcuda.so.1"
    library.parent.mkdir()
    subprocess.run(["cc", "-shared", "-x", "c", "-o", str(library), os.devnull], check=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CM_", "MLC_", "CMX4TRT_", "PYTHONPATH"))}
    return {**kept, **home(base), "HOME": str(base), "LD_LIBRARY_PATH": str(library.parent)}


@pytest.fixture
def environment_of_front_end() -> Callable[[str, Path], dict[str, str]]:
    """Makes the home of a front end's framework in a folder; gives the environment to run in."""
    return environment_of
