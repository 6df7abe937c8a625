"""verify and bench of a published engine, through the command line: what runs, what is refused, what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt import proof
from cmx4trt.bench import datasets
from cmx4trt.cli import main
from cmx4trt.cli.proofs import INTERRUPTED
from cmx4trt.errors import DeviceError, MissingSoftwareError, ModelError, VerificationError
from cmx4trt.executable import read_published
from cmx4trt.options import SCENARIOS
from cmx4trt.pipeline import build
from cmx4trt.proof_request import ProofRequest
from cmx4trt.request import BuildRequest
from cmx4trt.runtimes.null import NullSession

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def engine(tensorrt_rtx: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 engine, float32, batch 4; not to be changed."""
    folder = tmp_path_factory.mktemp("engines")
    values = {"random_weights": 3, "precision": "fp32", "batch_size": 4, "verify": False, "output_dir": str(folder)}
    return Path(build(BuildRequest.from_values(values)).engine)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six preprocessed images and their labels, of which most are wrong."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(1)
    for number in range(6):
        np.save(folder / f"val_{number}.JPEG.npy", generator.normal(0, 60, (3, 224, 224)).astype(np.float32))
    (folder / "val_map.txt").write_text("".join(f"val_{number}.JPEG {number}\n" for number in range(6)))
    return folder


