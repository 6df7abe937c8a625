"""_cm.yaml, row by row: against the seed's description, against the option table, and against CM's own list of flags."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt.base.options import Option
from cmx4trt.base.values import parse_size
from cmx4trt.cm.hooks import CM_FLAGS
from cmx4trt.cm.meta import written_anew
from cmx4trt.frameworks.keys import internal_keys
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_option, build_options

ROOT = Path(__file__).resolve().parents[2]

# The description of the draft this script replaces, as its README states it.
SEED_TAGS = "generate,engine,mlperf,inference,nvidia"
SEED_ENVIRONMENT = {
    "CM_BATCH_COUNT": "1",
    "CM_BATCH_SIZE": "1",
    "CM_LOADGEN_SCENARIO": "Offline",
    "CM_GPU_COPY_STREAMS": "1",
    "CM_TENSORRT_WORKSPACE_SIZE": "4194304",
}
SEED_VARIATIONS = {
    "cpu": {"CM_MLPERF_DEVICE": "cpu"},
    "cuda": {"CM_MLPERF_DEVICE": "gpu", "CM_MLPERF_DEVICE_LIB_NAMESPEC": "cudart"},
    "resnet50": {"CM_MODEL": "resnet50"},
    "retinanet": {"CM_MODEL": "retinanet"},
    "batch_size.#": {"CM_MODEL_BATCH_SIZE": "#"},
    "copy_streams.#": {"CM_GPU_COPY_STREAMS": "#"},
}
SEED_DEPENDENCIES: list[tuple[str, list[str], str | None]] = [
    ("detect,os", [], None),
    ("detect,cpu", [], None),
    ("get,sys-utils-cm", [], None),
    ("get,cuda,_cudnn", [], None),
    ("get,tensorrt", [], None),
    ("get,generic-python-lib,_numpy", [], None),
    ("get,generic-python-lib,_pycuda", [], None),
    ("get,loadgen", ["loadgen"], None),
    ("get,mlcommons,inference,src", ["inference-src"], None),
    ("get,nvidia,mlperf,inference,common-code", ["nvidia-inference-common-code"], None),
    ("get,dataset,preprocessed,imagenet,_NCHW", ["imagenet-preprocessed"], "resnet50"),
    ("get,ml-model,resnet50,_onnx", ["ml-model", "resnet50-model"], "resnet50"),
    ("get,dataset,preprocessed,openimages,_validation,_NCHW", ["openimages-preprocessed"], "retinanet"),
    ("get,ml-model,retinanet,_onnx,_fp32", ["ml-model", "retinanet-model"], "retinanet"),
]
OWN_DEPENDENCIES = {"get,generic-python-lib,_package.blake3"}
"""What the draft did not need."""


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "_cm.yaml").read_text(encoding="utf-8"))
    return loaded


def test_identity(meta: dict[str, Any]) -> None:
    assert (meta["alias"], meta["uid"]) == ("generate-nvidia-engine", "0eef9f05b272401f")
    assert (meta["automation_alias"], meta["automation_uid"]) == ("script", "5b4e0237da074764")
    assert meta["category"] == "MLPerf benchmark support"
    assert meta["tags"] == [*SEED_TAGS.split(","), "cmx4trt"]
    assert not meta.get("cache", False)
    assert meta["new_env_keys"] == ["CM_DATASET_*", "CM_MLPERF_*"]


def test_environment(meta: dict[str, Any]) -> None:
    assert meta["default_env"] == SEED_ENVIRONMENT
    assert meta["input_mapping"]["output_dir"] == "CM_MLPERF_OUTPUT_DIR"


@pytest.mark.parametrize("name", SEED_VARIATIONS)
def test_variation(meta: dict[str, Any], name: str) -> None:
    """As default_env: what a user types, --env.KEY=VALUE, wins over a variation that nobody named."""
    assert meta["variations"][name]["default_env"] == SEED_VARIATIONS[name]


def test_groups_and_defaults(meta: dict[str, Any]) -> None:
    variations = meta["variations"]
    groups: dict[str, list[str]] = {}
    for name, body in variations.items():
        groups.setdefault(body.get("group", ""), []).append(name)
    assert groups["device"] == ["cpu", "cuda"]
    assert groups["model"] == ["resnet50", "retinanet"]
    assert set(groups["builder"]) == set(build_option("builder").choices)
    assert set(groups["precision"]) == set(build_option("precision").choices)
    assert {name for name, body in variations.items() if "default" in body} == {"cpu", "resnet50"}


@pytest.mark.parametrize(
    ("device", "builder"),
    [("cpu", None), ("cpu", "tensorrt-rtx"), *(("cuda", b) for b in (None, "tensorrt-rtx", "common-code", "tensorrt"))],
)
def test_variation_defaults_are_the_requests_defaults(meta: dict[str, Any], device: str, builder: str | None) -> None:
    variations = meta["variations"]
    chosen = builder or variations[device]["default_variations"]["builder"]
    request = BuildRequest.from_values({"device": device, "builder": builder})
    assert (chosen, variations[chosen]["default_variations"]["precision"]) == (request.builder, request.precision)


@pytest.mark.parametrize("index", range(len(SEED_DEPENDENCIES)))
def test_dependency(meta: dict[str, Any], index: int) -> None:
    tags, names, model = SEED_DEPENDENCIES[index]
    rows = [row for row in meta["deps"] if _tags(row) not in OWN_DEPENDENCIES]
    assert len(rows) == len(SEED_DEPENDENCIES)
    row = rows[index]
    assert _tags(row) == tags
    assert row.get("names", []) == names
    assert row.get("enable_if_env", {}).get("CM_MODEL") == ([model] if model else None)


def _tags(row: dict[str, Any]) -> str:
    return str(row["tags"]).removesuffix(",_custom-python")


def test_keys_of_variations_and_conditions_are_inputs_or_internal(meta: dict[str, Any]) -> None:
    """Any other key of ours in the environment is refused as a flag that was spelt wrongly."""
    conditions = ("enable_if_env", "enable_if_any_env", "skip_if_env", "skip_if_any_env")
    keys = {key for row in meta["deps"] for kind in conditions for key in row.get(kind, {})}
    keys |= {
        key for body in meta["variations"].values() for kind in ("env", "default_env") for key in body.get(kind, {})
    }
    ours = {key for key in keys if key.startswith("CMX4TRT_")}
    assert ours - set(meta["input_mapping"].values()) <= internal_keys()


def test_only_detection_is_unconditional(meta: dict[str, Any]) -> None:
    conditions = ("enable_if_env", "enable_if_any_env", "skip_if_env", "skip_if_any_env")
    assert [row["tags"] for row in meta["deps"] if not any(c in row for c in conditions)] == ["detect,os", "detect,cpu"]
    assert not {"prehook_deps", "posthook_deps", "post_deps"} & set(meta)


def test_what_follows_from_declarations_is_written_from_them() -> None:
    path = ROOT / "_cm.yaml"
    text = path.read_text(encoding="utf-8")
    wanted = written_anew(text)
    if os.environ.get("CMX4TRT_WRITE_DOCS"):
        path.write_text(wanted, encoding="utf-8")
        return
    assert text == wanted, "write it anew: CMX4TRT_WRITE_DOCS=1 python -m pytest tests/cm/test_contract.py"


def test_inputs_are_the_option_table(meta: dict[str, Any]) -> None:
    assert list(meta["input_mapping"]) == [option.name for option in (*build_options(), *CM_OPTIONS)] + [
        "dry_run",
        "sweep",
    ]
    assert list(meta["input_description"]) == list(meta["input_mapping"])
    assert not set(meta["input_mapping"]) & CM_FLAGS


@pytest.mark.parametrize("option", [*build_options(), *CM_OPTIONS], ids=lambda option: option.name)
def test_input_description(meta: dict[str, Any], option: Option) -> None:
    row = meta["input_description"][option.name]
    described = re.sub(r"^(_verify, )?_bench: ", "", row["desc"])
    assert described.lower().startswith(option.help.lower()), "the description begins with the option's help"
    if isinstance(option.default, bool):
        assert (row["choices"], row["default"]) == (["yes", "no"], "yes" if option.default else "no")
        return
    assert tuple(row.get("choices", ())) == option.choices
    default = row.get("default")
    assert default is None or isinstance(default, str), "CM cannot show a number"
    if option.name == "workspace_size":
        assert parse_size("workspace_size", default) == parse_size("workspace_size", option.default)
    else:
        assert default == (None if option.default is None else str(option.default))


def test_values_are_text(meta: dict[str, Any]) -> None:
    """YAML turns an unquoted yes, 1.10 or # into something that CM cannot put into a shell."""
    environments = [
        meta["default_env"],
        *(body.get(kind, {}) for body in meta["variations"].values() for kind in ("env", "default_env")),
    ]
    assert all(isinstance(value, str) for environment in environments for value in environment.values())
    assert all(isinstance(body, dict) and body for body in meta["variations"].values())


def test_flags_of_cm_are_known() -> None:
    """Every input that CM's documentation of ``run`` names is either passed over or refused with a reason."""
    import cmx4mlops

    module = Path(inspect.getfile(cmx4mlops)).parent / "repo" / "automation" / "script" / "module.py"
    documentation = module.read_text(encoding="utf-8").split("def run(self, i):", 1)[1].split('"""', 2)[1]
    documented = set(re.findall(r"^ +\((\w+)\) \(", documentation, re.MULTILINE))
    assert len(documented) > 50
    refused = {"input", "output", "outbasename", "path", "version", "version_min", "version_max", "version_max_usable"}
    assert documented - CM_FLAGS == refused


def test_both_repository_files_name_one_repository() -> None:
    clone = yaml.safe_load((ROOT / "cmr.yaml").read_text(encoding="utf-8"))
    package = yaml.safe_load((ROOT / "cmx4trt" / "cmr.yaml").read_text(encoding="utf-8"))
    assert (clone["alias"], clone["uid"]) == (package["alias"], package["uid"])
    assert clone["prefix"] == "cmx4trt"
    assert "git" not in package, "CM would run git inside site-packages"
    assert "cmx4trt" > "cmx4mlops", "CM prefers the package whose name sorts last"
