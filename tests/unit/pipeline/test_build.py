from __future__ import annotations

import fcntl
import json
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends.base import BuiltEngine
from cmx4trt.base.background import Background
from cmx4trt.base.digests import digests_of, sha256_of_file
from cmx4trt.base.progress import Silent
from cmx4trt.base.verdicts import PASSED, SKIPPED
from cmx4trt.cli import main
from cmx4trt.cli.rows import rows_of_evaluation
from cmx4trt.cli.terminal import TerminalProgress
from cmx4trt.errors import BuildError, ModelError, OutputError, RequestError, VerificationError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.options import GraphOptions
from cmx4trt.ir.model import DType, Node, Tensor
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.networks import network_of
from cmx4trt.pipeline import build as pipeline
from cmx4trt.pipeline.evaluate import verify, verify_engine
from cmx4trt.pipeline.plan import plan
from cmx4trt.pipeline.published import EngineAtHand
from cmx4trt.pipeline.result import BuildResult
from cmx4trt.quantize.tensorrt_cache import encode_cache, parse_cache
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation import EvaluationRequest
from cmx4trt.requests.evaluation_options import EvaluationOptions
from cmx4trt.store.folder import read_manifest


class Recorder:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.events.append(f"{name} begins")
        yield
        self.events.append(f"{name} ends")

    def step(self, name: str, done: int, total: int) -> None:
        self.events.append("step")

    def note(self, text: str) -> None:
        self.events.append(text)


class FakeBuilder:
    """Builds at once what it is told to."""

    name = "tensorrt-rtx"

    def __init__(self, build: Callable[..., BuiltEngine] | None = None) -> None:
        self.building = build or (
            lambda graph: BuiltEngine(
                graph.encoded.message + graph.encoded.sha256().encode(), {"layers": 1}, ("a warning",)
            )
        )
        self.version_text = "1"
        self.builds = 0

    def version(self) -> str:
        return self.version_text

    def resolve(self, request: BuildRequest) -> Mapping[str, Any]:
        return {}

    def identity(self, request: BuildRequest) -> Mapping[str, str]:
        return {"name": self.name, "version": self.version()}

    def build(self, graph: Any, request: BuildRequest, progress: Any, stopped: Callable[[], bool]) -> BuiltEngine:
        self.builds += 1
        return self.building(graph)


@pytest.fixture
def fake_builder(stand_in: Callable[..., None]) -> FakeBuilder:
    builder = FakeBuilder()
    stand_in(FakeBuilder.name, builder=lambda: builder, load=lambda: None)
    return builder


def request_for(model: Path, folder: Path, **values: object) -> BuildRequest:
    return BuildRequest.from_values({"model": model, "output_dir": folder / "out", "batch_size": 2, **values})