Run = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.fixture
def cmx4trt(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command in this process: exit code, everything printed, the result file."""

    def run(*arguments: object) -> tuple[int, str, dict[str, Any]]:
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = main([*map(str, arguments), f"--result={result}"])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        return code, captured.out + captured.err, json.loads(result.read_text()) if result.exists() else {}

    return run


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_bench_runs_every_scenario_over_the_graph(cmx4trt: Run, engine: Path, tmp_path: Path, scenario: str) -> None:
    code, text, result = cmx4trt(
        "bench",
        engine,
        f"--scenario={scenario}",
        "--count=8",
        *(["--target_qps=50"] if scenario in ("Offline", "Server") else []),
        f"--log_dir={tmp_path}",
        "--execute=graph",
    )
    lines = text.splitlines()
    assert lines[lines.index("cmx4trt bench") + 1].split(None, 1) == [
        "executed",
        next(line for line in lines if "over the engine's graph; the engine itself was not run" in line).split(None, 1)[
            1
        ],
    ]
    log = tmp_path / scenario / "performance" / "run_1"
    summary = (log / "mlperf_log_summary.txt").read_text()
    if code == 0:
        assert "Result is : VALID" in summary
        assert result["exports"]["VALID"] == "yes"
        assert result["exports"]["EXECUTED"] == "graph"
        assert result["exports"]["LOG_PATH"] == str(log)
    else:
        assert code == 11
        assert "Result is : INVALID" in summary
        assert "LoadGen calls the run INVALID" in result["error"]
        assert result["exports"]["VALID"] == "no"
        assert result["exports"]["LOG_PATH"] == str(log)
    assert (code == 0) == (scenario == "Offline")  # eight queries are too few for early stopping


@pytest.mark.slow
def test_verify_measures_agreement_and_accuracy(cmx4trt: Run, engine: Path, images: Path, tmp_path: Path) -> None:
    code, text, result = cmx4trt("verify", engine, f"--data={images}", f"--log_dir={tmp_path}", "--execute=graph")
    assert code == 0, text
    assert "relative L2 error" in text
    exports = result["exports"]
    assert exports["AGREES"] == "yes"
    assert exports["ACCURACY_METRIC"] == "top-1"
    assert exports["ACCURACY_IMAGES"] == "6"
    assert exports["ACCURACY_VERDICT"] == "none"  # not the complete validation set
    log = json.loads((tmp_path / "Offline" / "accuracy" / "mlperf_log_accuracy.json").read_text())
    found = {e["qsl_idx"]: int(np.frombuffer(bytes.fromhex(e["data"]), np.int32)[0]) for e in log}
    assert float(exports["ACCURACY_VALUE"]) == pytest.approx(100 * np.mean([found[i] == i for i in range(6)]), abs=1e-3)
    assert found == _classes_in_onnx_runtime(images)


def _classes_in_onnx_runtime(images: Path) -> dict[int, int]:
    """What the network says, asked without anything of the benchmark: argmax of the logits without the background class."""
    from cmx4trt.ir.onnx_file import encode_model
    from cmx4trt.models import model_from_seed
    from cmx4trt.runtimes.onnxruntime import OnnxRuntimeSession

    session = OnnxRuntimeSession.from_bytes(encode_model(model_from_seed("resnet50", 3), None).message)
    batch = np.stack([np.load(images / f"val_{number}.JPEG.npy") for number in range(6)])
    return dict(enumerate(session.run({session.inputs[0]: batch})["logits"].argmax(1) - 1))


@pytest.mark.slow
def test_detections_reach_the_accuracy_log_and_pycocotools(cmx4trt: Run, tensorrt_rtx: str, tmp_path: Path) -> None:
    values = {"network": "retinanet", "random_weights": 2, "precision": "fp32", "verify": False}
    detector = build(BuildRequest.from_values({**values, "output_dir": str(tmp_path / "engines")})).engine
    images = np.random.default_rng(3).normal(0, 1, (2, 3, 800, 800)).astype(np.float32)
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    for number, image in enumerate(images):
        image.tofile(data / f"{number}.raw")
    listed = [{"id": 5 + n, "file_name": f"{n}.jpg", "height": 400, "width": 600} for n in range(2)]
    object_ = {"id": 1, "image_id": 5, "category_id": 3, "bbox": [1, 1, 50, 50], "area": 2500, "iscrowd": 0}
    annotations = {"images": listed, "annotations": [object_], "categories": [{"id": 3, "name": "three"}]}
    (data / "annotations" / "openimages-mlperf.json").write_text(json.dumps(annotations))
    code, text, result = cmx4trt("bench", detector, "--mode=accuracy", f"--data={data}", "--execute=graph")
    assert code == 0, text
    exports = result["exports"]
    assert (exports["ACCURACY_METRIC"], exports["ACCURACY_IMAGES"]) == ("mAP", "2")
    assert 0 <= float(exports["ACCURACY_VALUE"]) <= 100
    log = json.loads(Path(exports["LOG_PATH"], "mlperf_log_accuracy.json").read_text())
    found = {e["qsl_idx"]: np.frombuffer(bytes.fromhex(e["data"]), np.float32).reshape(-1, 7) for e in log}
    expected = _detections_in_onnx_runtime(images)
    assert len(expected[0]) > 100
    for index, detections in enumerate(expected):
        records = found[index]
        assert (records[:, 0] == index).all()
        np.testing.assert_allclose(records[:, 1:5] * 800, detections.boxes[:, [1, 0, 3, 2]], atol=0.1)
        np.testing.assert_allclose(records[:, 5], detections.scores, atol=1e-5)
        assert (records[:, 6] == detections.labels).mean() > 0.98  # equal scores may swap places


def _detections_in_onnx_runtime(images: Any) -> list[Any]:
    """What the prepared graph detects, asked without anything of the benchmark."""
    from cmx4trt.models import spec_of
    from cmx4trt.prepare import prepare
    from cmx4trt.progress import Silent
    from cmx4trt.runtimes.detections import detections_from_outputs
    from cmx4trt.source import source_of_request
    from cmx4trt.verify.classification import open_prepared

    request = BuildRequest.from_values({"network": "retinanet", "random_weights": 2, "precision": "fp32"})
    session = open_prepared(prepare(request, source_of_request(request), Silent()).graph)
    return [
        detections_from_outputs(session.run({"input": image[None]}), spec_of("retinanet").details)[0]
        for image in images
    ]


def test_without_a_gpu_the_graph_runs_and_the_reason_is_given(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, manifest: Any) -> Any:
        raise DeviceError("this GPU has compute capability 9.0")

    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", refuse)
    code, text, _ = cmx4trt("bench", engine, "--mode=accuracy", "--count=2", f"--log_dir={tmp_path}")
    assert code == 0, text
    assert "the engine itself was not run (this GPU has compute capability 9.0)" in text
    code, _, result = cmx4trt("bench", engine, "--execute=engine", f"--log_dir={tmp_path}")
    assert code == 9
    assert "this GPU has compute capability 9.0; --execute=graph runs its graph in ONNX Runtime" in result["error"]


def test_the_engine_itself_is_preferred(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = NullSession(4)
    session.device = "TensorRT on a GPU"
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: session)
    code, text, result = cmx4trt("bench", engine, "--count=1000", f"--log_dir={tmp_path}")
    assert code == 0, text
    assert "the engine itself, by TensorRT on a GPU" in text
    assert result["exports"]["EXECUTED"] == "engine"


def _copy(engine: Path, folder: Path) -> Path:
    for suffix in (".plan", ".json"):
        shutil.copy2(engine.with_suffix(suffix), folder)
    return folder / engine.name


@pytest.mark.parametrize("command", ["bench", "verify"])
def test_what_is_not_a_published_engine_is_refused(cmx4trt: Run, engine: Path, tmp_path: Path, command: str) -> None:
    copy = _copy(engine, tmp_path)
    with copy.open("r+b") as stream:
        stream.write(b"x")
    code, _, result = cmx4trt(command, copy)
    assert code == 3
    assert "is not the file that was published (truncated or edited); build it again" in result["error"]
    copy.with_suffix(".json").unlink()
    code, _, result = cmx4trt(command, copy)
    assert code == 3
    assert "cannot read manifest" in result["error"]
    code, _, result = cmx4trt(command, tmp_path / "none.plan")
    assert code == 3


def test_another_network_or_a_changed_recipe_is_refused(cmx4trt: Run, engine: Path, tmp_path: Path) -> None:
    code, _, result = cmx4trt("bench", engine, "--network=retinanet")
    assert code == 3
    assert "is an engine of resnet50, expected one of retinanet" in result["error"]
    copy = _copy(engine, tmp_path)
    manifest = json.loads(copy.with_suffix(".json").read_text())
    manifest["graph"]["message_sha256"] = "0" * 64
    copy.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt("bench", copy, "--execute=graph", "--count=2", "--mode=accuracy")
    assert code == 3
    assert "prepares another graph" in result["error"]
    manifest["parts"]["source"] = "random-weights:4"
    copy.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt("bench", copy, "--execute=graph", "--count=2", "--mode=accuracy")
    assert "it was random-weights:4 and is random-weights:3 now" in result["error"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "the following arguments are required: ENGINE"),
        (["ENGINE", "--batch_size=5"], 2, "batch_size is 5, expected at most the engine's 4"),
        (["ENGINE", "--duration=0"], 2, "duration is '0', expected a positive number"),
        (["ENGINE", "--scenario=Ofline"], 2, "did you mean 'Offline'"),
        (["ENGINE", "--count=0"], 2, "count is 0"),
        (["ENGINE", "--rules=mlperf", "--count=5"], 2, "leave --count and --duration out"),
        (["ENGINE", "--user_conf=/nonexistent"], 2, "cannot read user.conf /nonexistent"),
        (["ENGINE", "--data=/nonexistent"], 8, "data folder /nonexistent does not exist"),
        (["ENGINE", "--labels=/nonexistent"], 8, "synthetic data have no labels"),
        (["ENGINE", "--scenaro=Offline"], 2, "did you mean '--scenario'"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(
    cmx4trt: Run,
    engine: Path,
    arguments: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    given = [str(engine) if argument == "ENGINE" else argument for argument in arguments]
    found, text, result = cmx4trt("bench", *given, f"--log_dir={tmp_path}")
    assert found == code
    sentence = result.get("error", text)  # before the arguments are parsed there is no result file to write to
    assert words in sentence
    assert len(sentence.strip().splitlines()) == 1
    assert not any(tmp_path.glob("Offline/*"))


def test_verify_checks_so_many_images_as_it_is_told(
    cmx4trt: Run, engine: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmx4trt.proof._compare", lambda *_: None)  # that takes seconds, and is tested above
    flags = (f"--data={images}", "--count=2", f"--log_dir={tmp_path}", "--execute=graph")
    code, text, result = cmx4trt("verify", engine, *flags)
    assert code == 0, text
    assert result["exports"]["ACCURACY_IMAGES"] == "2"


def test_engines_of_nvidias_code_have_no_graph_to_compare(
    cmx4trt: Run, engine: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _copy(engine, tmp_path)
    manifest = json.loads(copy.with_suffix(".json").read_text())
    manifest["request"] |= {"builder": "common-code", "device": "cuda", "precision": "int8", "target": "current"}
    copy.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt("verify", copy)
    assert code == 10
    assert "measure its accuracy with --data=FOLDER" in result["error"]
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    code, text, result = cmx4trt("verify", copy, f"--data={images}", f"--log_dir={tmp_path / 'logs'}")
    assert code == 0, text
    assert result["exports"]["ACCURACY_IMAGES"] == "6"
    assert "AGREES" not in result["exports"]


def test_missing_labels_are_found_out_before_the_run(cmx4trt: Run, engine: Path, images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "val_0.JPEG.npy", tmp_path)
    code, _, result = cmx4trt("verify", engine, f"--data={tmp_path}")
    assert code == 8
    assert "give the label file with --labels" in result["error"]


def test_a_verdict_needs_an_answer_for_every_image(
    cmx4trt: Run, engine: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """user.conf can make LoadGen ask for fewer images than there are."""
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    monkeypatch.setitem(datasets.COMPLETE, "resnet50", 6)
    flags = ("--mode=accuracy", f"--data={images}", f"--log_dir={tmp_path}")
    code, _, result = cmx4trt("bench", engine, *flags)
    assert (code, result["exports"]["ACCURACY_VERDICT"]) == (VerificationError.exit_code, "failed")
    conf = tmp_path / "user.conf"
    conf.write_text("*.Offline.accuracy_sample_count_override = 3\n")
    code, text, result = cmx4trt("bench", engine, *flags, f"--user_conf={conf}")
    assert code == 0, text
    assert (result["exports"]["ACCURACY_IMAGES"], result["exports"]["ACCURACY_VERDICT"]) == ("3", "none")
    assert "complete validation set only" in text


@pytest.fixture
def detector(engine: Path, tmp_path: Path) -> Path:
    """An engine that is said to be RetinaNet's; what is measured of it comes from ``NothingFound``."""
    copy = _copy(engine, tmp_path)
    manifest = json.loads(copy.with_suffix(".json").read_text())
    manifest["request"]["network"] = "retinanet"
    copy.with_suffix(".json").write_text(json.dumps(manifest))
    return copy


@pytest.fixture
def two_photographs(tmp_path: Path) -> Path:
    """Of which only the second shows an object."""
    folder = tmp_path / "photographs"
    (folder / "annotations").mkdir(parents=True)
    for number in range(2):
        np.zeros((3, 800, 800), np.float32).tofile(folder / f"{number}.raw")
    listed = [{"id": n, "file_name": f"{n}.jpg", "height": 400, "width": 600} for n in range(2)]
    object_ = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 50, 50], "area": 2500, "iscrowd": 0}
    annotations = {"images": listed, "annotations": [object_], "categories": [{"id": 3, "name": "three"}]}
    (folder / "annotations" / "openimages-mlperf.json").write_text(json.dumps(annotations))
    return folder


