from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.backends.common_code.releases import RELEASES, release_of
from cmx4trt.errors import UnsupportedError
from cmx4trt.requests.build import BuildRequest

GENERATIONS = ("r2.1", "r3.0", "r4.0", "r4.1", "r5.0", "r5.1", "r6.0")
BY_NAME = {release.name: release for release in RELEASES}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_detection_by_files(checkout: Callable[[str], Any], generation: str) -> None:
    assert release_of(str(checkout(generation).root)).name == generation


@pytest.mark.parametrize("version", [None, "v3.1\n"])
def test_r31_is_r40_by_another_version(checkout: Callable[[str], Any], version: str | None) -> None:
    tree = checkout("r4.0")
    (tree.root / "VERSION").unlink()
    if version:
        tree.write("VERSION", version)
    assert release_of(str(tree.root)).name == "r3.1"


def test_the_version_file_does_not_decide_about_flags(checkout: Callable[[str], Any]) -> None:
    """Partners copy the code and change the version file."""
    tree = checkout("r4.1")
    tree.write("VERSION", "v6.0\n")
    assert release_of(str(tree.root)).name == "r4.1"


def test_other_folders(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"r2\.1 to r6\.0"):
        release_of(str(tmp_path))


REQUEST = BuildRequest.from_values(
    {"device": "cuda", "network": "retinanet", "batch_size": 48, "copy_streams": 2, "workspace_size": "16GiB"}
)


@pytest.mark.parametrize(
    ("name", "batch", "gpu", "engine"),
    [
        ("r2.1", "48", "--gpu_only", "sys/retinanet/Offline/retinanet-Offline-gpu-b48-int8.lwis_k_99_MaxP.plan"),
        ("r4.0", "48", "--gpu_only", "sys/retinanet/Offline/retinanet-Offline-gpu-b48-int8.lwis_k_99_MaxP.plan"),
        (
            "r4.1",
            "retinanet:48",
            "--gpu_only",
            "sys/retinanet/Offline/retinanet-Offline-gpu-retinanet-b48-int8.lwis_k_99_MaxP.plan",
        ),
        (
            "r5.0",
            "retinanet:48",
            "--gpu_only",
            "sys/retinanet/Offline/retinanet-Offline-gpu-retinanet-b48-int8.lwis_k_99_MaxP.plan",
        ),
        ("r5.1", "retinanet:48", "--device_types=gpu", "sys/Offline/retinanet/gpu-retinanet-int8-b48.cp990.plan"),
        ("r6.0", "retinanet:48", "--device_types=gpu", "sys/Offline/retinanet/gpu-retinanet-int8-b48.cp990.plan"),
    ],
)
def test_flags_and_engine(name: str, batch: str, gpu: str, engine: str) -> None:
    release = BY_NAME[name]
    assert release.flags(REQUEST) == [
        "--benchmarks=retinanet",
        "--scenarios=Offline",
        gpu,
        f"--gpu_batch_size={batch}",
        "--gpu_copy_streams=2",
        "--workspace_size=17179869184",
        "--precision=int8",
        "--input_dtype=int8",
        "--input_format=linear",
    ]
    assert release.engine(REQUEST, "sys") == f"build/engines/{engine}"


def test_flags_need_no_quoting_in_make() -> None:
    """They pass through make and a shell: only characters that neither touches."""
    for release in RELEASES:
        for flag in release.flags(REQUEST):
            assert set(flag) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=:"), flag