def files_below(folder: Path) -> list[str]:
    return sorted(name for _, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_real_build(tensorrt_rtx: str, resnet50_file: Path, tmp_path: Path, precision: str) -> None:
    progress = Recorder()
    result = pipeline.build(request_for(resnet50_file, tmp_path, precision=precision, copy_streams=2), progress)
    manifest = read_manifest(result.manifest_path)
    assert not result.reused
    assert manifest.to_json() == result.manifest.to_json()
    assert manifest.engine.sha256 == sha256_of_file(result.engine)
    assert manifest.source.sha256 == sha256_of_file(str(resnet50_file))
    assert manifest.verification.verdict == PASSED
    assert 0 <= manifest.verification.figures["relative_l2"] <= manifest.verification.figures["relative_l2_limit"]
    assert manifest.execution.to_dict() == {"engine_executed_on_a_device": "no"}
    assert manifest.builder.version == tensorrt_rtx
    assert manifest.builder.more["optimization_profiles"] == 2
    assert manifest.builder.more["max_scratch_memory_bytes"] > 0
    assert {"prepare begins", "build ends", "verify ends", "publish ends", "step"} <= set(progress.events)
    half = 2 if precision == "fp32" else 1
    assert 0.95 < manifest.engine.bytes / (25.6e6 * 2 * half * 2 / 2) < 1.15
    assert pipeline.build(request_for(resnet50_file, tmp_path, precision=precision, copy_streams=2)).reused
    assert not {"numpy", "onnxruntime", "tensorrt_rtx", "matplotlib", "zipfile", "ctypes"} & loaded_by_a_hit(result)


def loaded_by_a_hit(result: BuildResult) -> set[str]:
    """The modules of a new process that finds the engine again."""
    names = ("model", "precision", "batch_size", "copy_streams", "output_dir")
    values = {name: result.manifest.request.to_dict()[name] for name in names}
    code = (
        "import json, sys; from cmx4trt.pipeline import build as pipeline; from cmx4trt.requests.build import BuildRequest; "
        "assert pipeline.build(BuildRequest.from_values(json.loads(sys.argv[1]))).reused; print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, json.dumps(values)]
    return set(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split())


def test_random_weights_say_so(tensorrt_rtx: str, tmp_path: Path) -> None:
    request = BuildRequest.from_values({"random_weights": 5, "output_dir": tmp_path, "verify": False})
    result = pipeline.build(request)
    assert result.manifest.source.to_dict() == {"kind": "random-weights", "seed": 5}
    assert result.manifest.verification.verdict == SKIPPED
    assert not result.manifest.verified
    assert result.exports()["VERIFIED"] == "no"


def test_a_second_request_imports_no_vendor_library(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder
) -> None:
    request = request_for(small_resnet50, tmp_path)
    first = pipeline.build(request)
    saved = {
        name: sys.modules.pop(name)
        for name in list(sys.modules)
        if name.split(".")[0] in ("onnxruntime", "tensorrt_rtx")
    }
    try:
        second = pipeline.build(request)
        assert not {"onnxruntime", "tensorrt_rtx"} & sys.modules.keys()
    finally:
        sys.modules.update(saved)
    assert (first.reused, second.reused, fake_builder.builds) == (False, True, 1)
    assert second.manifest.to_json() == first.manifest.to_json()


def test_only_what_will_be_built_has_its_library_loaded(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder, stand_in: Callable[..., None]
) -> None:
    """Beside the reading of the model: neither for a hit nor for a dry run."""
    loaded = threading.Event()
    stand_in("tensorrt-rtx", load=loaded.set)
    request = request_for(small_resnet50, tmp_path, verify=False, report=False)
    plan(request)
    assert not loaded.is_set()
    assert not pipeline.build(request).reused
    assert loaded.wait(60)
    loaded.clear()
    assert pipeline.build(request).reused
    assert not loaded.is_set()


def test_a_float16_file_with_infinities_is_refused_while_it_is_built(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder
) -> None:
    model = decode_model(small_resnet50.read_bytes())
    name, tensor = max(model.graph.initializers.items(), key=lambda item: item[1].size)
    half = np.full(tensor.dims, np.inf, np.float16)
    model.graph.initializers[name] = Tensor.from_numpy(name, half)
    for node in model.graph.nodes:
        if name in node.inputs:
            node.inputs = [f"{name}_wide" if one == name else one for one in node.inputs]
    model.graph.nodes.insert(0, Node("Cast", [name], [f"{name}_wide"], {"to": int(DType.FLOAT)}, "widen"))
    file = tmp_path / "infinite.onnx"
    file.write_bytes(encode_model(model, None).message)
    with pytest.raises(ModelError, match="cannot be float16: its largest magnitude is inf"):
        pipeline.build(request_for(file, tmp_path / "out", precision="fp16", verify=False))
    assert files_below(tmp_path / "out") == []


def test_files_are_read_and_hashed_in_a_stage(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever waits for gigabytes sees what for."""
    request = request_for(small_resnet50, tmp_path, verify=False, report=False)
    engine = pipeline.build(request).engine
    found = Recorder()
    assert pipeline.build(request, found).reused
    assert found.events == [f"{name} {what}" for name in ("read model", "check engine") for what in ("begins", "ends")]

    class StopsThere(Recorder):
        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            with super().stage(name):
                if name == "prepare":
                    raise BuildError("stop here")
                yield

    verified = StopsThere()
    with pytest.raises(BuildError, match="stop here"):
        verify_engine(EvaluationRequest.from_values(engine, {"execute": "graph"}), verified)
    assert verified.events == ["check engine begins", "check engine ends", *found.events[:2], "prepare begins"]
    shown: list[str] = []
    monkeypatch.setattr(TerminalProgress, "stage", lambda self, name: nullcontext(shown.append(name)))
    for line in (["inspect", engine, "--json"], ["report", engine, "--json"]):
        assert main(line) == 0
    assert shown == ["check engine", "check engine"]


def test_new_builds_what_is_there(small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder) -> None:
    request = request_for(small_resnet50, tmp_path)
    pipeline.build(request)
    assert not pipeline.build(request, new=True).reused
    assert fake_builder.builds == 2
    assert pipeline.build(request).reused


def test_every_change_builds_again(small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder) -> None:
    def build(**values: object) -> bool:
        return not pipeline.build(
            request_for(values.pop("model", small_resnet50), tmp_path, verify=False, **values)
        ).reused

    assert build()
    assert not build()
    model = decode_model(small_resnet50.read_bytes())
    model.graph.initializers["fc.bias"].data = b"\1" + bytes(model.graph.initializers["fc.bias"].data)[1:]
    edited = tmp_path / "edited.onnx"
    edited.write_bytes(encode_model(model, None).message)
    for change in ({"model": edited}, {"batch_size": 3}, {"precision": "fp32"}, {"target": "ada"}, {"copy_streams": 2}):
        assert build(**change), change
    assert not build(), "the engines of other files and stream counts lie beside it"
    fake_builder.version_text = "2"
    assert build()


def with_external_weights(model: Path, folder: Path) -> tuple[Path, Path]:
    """The model in two files: structure, and large constants."""
    import onnx

    path, weights = folder / "m.onnx", folder / "m.bin"
    onnx.save(onnx.load(model), path, save_as_external_data=True, location=weights.name, size_threshold=256)
    return path, weights


def changed(content: bytes) -> bytes:
    """Other weights of the same size: every second float32 with the other sign."""
    import numpy as np

    values = np.frombuffer(content, np.float32).copy()
    values[::2] *= -1
    return values.tobytes()


def test_exchanged_external_weights_are_built_and_verified_anew(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder
) -> None:
    model, weights = with_external_weights(small_resnet50, tmp_path)
    request = request_for(model, tmp_path)
    old = pipeline.build(request)
    assert old.manifest.source.external == [
        {"file": "m.bin", "bytes": weights.stat().st_size, **digests_of(weights.read_bytes())}
    ]
    assert pipeline.build(request).reused
    content, other = weights.read_bytes(), changed(weights.read_bytes())
    weights.write_bytes(other)
    with pytest.raises(ModelError, match=r"the model of .* has changed: it was blake3:.*\+external:"):
        verify_engine(EvaluationRequest.from_values(old.engine, {"execute": "graph"}))
    new = pipeline.build(request)
    assert not new.reused
    assert new.manifest.graph.sha256 != old.manifest.graph.sha256, "the graph's digest leaves its weights out"
    assert new.manifest.parts["source"] != old.manifest.parts["source"]
    weights.write_bytes(content)
    again = pipeline.build(request)
    assert again.reused
    assert again.engine == old.engine


def test_of_two_identical_builds_at_once_one_waits_and_reuses(
    small_resnet50: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    waiting, builds = threading.Event(), []

    def build(graph: Any) -> BuiltEngine:
        assert waiting.wait(60)
        builds.append(graph)
        return BuiltEngine(b"engine")

    class Waits(Recorder):
        def note(self, text: str) -> None:
            super().note(text)
            waiting.set()

    stand_in(FakeBuilder.name, builder=lambda: FakeBuilder(build))
    request, progress = request_for(small_resnet50, tmp_path, verify=False, report=False), Waits()
    both = [Background(lambda: pipeline.build(request, progress)) for _ in range(2)]
    results = [one.result() for one in both]
    assert sorted(result.reused for result in results) == [False, True]
    assert len(builds) == 1
    assert any(text.startswith(f"waiting for process {os.getpid()}") for text in progress.events)
    assert "which holds the build of" in next(text for text in progress.events if text.startswith("waiting"))
    assert {name.rsplit(".", 1)[1] for name in files_below(tmp_path / "out")} == {"plan", "json"}


def test_what_is_verified_is_what_was_read(small_resnet50: Path, tmp_path: Path) -> None:
    """Weights exchanged during the build: the graph, its verification and the manifest are of the former ones."""
    model, weights = with_external_weights(small_resnet50, tmp_path)
    digest, other = sha256_of_file(str(weights)), changed(weights.read_bytes())

    class Exchanges(Recorder):
        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            if name == "verify":
                weights.write_bytes(other)
            yield

    manifest = pipeline.build(request_for(model, tmp_path), Exchanges()).manifest
    assert manifest.verified
    assert manifest.source.external[0]["sha256"] == digest
    assert not pipeline.build(request_for(model, tmp_path)).reused


@pytest.mark.parametrize("what", ["model", "weights", "engine"])
def test_writes_that_no_file_system_shows_are_noticed(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder, what: str
) -> None:
    """Through a mapping whose page is dirty already: size, inode and all times stay as they are."""
    model, weights = with_external_weights(small_resnet50, tmp_path)
    request = request_for(model, tmp_path, verify=False)
    path = {"model": model, "weights": weights}.get(what) or Path(pipeline.build(request).engine)
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        place = {"model": content.find(b"small"), "weights": 100, "engine": 10}[what]
        content[place : place + 1] = content[place : place + 1]
        assert pipeline.build(request).reused is (what == "engine")
        content[place] ^= 1
        progress = Recorder()
        assert not pipeline.build(request, progress).reused
    assert any("truncated or edited" in event for event in progress.events) is (what == "engine")


def test_a_manifest_that_cannot_be_written_leaves_the_former_engine(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_builder.building = lambda graph: BuiltEngine(os.urandom(1000))
    request = request_for(small_resnet50, tmp_path, verify=False, report=False)
    former = pipeline.build(request)
    before = files_below(tmp_path)
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if bytes(data[:1]) == b"{":
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"cannot write .*\.json: No space left on device"):
            pipeline.build(request_for(small_resnet50, tmp_path, verify=False, report=False, copy_streams=2))
    assert files_below(tmp_path) == before
    again = pipeline.build(request)
    assert again.reused
    assert again.manifest.to_json() == former.manifest.to_json()


def test_a_folder_in_the_manifests_place_leaves_the_engine(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder
) -> None:
    former = pipeline.build(request_for(small_resnet50, tmp_path, verify=False))
    content = Path(former.engine).read_bytes()
    Path(former.manifest_path).unlink()
    Path(former.manifest_path).mkdir()
    with pytest.raises(OutputError, match="what is there is not a regular file"):
        pipeline.build(request_for(small_resnet50, tmp_path, verify=False))
    assert Path(former.engine).read_bytes() == content


def test_a_locked_folder_is_waited_for_as_long_as_asked(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder
) -> None:
    request = request_for(small_resnet50, tmp_path, verify=False, wait=0)
    folder = Path(pipeline.build(request).engine).parent
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert pipeline.build(request).reused, "nothing is written"
        other = request_for(small_resnet50, tmp_path, verify=False, wait=0, copy_streams=2)
        with pytest.raises(OutputError, match=rf"folder {folder} is locked by process {os.getpid()} "):
            pipeline.build(other)
    finally:
        os.close(descriptor)
    assert not pipeline.build(other).reused


def test_the_same_bytes_at_another_path_hit(small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder) -> None:
    pipeline.build(request_for(small_resnet50, tmp_path, verify=False))
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(small_resnet50.read_bytes())
    assert pipeline.build(request_for(copy, tmp_path, verify=False)).reused


def test_a_damaged_engine_is_rebuilt_with_a_note(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder
) -> None:
    request = request_for(small_resnet50, tmp_path, verify=False)
    engine = Path(pipeline.build(request).engine)
    content = engine.read_bytes()
    engine.write_bytes(content[:-5])
    progress = Recorder()
    assert not pipeline.build(request, progress).reused
    assert any("truncated or edited); building again" in event for event in progress.events)
    assert engine.read_bytes() == content


def test_a_failed_build_leaves_nothing(small_resnet50: Path, tmp_path: Path, stand_in: Callable[..., None]) -> None:
    def fail(graph: Any) -> BuiltEngine:
        raise BuildError("the library did not build: no reason")

    stand_in(FakeBuilder.name, builder=lambda: FakeBuilder(fail))
    with pytest.raises(BuildError):
        pipeline.build(request_for(small_resnet50, tmp_path))
    assert files_below(tmp_path) == []


def test_a_disagreeing_graph_is_not_published(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder, stand_in: Callable[..., None]
) -> None:
    honest = network_of("resnet50").attach_outputs

    def wrong(graph: CanonicalGraph, options: GraphOptions) -> None:
        relu = next(n for n in graph.model.graph.nodes if n.op_type == "Relu")
        relu.op_type = "Abs"
        honest(graph, options)

    stand_in("resnet50", attach_outputs=wrong)
    with pytest.raises(VerificationError, match="Abs 'relu1' is computed with Abs, the original's with Relu"):
        pipeline.build(request_for(small_resnet50, tmp_path))
    assert files_below(tmp_path) == []


def test_a_full_disk_leaves_nothing(tensorrt_rtx: str, resnet50_file: Path, tmpfs: Callable[..., Path]) -> None:
    folder = tmpfs("size=8m")
    with pytest.raises(OutputError, match="No space left on device"):
        pipeline.build(request_for(resnet50_file, folder, verify=False))
    assert files_below(folder) == []


def test_the_librarys_reason_is_passed_on(tensorrt_rtx: str, resnet50_file: Path, tmp_path: Path) -> None:
    request = request_for(resnet50_file, tmp_path, batch_size=256, workspace_size="16MiB", verify=False)
    with pytest.raises(BuildError, match=r"OutOfMemory|workspace|memory"):
        pipeline.build(request)
    assert files_below(tmp_path) == []


def test_early_refusals(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no model: give --model"):
        pipeline.build(BuildRequest.from_values({"output_dir": tmp_path}))
    with pytest.raises(RequestError, match=r"batch_size is 5000, expected at most 2674 for ResNet-50 v1\.5"):
        pipeline.build(BuildRequest.from_values({"output_dir": tmp_path, "random_weights": 1, "batch_size": 5000}))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is not a folder"):
        pipeline.build(BuildRequest.from_values({"output_dir": tmp_path / "file" / "x", "random_weights": 1}))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("text", "not .* ONNX"),
        ("cut", "truncated"),
        ("fifo", "not a regular file"),
    ],
)
def test_unusable_model_files(
    small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder, kind: str, message: str
) -> None:
    path = tmp_path / "model.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is not a model.")
    elif kind == "cut":
        path.write_bytes(small_resnet50.read_bytes()[:-1000])
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ModelError, match=message):
        pipeline.build(request_for(path, tmp_path))
    assert fake_builder.builds == 0


def test_plan_builds_and_writes_nothing(small_resnet50: Path, tmp_path: Path, fake_builder: FakeBuilder) -> None:
    request = request_for(small_resnet50, tmp_path, verify=False)
    assert not plan(request).reused
    assert files_below(tmp_path) == []
    pipeline.build(request)
    assert plan(request).reused


def test_what_made_up_images_cannot_judge_is_neither_right_nor_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_builder: FakeBuilder
) -> None:
    """A cache with synthetic scales: on noise the graphs differ, and noise is no evidence against a cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sound, cache = tmp_path / "sound.cache", tmp_path / "calibrator.cache"
    flags = ("--random_weights=0", "--calibration_data=random", "--calibration_count=1", "--calibration_method=minmax")
    assert main(["calibrate", *flags, f"--tensorrt_cache={sound}"]) == 0
    scales = parse_cache(sound.read_bytes(), str(sound)).scales
    cache.write_bytes(encode_cache({name: 0.01 + i / 1000 for i, name in enumerate(scales)}))
    int8 = {"precision": "int8", "calibration_cache": cache, "output_dir": tmp_path / "out"}
    request = BuildRequest.from_values({"random_weights": 0, **int8})
    result, graph = pipeline.build_with_graph(request)
    assert result.manifest.verification.verdict == SKIPPED
    assert result.exports()["VERIFIED"] == "no"
    assert pipeline.build(request).reused, "to verify it again would say the same"
    evaluation = verify(EngineAtHand(result.engine, Silent(), graph), EvaluationOptions(execute="graph"), Silent())
    assert evaluation.error is None
    assert evaluation.exports["AGREES"] == "unknown"
    words = dict(rows_of_evaluation(evaluation))
    assert words["agrees with the original model"].startswith("not judged")
    assert "(limit 10 dB)" in words["measured"]


def test_external_data_models_are_verified_too(tensorrt_rtx: str, resnet50_file: Path, tmp_path: Path) -> None:
    model, _ = with_external_weights(resnet50_file, tmp_path)
    assert pipeline.build(request_for(model, tmp_path)).manifest.verified
