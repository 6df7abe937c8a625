"""Names of engines: today's for the plain case, and another one for every other request."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.fingerprint import CALIBRATION, SOURCE, engine_parts
from cmx4trt.store.folder import EnginePaths

RTX = {"name": "tensorrt-rtx", "version": "1.7"}
NATIVE = {"name": "tensorrt", "version": "11.0"}
ADA = {"gpu": "NVIDIA L40S", "compute_capability": "8.9", "multiprocessors": "142", "driver": "580"}
HOPPER = {"gpu": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0", "multiprocessors": "132", "driver": "580"}


def path_of(
    identity: dict[str, str] = RTX, source: str = "random-weights:0", calibration: str | None = None, **values: Any
) -> str:
    request = BuildRequest.from_values({"output_dir": "/e", **values})
    parts = {**engine_parts(request, identity), SOURCE: source}
    return EnginePaths.of(request, parts if calibration is None else {**parts, CALIBRATION: calibration}).engine


def test_the_plain_case_has_nvidias_name() -> None:
    assert path_of() == "/e/portable/resnet50/Offline/resnet50-Offline-gpu-b1-fp16.tensorrt-rtx.plan"
    path = path_of(scenario="Server", batch_size=16, target="ada,sm86", precision="bf16")
    assert path == "/e/sm86+sm89/resnet50/Server/resnet50-Server-gpu-b16-bf16.tensorrt-rtx.plan"
    int8 = {"precision": "int8", "calibration_data": "random"}
    assert path_of(calibration="images:1", **int8).endswith("resnet50-Offline-gpu-b1-int8.tensorrt-rtx.plan")


def test_newer_software_makes_the_same_requests_engine_again() -> None:
    assert path_of({**RTX, "version": "1.8"}, copy_streams=2) == path_of(copy_streams=2)
    native: dict[str, Any] = {"device": "cuda", "builder": "tensorrt"}
    assert path_of({**NATIVE, **ADA, "driver": "590"}, **native) == path_of({**NATIVE, **ADA}, **native)


REQUESTS: list[dict[str, Any]] = [
    {},
    {"copy_streams": 2},
    {"copy_streams": 3},
    {"workspace_size": "1GiB"},
    {"output_dtype": "fp16"},
    {"device": "cuda", "builder": "tensorrt-rtx"},
    {"source": "random-weights:1"},
    {"source": "blake3:aa"},
    {"source": "blake3:bb"},
    {"source": "blake3:aa", "copy_streams": 2},
    {"precision": "int8", "calibration_data": "random", "calibration": "images:1"},
    {"precision": "int8", "calibration_data": "random", "calibration_count": 4, "calibration": "images:2"},
    {"precision": "int8", "calibration_data": "/images", "calibration": "images:3"},
    {"precision": "int8", "calibration_cache": "/c", "calibration": "cache:4"},
    {"precision": "int8", "calibration_cache": "/c", "calibration": "cache:5"},
    {"precision": "int8", "calibration_data": "random", "calibration_method": "entropy", "calibration": "images:1"},
    {"precision": "int8", "calibration_data": "random", "keep_fp16": "2", "calibration": "images:1"},
    {"builder": "hopper", "calibration_data": "random", "calibration": "images:1"},
    {
        "builder": "hopper",
        "calibration_data": "random",
        "calibration": "images:1",
        "kernel_choices": "/h200.json",
        "identity": {"name": "hopper", "version": "0.1.0", "choices": "aa"},
    },
    {"device": "cuda", "builder": "tensorrt", "identity": {**NATIVE, **ADA}},
    {"device": "cuda", "builder": "tensorrt", "identity": {**NATIVE, **HOPPER}},
    {"device": "cuda", "builder": "tensorrt", "builder_optimization_level": 5, "identity": {**NATIVE, **HOPPER}},
    {
        "device": "cuda",
        "builder": "tensorrt",
        "target": "same_compute_capability",
        "identity": {**NATIVE, "compute_capability": "8.9"},
    },
    {
        "device": "cuda",
        "builder": "tensorrt",
        "target": "same_compute_capability",
        "identity": {**NATIVE, "compute_capability": "9.0"},
    },
    *({"device": "cuda", "builder": "common-code", "identity": {"tree_sha256": tree, **ADA}} for tree in ("1", "2")),
]


def test_no_two_requests_share_a_path() -> None:
    paths = [
        path_of(values.get("identity", RTX), **{k: v for k, v in values.items() if k != "identity"})
        for values in REQUESTS
    ]
    for one, other in itertools.combinations(range(len(paths)), 2):
        assert paths[one] != paths[other], f"{REQUESTS[one]} and {REQUESTS[other]}"


@pytest.mark.parametrize(
    ("target", "identity", "place"),
    [
        ("current", ADA, "NVIDIA-L40S-sm89"),
        ("current", HOPPER, "NVIDIA-H100-80GB-HBM3-sm90"),
        ("same_compute_capability", {"compute_capability": "9.0"}, "same_compute_capability-sm90"),
        ("ampere_plus", {}, "ampere_plus"),
    ],
)
def test_native_engines_lie_under_their_gpu(target: str, identity: dict[str, str], place: str) -> None:
    path = path_of({**NATIVE, **identity}, device="cuda", builder="tensorrt", target=target)
    assert Path(path).parts[2] == place