class NothingFound(NullSession):
    """A detector in NVIDIA's output layout, [N, 7 D + 1] float32, that finds nothing."""

    outputs = ("nmsopt_output",)

    def run(self, feeds: Any) -> Any:
        return {"nmsopt_output": np.zeros((4, 8), np.float32)}


def test_images_without_objects_give_no_accuracy(
    cmx4trt: Run, detector: Path, two_photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (pip install 'cmx4trt[bench]')")
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NothingFound(4))
    flags = ("--mode=accuracy", f"--data={two_photographs}", f"--log_dir={tmp_path / 'logs'}")
    code, text, result = cmx4trt("bench", detector, *flags, "--count=1")
    assert code == 0, text
    assert "there is no ground truth" in text
    exports = {name: value for name, value in result["exports"].items() if name.startswith("ACCURACY")}
    assert exports == {"ACCURACY_IMAGES": "1", "ACCURACY_VERDICT": "none"}
    code, text, result = cmx4trt("bench", detector, *flags)
    assert (code, result["exports"]["ACCURACY_VALUE"]) == (0, "0.0"), text


def test_missing_pycocotools_is_found_out_before_the_run(
    cmx4trt: Run, detector: Path, two_photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NothingFound(4))
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    flags = (f"--data={two_photographs}", f"--log_dir={tmp_path / 'logs'}")
    code, _, result = cmx4trt("bench", detector, "--mode=accuracy", *flags)
    assert code == MissingSoftwareError.exit_code
    assert "pycocotools cannot be imported" in result["error"]
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("command", ["bench", "verify"])
@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("engine", {}, "engine.file in manifest"),
        ("engine", {"file": 5}, "engine.file in manifest"),
        ("request", {"network": "resnet51"}, "request in manifest"),
        ("request", {"network": ["resnet50"]}, "request in manifest"),
        ("network", {"outputs": [{}]}, "network.outputs in manifest"),
        ("network", {"outputs": 5}, "network.outputs in manifest"),
        ("network", {"outputs": [{"name": "logits", "shape": []}]}, "network.outputs in manifest"),
        ("graph", {"quantization": 3}, "graph in manifest"),
        ("graph", {"quantization": {"input_scale": "x"}}, "graph in manifest"),
        ("graph", {"normalization": '{"mean": [0.5], "std": [1, 1, 1]}'}, "graph in manifest"),
    ],
)
def test_a_damaged_manifest_is_told_in_a_sentence(
    cmx4trt: Run, engine: Path, tmp_path: Path, command: str, part: str, value: dict[str, Any], words: str
) -> None:
    copy = _copy(engine, tmp_path)
    manifest = json.loads(copy.with_suffix(".json").read_text())
    manifest[part] = value
    copy.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt(command, copy, "--execute=graph")
    assert code == ModelError.exit_code
    assert words in result["error"]
    assert str(copy.with_suffix(".json")) in result["error"]
    assert "build the engine again" in result["error"]


