"""docs/reference/manifest.schema.json against manifests of every builder; those of TensorRT-RTX also in test_commands.py."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cmx4trt import BuildRequest, Manifest, backends, build
from cmx4trt.backends.facts import Measurement
from cmx4trt.backends.hopper import Hopper
from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.backends.hopper.compiler import Compiled, Compiler, Resources
from cmx4trt.backends.hopper.plan import Kernel
from cmx4trt.graph.judge import LayerJudgement
from cmx4trt.networks.retinanet.comparison_result import DetectionComparison
from cmx4trt.networks.retinanet.heads_compared import HeadErrors
from cmx4trt.networks.retinanet.matching import Agreement
from cmx4trt.quantize.record import LayerGain
from cmx4trt.store.fingerprint import engine_parts

ROOT = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "reference" / "manifest.schema.json").read_text(encoding="utf-8"))
Contradictions = Callable[[Path], list[str]]


@pytest.mark.parametrize("file", ["manifest.schema.json", "result.schema.json"])
def test_schemas_are_valid_themselves(file: str) -> None:
    Draft202012Validator.check_schema(json.loads((ROOT / "docs" / "reference" / file).read_text(encoding="utf-8")))


def test_ranking() -> None:
    """It takes long to make: only its record."""
    part = {**SCHEMA["$defs"]["quantization"]["properties"]["ranking"]}
    assert Draft202012Validator(part).is_valid([LayerGain("conv1", 0.5, 1.0).to_dict()])
    assert not Draft202012Validator(part).is_valid([{"layer": "conv1"}])


@pytest.mark.parametrize("target", ["current", "same_compute_capability"])
def test_tensorrt(
    fake_tensorrt: Any, small_resnet50: Path, tmp_path: Path, contradictions: Contradictions, target: str
) -> None:
    values = {"device": "cuda", "builder": "tensorrt", "precision": "fp32", "model": small_resnet50, "target": target}
    result = build(BuildRequest.from_values({**values, "output_dir": tmp_path}))
    assert result.manifest.ran_on_a_device
    assert contradictions(Path(result.manifest_path)) == []


def test_tensorrt_int8(
    fake_tensorrt: Any,
    small_resnet50: Path,
    tmp_path: Path,
    contradictions: Contradictions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = {"device": "cuda", "builder": "tensorrt", "precision": "int8", "random_weights": 3, "output_dir": tmp_path}
    result = build(BuildRequest.from_values({**values, "calibration_data": "random", "calibration_count": 1}))
    assert "sqnr_db" in result.manifest.execution.figures
    assert contradictions(Path(result.manifest_path)) == []


@pytest.mark.parametrize("generation", ["r2.1", "r4.1", "r6.0"])
@pytest.mark.parametrize("network", ["resnet50", "retinanet"])
def test_common_code(
    checkout: Any, request_for: Any, contradictions: Contradictions, generation: str, network: str
) -> None:
    result = build(request_for(checkout(generation), network=network))
    assert contradictions(Path(result.manifest_path)) == []


def test_hopper(
    tmp_path: Path, contradictions: Contradictions, monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., None]
) -> None:
    """Nothing is compiled; what a device adds is written in afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    header = b"\x7fELF\x02\x01\x01\x33\x07" + bytes(9) + (190).to_bytes(2, "little") + bytes(44)
    cubin = Compiled(header, Resources(0, 0, 0, 0, 0), ())

    class NoCompiler(Compiler):
        def compile_all(self, kernels: Iterable[Kernel], stopped: object = None) -> dict[str, Compiled]:
            return {one.name: cubin for one in kernels}

    stand_in(Hopper(new_compiler=NoCompiler))
    choices = tmp_path / "choices.json"
    choices.write_text(shipped_choices("h200").to_json())
    values = {"builder": "hopper", "random_weights": 3, "calibration_data": "random", "calibration_count": 4}
    result = build(BuildRequest.from_values({**values, "kernel_choices": choices, "output_dir": tmp_path}))
    assert contradictions(Path(result.manifest_path)) == []
    manifest = json.loads(Path(result.manifest_path).read_text())
    assert manifest["builder"]["choices"] == shipped_choices("h200").digest
    figures = {
        "launch_milliseconds": [0.1],
        "driver": "580.1",
        "cuda": 13000,
        "sm_clock_mhz": 1980,
        "watts": 1.5,
        "celsius": 3,
    }
    measured = Measurement("NVIDIA H100", 1, 0.1, figures).to_dict()
    manifest["execution"] = {**manifest["verification"], "engine_executed_on_a_device": "yes", "device": "a GPU"} | {
        "measured": measured
    }
    del manifest["execution"]["float32_graph"]
    Path(result.manifest_path).write_text(json.dumps(manifest))
    assert contradictions(Path(result.manifest_path)) == []


def test_builders_are_those_of_the_registry() -> None:
    properties = SCHEMA["properties"]
    for field in (properties["request"]["properties"]["builder"], properties["builder"]["properties"]["name"]):
        assert field["enum"] == list(backends.names())


@pytest.mark.parametrize("of_engine", [True, False])
def test_comparisons_of_detections(of_engine: bool) -> None:
    """Of engines whose build would take long."""
    same = Agreement(1, 0, 0, 0.0, 0.0)
    found = DetectionComparison("fp16", 2, 1, 1, same, same, 1.0, 0.0, 0)
    if of_engine:
        record = replace(found, matched_limit=0.5).to_dict()
    else:
        layers = LayerJudgement(1, 2, 2, "Conv 'a'", 0.1, 0, "", 0.0)
        heads = HeadErrors(1e-6, 1e-4, 1e-5, True)
        record = replace(found, candidate_share=1.0, heads=heads, layers=layers).to_dict()
    part = {**SCHEMA["properties"]["verification"], "$defs": SCHEMA["$defs"]}
    assert [error.message for error in Draft202012Validator(part).iter_errors(record)] == []


def test_options_are_those_of_a_request() -> None:
    request = BuildRequest.from_values({"random_weights": 0})
    assert list(SCHEMA["properties"]["request"]["properties"]) == list(request.to_dict())
    assert set(SCHEMA["properties"]) == {f.name for f in fields(Manifest)}
    assert {n for n in engine_parts(request, {}) if not n.startswith("request.")} | {"source", "calibration"} == set(
        SCHEMA["properties"]["parts"]["properties"]
    )


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document, outermost first."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from objects_in(part)
    elif isinstance(value, list):
        for part in value[:1]:  # the others are alike
            yield from objects_in(part)


def test_int8_and_that_no_field_may_be_added_without_documentation(
    tensorrt_rtx: str, small_resnet50: Path, tmp_path: Path, contradictions: Contradictions
) -> None:
    values = {"random_weights": 0, "precision": "int8", "calibration_data": "random", "output_dir": tmp_path}
    path = Path(build(BuildRequest.from_values(values)).manifest_path)
    assert contradictions(path) == []
    validator, manifest = Draft202012Validator(SCHEMA), json.loads(path.read_text())
    count = len(list(objects_in(manifest)))
    assert count > 15
    for number in range(count):
        changed = copy.deepcopy(manifest)
        list(objects_in(changed))[number]["undocumented"] = {"value": [1]}
        assert not validator.is_valid(changed), list(objects_in(manifest))[number]
