from __future__ import annotations

import builtins
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cmx4trt.backends.tensorrt.native import TensorRTBuilder, import_tensorrt
from cmx4trt.backends.tensorrt.serialize import BuildStoppedError
from cmx4trt.base.progress import Silent
from cmx4trt.errors import BuildError, DeviceError, MissingSoftwareError, UnsupportedError, VerificationError
from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model
from cmx4trt.pipeline import build as pipeline
from cmx4trt.pipeline.evaluate import verify_engine
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation import EvaluationRequest

SPEC = ModelSpec("resnet50", "a small network", (3, 4, 4), 48)
GRAPH = """<ir_version: 9, opset_import: ["" : 19]>
g (float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y) { y = Relu(x) }"""


@pytest.fixture
def graph(model_from_text: Callable[[str], Model]) -> PreparedGraph:
    return PreparedGraph.from_network(CanonicalGraph(model_from_text(GRAPH), SPEC), {})


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., BuildRequest]:
    def make(**values: object) -> BuildRequest:
        defaults = {"device": "cuda", "builder": "tensorrt", "output_dir": tmp_path, "batch_size": 8}
        return BuildRequest.from_values({**defaults, **values})

    return make


def build(graph: PreparedGraph, request: BuildRequest, progress: Any = None) -> Any:
    return TensorRTBuilder().build(graph, request, progress or Silent(), lambda: False)


def config_of(trt: Any) -> Any:
    return next(call[1] for call in trt.calls if call[0] == "build_serialized_network")


def test_call_order(fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]) -> None:
    engine = build(graph, request_for(copy_streams=3, workspace_size="1GiB"))
    names = [call[0] for call in fake_tensorrt.calls]
    assert names[: names.index("build_serialized_network") + 1] == [
        "create_network",
        "load_model_proto",
        "parse_model_proto",
        "set_memory_pool_limit",
        "create_timing_cache",
        "build_serialized_network",
    ]
    assert fake_tensorrt.calls[0] == ("create_network", 1 << fake_tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert ("set_memory_pool_limit", fake_tensorrt.MemoryPoolType.WORKSPACE, 1 << 30) in fake_tensorrt.calls
    profiles = config_of(fake_tensorrt).profiles
    assert [p.shapes for p in profiles] == [{"x": [(1, 3, 4, 4), (8, 3, 4, 4), (8, 3, 4, 4)]}] * 3
    assert engine.facts["tensorrt_version"] == "10.13.3.9"
    assert engine.facts["activation_memory_bytes"] == 123456
    assert engine.facts["gpu"]["name"] == "NVIDIA Fake 5090"


def test_before_10_13_the_graph_comes_in_one_message(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]
) -> None:
    for name in ("load_model_proto", "load_initializer", "parse_model_proto"):
        delattr(fake_tensorrt.OnnxParser, name)
    build(graph, request_for())
    assert [call[0] for call in fake_tensorrt.calls][1] == "parse"


def test_libraries_default_settings(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]
) -> None:
    build(graph, request_for())
    config = config_of(fake_tensorrt)
    assert config.profiling_verbosity == fake_tensorrt.ProfilingVerbosity.DETAILED
    assert config.hardware_compatibility_level == fake_tensorrt.HardwareCompatibilityLevel.NONE
    assert (config.builder_optimization_level, config.max_aux_streams) == (3, -1)
    assert config.tiling_optimization_level == fake_tensorrt.TilingOptimizationLevel.NONE


@pytest.mark.parametrize("target", ["same_compute_capability", "ampere_plus"])
def test_settings(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest], target: str
) -> None:
    request = request_for(
        target=target, builder_optimization_level=5, tiling_optimization_level="full", max_aux_streams=0
    )
    build(graph, request)
    config = config_of(fake_tensorrt)
    assert config.hardware_compatibility_level.name == target.upper()
    assert (config.builder_optimization_level, config.max_aux_streams) == (5, 0)
    assert config.tiling_optimization_level.name == "FULL"


def test_settings_that_this_release_lacks(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]
) -> None:
    del fake_tensorrt.TilingOptimizationLevel
    with pytest.raises(UnsupportedError, match=r"TensorRT 10\.13\.3\.9 does not have tiling_optimization_level fast"):
        build(graph, request_for(tiling_optimization_level="fast"))
    assert not fake_tensorrt.calls  # before anything was built