@pytest.mark.parametrize(
    ("input_range", "normalization"),
    [("normalized", ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))), ("0-1", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))],
)
def test_the_manifest_says_which_images_an_engine_takes(
    detector: Path, input_range: str, normalization: tuple[tuple[float, ...], ...]
) -> None:
    path = detector.with_suffix(".json")
    manifest = json.loads(path.read_text())
    manifest["request"]["input_range"] = input_range
    manifest["graph"] |= {"normalization": '{"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}'}
    manifest["graph"] |= {"quantization": {"input_scale": 0.5}}
    path.write_text(json.dumps(manifest))
    published = read_published(str(detector))
    assert published.normalization == normalization
    assert published.input_scale == 0.5


@pytest.mark.parametrize(
    ("network", "values", "count"),
    [
        ("resnet50", {"rules": "mlperf"}, 1024),  # mlperf.conf, performance_sample_count_override
        ("retinanet", {"rules": "mlperf"}, 64),
        ("resnet50", {}, 64),
        ("resnet50", {"count": 8}, 8),
        ("resnet50", {"count": 1}, 4),  # a batch
        ("resnet50", {"count": 1, "mode": "accuracy"}, 1),
    ],
)
def test_so_many_images_are_made_up_as_loadgen_draws_from(
    engine: Path, network: str, values: dict[str, Any], count: int
) -> None:
    published = read_published(str(engine))
    published = replace(published, request=replace(published.request, network=network))
    dataset = proof._open_dataset(published, ProofRequest.from_values(str(engine), values))
    assert len(dataset) == count


