"""What was typed wins over a default; two typed values that differ are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt.cm.hooks import CM
from cmx4trt.errors import RequestError
from cmx4trt.frameworks.base import Framework
from cmx4trt.frameworks.precedence import option_values, values_in_effect
from cmx4trt.mlc.hooks import MLC
from cmx4trt.requests.build import BuildRequest

ROOT = Path(__file__).resolve().parents[3]
META = {
    "CM": yaml.safe_load((ROOT / "_cm.yaml").read_text()),
    "MLC": yaml.safe_load((ROOT / "cmx4trt/mlc/repo/script/generate-nvidia-engine/meta.yaml").read_text()),
}
DEFAULTS = {"device": "cpu", "model": "resnet50", "builder": "tensorrt-rtx", "precision": "fp16"}

pytestmark = pytest.mark.parametrize("framework", [CM, MLC], ids=lambda one: one.name)


def request_of(
    framework: Framework,
    env: dict[str, str] | None = None,
    variations: str = "",
    flags: dict[str, str] | None = None,
    **more: Any,
) -> BuildRequest:
    """What a framework makes of keys (spelt as CM does), variations and flags, its default variations included."""
    meta, named = META[framework.name], tuple(variations.split())
    rows = meta["variations"]
    groups = {rows.get(name, {}).get("group") for name in named}
    resolved = [*named, *(name for group, name in DEFAULTS.items() if group not in groups)]
    found = {framework.spelt(key): value for key, value in (env or {}).items()}
    for row in (meta, *(rows[name] for name in resolved if name in rows)):
        for key, value in row.get("default_env", {}).items():
            found.setdefault(key, value)
        found |= row.get("env", {})
    given: dict[str, Any] = {**(flags or {}), **more, "tags": ",".join(f"_{name}" for name in named)}
    i = {
        "input": given,
        "meta": meta,
        "variation_tags": list(named),
        "run_script_input": {"variation_tags_string": ",".join(f"_{name}" for name in resolved)},
    }
    const = {meta["input_mapping"][flag]: value for flag, value in (flags or {}).items()}
    values = values_in_effect(framework, i, {**found, **const})
    return BuildRequest.from_values(option_values(values, meta["input_mapping"], framework.prefix))


@pytest.mark.parametrize(
    ("env", "variations", "expected"),
    [
        ({"CMX4TRT_PRECISION": "bf16"}, "", {"precision": "bf16", "builder": "tensorrt-rtx"}),
        ({"CM_MODEL": "retinanet"}, "", {"network": "retinanet"}),
        ({"CM_MLPERF_DEVICE": "gpu"}, "", {"device": "cuda", "builder": "common-code", "precision": "int8"}),
        ({"CM_MLPERF_DEVICE": "gpu", "CMX4TRT_BUILDER": "tensorrt-rtx"}, "", {"builder": "tensorrt-rtx"}),
        ({"CMX4TRT_BUILDER": "tensorrt"}, "cuda", {"builder": "tensorrt", "precision": "fp16"}),
        ({"CMX4TRT_PRECISION": "fp16"}, "cuda tensorrt", {"precision": "fp16"}),
        ({"CM_TENSORRT_WORKSPACE_SIZE": "8388608"}, "cuda retinanet", {"workspace_size": 8 * 2**30}),
        ({"CM_TENSORRT_WORKSPACE_SIZE": "8388608"}, "retinanet", {"workspace_size": 8 * 2**30}),
        ({"CM_BATCH_SIZE": "5"}, "", {"batch_size": 5}),
        ({"CM_BATCH_SIZE": "5"}, "batch_size.6", {"batch_size": 6}),
        ({"CM_MODEL_BATCH_SIZE": "7"}, "", {"batch_size": 7}),
        ({"CM_GPU_COPY_STREAMS": "3"}, "", {"copy_streams": 3}),
        ({}, "copy_streams.2 batch_size.4", {"copy_streams": 2, "batch_size": 4}),
        ({}, "random-weights", {"random_weights": 0}),
        ({"CM_MODEL": "ResNet50"}, "resnet50", {"network": "resnet50"}),
        ({"CM_MLPERF_DEVICE": "cuda"}, "cuda", {"device": "cuda"}),
    ],
)
def test_environment(framework: Framework, env: dict[str, str], variations: str, expected: dict[str, Any]) -> None:
    request = request_of(framework, env, variations)
    assert {name: getattr(request, name) for name in expected} == expected


def test_nvidias_retinanet_has_more_scratch_memory(framework: Framework) -> None:
    meta = META[framework.name]["variations"]["common-code,retinanet"]
    env = dict(meta["env"])
    assert request_of(framework, env, "cuda retinanet").workspace_size == 16 * 2**30


@pytest.mark.parametrize(
    ("env", "variations", "flags", "places"),
    [
        ({"CM_MODEL": "resnet50"}, "retinanet", {}, ("_retinanet", "--env.CM_MODEL=resnet50")),
        ({"CM_MLPERF_DEVICE": "gpu"}, "cpu", {}, ("_cpu", "--env.CM_MLPERF_DEVICE=gpu")),
        ({"CMX4TRT_PRECISION": "bf16"}, "fp32", {}, ("_fp32", "--env.CMX4TRT_PRECISION=bf16")),
        ({"CM_MODEL_BATCH_SIZE": "8"}, "batch_size.4", {}, ("_batch_size.4", "--env.CM_MODEL_BATCH_SIZE=8")),
        ({}, "batch_size.4", {"batch_size": "8"}, ("_batch_size.4", "--batch_size=8")),
        ({}, "bf16", {"precision": "fp32"}, ("_bf16", "--precision=fp32")),
        ({}, "random-weights", {"random_weights": "7"}, ("_random-weights", "--random_weights=7")),
    ],
)
def test_contradictions(
    framework: Framework, env: dict[str, str], variations: str, flags: dict[str, str], places: tuple[str, str]
) -> None:
    with pytest.raises(RequestError) as caught:
        request_of(framework, env, variations, flags)
    first, second = (place.replace("CM_", framework.prefix) if "=" in place else place for place in places)
    assert str(caught.value) == f"{first} and {second} conflict; give only one of them"


def test_flag_and_key_of_one_line(framework: Framework) -> None:
    """The framework's environment has the flag only; the line still says both."""
    key = framework.key("MODEL_BATCH_SIZE")
    line = {"cmd": [f"--env.{key}=4"], "mlc_run_cmd": f"mlcr tags --env.{key}=4"}
    with pytest.raises(RequestError, match=f"--env.{key}=4 and --batch_size=8 conflict"):
        request_of(framework, flags={"batch_size": "8"}, **line)
    assert request_of(framework, flags={"batch_size": "4"}, **line).batch_size == 4


def test_default_that_was_typed(framework: Framework) -> None:
    key = framework.key("TENSORRT_WORKSPACE_SIZE")
    line = {"cmd": [f"--env.{key}=4194304"], "mlc_run_cmd": f"/bin/mlcr tags --env.{key}=4194304"}
    env = dict(META[framework.name]["variations"]["common-code,retinanet"]["env"])
    assert request_of(framework, env, "cuda retinanet", **line).workspace_size == 4 * 2**30


def test_a_dependency_inherits_no_variations(framework: Framework) -> None:
    """The calling script's environment was not typed for this one: variations win, the default ones too."""
    env = {"CM_MODEL": "bert-99", "CM_MLPERF_DEVICE": "gpu", "CM_MODEL_BATCH_SIZE": "9"}
    request = request_of(framework, env, "batch_size.4", recursion=True)
    assert (request.network, request.device, request.batch_size) == ("resnet50", "cpu", 4)
    assert request_of(framework, env, "retinanet batch_size.4", {"batch_size": "2"}, recursion=True).batch_size == 2