def test_failures_carry_the_librarys_words(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]
) -> None:
    fake_tensorrt.behaviour.build_fails = True
    fake_tensorrt.behaviour.build_log = [
        (fake_tensorrt.ILogger.ERROR, "Error Code 10: could not find any\n implementation")
    ]
    with pytest.raises(
        BuildError, match="did not build a small network: Error Code 10: could not find any implementation"
    ):
        build(graph, request_for())
    fake_tensorrt.behaviour.parse_errors = ["In node 0: unsupported operator Foo"]
    with pytest.raises(
        BuildError, match="cannot read the graph of a small network: In node 0: unsupported operator Foo"
    ):
        build(graph, request_for())


def test_stopping(fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]) -> None:
    with pytest.raises(BuildStoppedError):
        TensorRTBuilder().build(graph, request_for(), Silent(), lambda: True)


def test_warnings_and_layers_reach_the_manifest(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]
) -> None:
    fake_tensorrt.behaviour.build_log = [(fake_tensorrt.ILogger.WARNING, "a warning")]
    fake_tensorrt.behaviour.layers = [{"Name": "relu", "LayerType": "kgen", "Outputs": [{"Format/Datatype": "Half"}]}]
    engine = build(graph, request_for())
    assert engine.log == ("a warning",)
    assert (engine.facts["engine_layers"], engine.facts["layer_data_types"]) == (1, {"fp16": 1})
    json.dumps(engine.facts)  # JSON types only


def test_an_engine_that_cannot_be_inspected_is_still_an_engine(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest]
) -> None:
    fake_tensorrt.behaviour.deserialize_error = "no"
    assert build(graph, request_for()).facts["engine_inspection"] == "not possible here: no"


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_timing_cache(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest], tmp_path: Path
) -> None:
    first = build(graph, request_for()).facts["timing_cache"]
    path = tmp_path / "tensorrt-10.13.3.9-NVIDIA-Fake-5090-sm120.timing-cache"
    assert first == {"path": str(path), "bytes_reused": 0, "bytes_written": path.stat().st_size}
    written = path.read_bytes()
    second = build(graph, request_for()).facts["timing_cache"]
    assert second["bytes_reused"] == len(written)
    # What another process saved meanwhile is kept.
    path.write_text(json.dumps(["tactics of another build"]))
    build(graph, request_for())
    assert json.loads(path.read_bytes()) == ["tactics of 1 layers", "tactics of another build"]