def test_missing_loadgen_says_what_to_install(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    code, _, result = cmx4trt("bench", engine, f"--log_dir={tmp_path}")
    assert code == MissingSoftwareError.exit_code
    assert "pip install 'cmx4trt[bench]'" in result["error"]


def test_a_build_is_proved_in_the_same_line(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    folder = engine.parents[3]
    flags = ["--random_weights=3", "--precision=fp32", "--batch_size=4", "--verify=no", f"--output_dir={folder}"]
    proof = tmp_path / "proof.json"
    proof.write_text(json.dumps({"bench": {"count": 100, "log_dir": str(tmp_path / "logs")}}))
    code, text, result = cmx4trt("build", *flags, f"--proof={proof}")
    assert code == 0, text
    assert result["engine"] == str(engine)
    assert result["result_exports"]["VALID"] == "yes"
    assert (tmp_path / "logs" / "Offline" / "performance" / "run_1" / "mlperf_log_summary.txt").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot read proof file"),
        ("[]", "expected options below 'verify' and 'bench'"),
        ('{"bench": 1}', "expected options below 'verify' and 'bench'"),
        ('{"benhc": {}}', "has 'benhc', expected verify and bench"),
        ('{"bench": {"scenaro": 1}}', "'scenaro' is no option of bench; did you mean 'scenario'"),
        ('{"verify": {"mode": "accuracy"}}', "'mode' is no option of verify"),
        ('{"bench": {"count": "many"}}', "count is 'many'"),
    ],
)
def test_a_proof_file_is_checked_before_the_build(cmx4trt: Run, tmp_path: Path, text: str, words: str) -> None:
    proof = tmp_path / "proof.json"
    proof.write_text(text)
    code, _, result = cmx4trt("build", "--random_weights=3", f"--output_dir={tmp_path / 'engines'}", f"--proof={proof}")
    assert code == 2
    assert words in result["error"]
    assert not (tmp_path / "engines").exists()


_INTERRUPTED = """
import sys, time
import cmx4trt.runtimes.tensorrt
from cmx4trt.cli import main
from cmx4trt.errors import DeviceError
from cmx4trt.runtimes.null import NullSession

class Session(NullSession):
    calls = 0
    def run(self, feeds):
        Session.calls += 1
        time.sleep(0.005)
        if Session.calls == 200 and {fail}:
            raise DeviceError("the device is gone")
        return super().run(feeds)

cmx4trt.runtimes.tensorrt.open_engine = lambda path, manifest: Session(4)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("scenario", ["SingleStream", "Server", "Offline"])
def test_ctrl_c_ends_the_run_at_once_and_leaves_marked_logs(engine: Path, tmp_path: Path, scenario: str) -> None:
    command = [
        "bench",
        str(engine),
        f"--scenario={scenario}",
        "--duration=600",
        *(["--target_qps=50"] if scenario in ("Offline", "Server") else []),
        f"--log_dir={tmp_path}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED.format(fail=False), *command],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    folder = tmp_path / scenario / "performance" / "run_1"
    deadline = time.monotonic() + 120
    while not (folder / "mlperf_log_detail.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == f"cmx4trt: error: {INTERRUPTED}"
    assert json.loads((folder / "cmx4trt_result.json").read_text())["status"] == "interrupted"
    assert (folder / "mlperf_log_detail.txt.partial").stat().st_size > 0


def test_a_failing_device_ends_a_long_run_with_its_own_exit_code(engine: Path, tmp_path: Path) -> None:
    command = ["bench", str(engine), "--scenario=SingleStream", "--duration=600", f"--log_dir={tmp_path}"]
    process = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED.format(fail=True), *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 9, process.stderr
    assert process.stderr.strip().splitlines()[-1] == "cmx4trt: error: the device is gone"