@pytest.mark.parametrize("content", [b"\xff not a cache", b'["tactics of another GPU"]'])
def test_a_timing_cache_that_does_not_fit(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "my.cache"
    path.write_bytes(content)
    fake_tensorrt.behaviour.timing_cache_valid = False
    notes = Notes()
    facts = build(graph, request_for(timing_cache=path), notes).facts["timing_cache"]
    assert facts["bytes_reused"] == 0
    assert notes.texts == [f"the timing cache {path} is for another library version or GPU; starting a new one"]


def test_timing_caches_of_two_processes(
    fake_tensorrt: Any, graph: PreparedGraph, request_for: Callable[..., BuildRequest], tmp_path: Path
) -> None:
    """Both end with the file locked one after the other; neither's timings are lost."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            build(graph, request_for())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert not errors
    assert [name for name in os.listdir(tmp_path) if name.endswith(".partial")] == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("current", {"gpu", "compute_capability", "multiprocessors", "driver"}),
        ("same_compute_capability", {"compute_capability"}),
        ("ampere_plus", set()),
    ],
)
def test_identity(
    fake_tensorrt: Any, request_for: Callable[..., BuildRequest], target: str, expected: set[str]
) -> None:
    identity = TensorRTBuilder().identity(request_for(target=target))
    assert identity["version"] == "10.13.3.9"
    assert set(identity) == {"name", "version", *expected}


def test_early_refusals(
    fake_tensorrt: Any,
    fake_pycuda: Any,
    request_for: Callable[..., BuildRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builder = TensorRTBuilder()
    assert builder.resolve(request_for()) == {}
    with pytest.raises(DeviceError, match="workspace_size is 31744 MiB, expected at most 30720 MiB"):
        builder.resolve(request_for(workspace_size="31GiB"))
    fake_pycuda.DEVICE.compute_capability = (7, 5)
    from cmx4trt.devices.driver import local_gpu, open_device

    local_gpu.cache_clear()
    open_device.cache_clear()
    with pytest.raises(
        DeviceError, match=r"ampere_plus needs compute capability 8\.0 .* has 7\.5; use --target=current"
    ):
        builder.resolve(request_for(target="ampere_plus"))
    (tmp_path / "tensorrt-8.6.1.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingSoftwareError, match=r"TensorRT 8\.6\.1 is installed, expected 10 or later"):
        builder.resolve(request_for())


def test_without_tensorrt(request_for: Callable[..., BuildRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def importing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "tensorrt":
            raise ImportError("libnvinfer.so.10: cannot open shared object file")
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if "-packages" not in folder])
    with pytest.raises(
        MissingSoftwareError, match=r"TensorRT is not installed .*the import failed: libnvinfer\.so\.10"
    ):
        TensorRTBuilder().resolve(request_for())


def test_type_stubs_are_not_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """tensorrt-stubs leaves a folder 'tensorrt' without code, which Python imports as an empty package."""
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingSoftwareError, match="the folder found does not contain the library"):
        import_tensorrt()
    monkeypatch.delitem(sys.modules, "tensorrt")


def test_a_whole_build_is_executed_before_it_is_published(
    fake_tensorrt: Any, small_resnet50: Path, request_for: Callable[..., BuildRequest]
) -> None:
    """Prepared, built, verified, run on the 'device' and compared, published; found again by the next request."""
    request = request_for(model=small_resnet50, precision="fp32", batch_size=2, copy_streams=2)
    result = pipeline.build(request)
    execution = result.manifest.execution.to_dict()
    assert execution["engine_executed_on_a_device"] == "yes"
    assert execution["device"] == "TensorRT 10.13.3.9 on NVIDIA Fake 5090"
    assert execution["verdict"] == "passed"
    assert execution["relative_l2"] <= execution["relative_l2_limit"]
    assert pipeline.build(request).reused
    assert {call[0] for call in fake_tensorrt.calls} >= {"execute_async_v3"}
    fake_tensorrt.behaviour.output_scale = 2
    with pytest.raises(VerificationError, match=r"run by TensorRT 10.* disagrees with the original model: .*no engine"):
        pipeline.build(request_for(model=small_resnet50, precision="fp32", batch_size=3))


@pytest.mark.parametrize("values", [{}, {"input_dtype": "int8"}], ids=["float input", "int8 input"])
def test_an_int8_engine_is_executed_and_held_to_the_float32_graph(
    fake_tensorrt: Any,
    small_resnet50: Path,
    request_for: Callable[..., BuildRequest],
    values: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    int8 = {"random_weights": 3, "precision": "int8", "calibration_data": "random", "calibration_count": 2, **values}
    result = pipeline.build(request_for(**int8))
    execution = result.manifest.execution.to_dict()
    assert execution["engine_executed_on_a_device"] == "yes"
    assert execution["method"] == "the engine on the GPU against the float32 graph in ONNX Runtime"
    assert execution["verdict"] == "passed"
    # The stand-in fuses float16 layers otherwise than the check before it: values at the edge of a step fall either way.
    assert execution["sqnr_db"]["logits"] == pytest.approx(
        result.manifest.verification.figures["sqnr_db"]["logits"], abs=1
    )
    evaluation = verify_engine(EvaluationRequest.from_values(result.engine))
    assert evaluation.error is None
    assert evaluation.exports["EXECUTED"] == "engine"
    assert evaluation.exports["AGREES"] == "yes"
    fake_tensorrt.behaviour.output_scale = 2
    # Twice the signal is as much noise as signal, 0 dB: no images excuse that.
    assert verify_engine(EvaluationRequest.from_values(result.engine)).exports["AGREES"] == "no"


def test_another_gpu_does_not_reuse(
    fake_tensorrt: ModuleType, fake_pycuda: Any, small_resnet50: Path, request_for: Callable[..., BuildRequest]
) -> None:
    request = request_for(model=small_resnet50, precision="fp32", batch_size=2, verify=False)
    assert pipeline.build(request).manifest.execution.to_dict() == {"engine_executed_on_a_device": "no"}
    from cmx4trt.devices.driver import local_gpu, open_device

    local_gpu.cache_clear()
    open_device.cache_clear()
    fake_pycuda.DEVICE.name = "NVIDIA Fake 4090"
    assert not pipeline.build(request).reused
