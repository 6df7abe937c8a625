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
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.cli import main
from cmx4trt.errors import DeviceError, MissingSoftwareError
from cmx4trt.options import SCENARIOS
from cmx4trt.pipeline import build
from cmx4trt.request import BuildRequest

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
        "--target_qps=50",
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
    from cmx4trt.runtimes.null import NullSession

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
    assert "has no readable manifest" in result["error"]
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
        ([], 2, "no engine: give the path"),
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
    from cmx4trt.runtimes.null import NullSession

    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    given = [str(engine) if argument == "ENGINE" else argument for argument in arguments]
    found, text, result = cmx4trt("bench", *given, f"--log_dir={tmp_path}")
    assert found == code
    sentence = result.get("error", text)  # before the arguments are parsed there is no result file to write to
    assert words in sentence
    assert len(sentence.strip().splitlines()) == 1
    assert not any(tmp_path.glob("Offline/*"))


def test_missing_labels_are_found_out_before_the_run(cmx4trt: Run, engine: Path, images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "val_0.JPEG.npy", tmp_path)
    code, _, result = cmx4trt("verify", engine, f"--data={tmp_path}")
    assert code == 8
    assert "give the label file with --labels" in result["error"]


def test_missing_loadgen_says_what_to_install(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cmx4trt.runtimes.null import NullSession

    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    code, _, result = cmx4trt("bench", engine, f"--log_dir={tmp_path}")
    assert code == MissingSoftwareError.exit_code
    assert "pip install 'cmx4trt[bench]'" in result["error"]


def test_options_come_from_files_too(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cmx4trt.runtimes.null import NullSession

    monkeypatch.setattr("cmx4trt.runtimes.tensorrt.open_engine", lambda path, manifest: NullSession(4))
    request, built = tmp_path / "request.json", tmp_path / "built.json"
    request.write_text(json.dumps({"scenario": "SingleStream", "count": 100, "log_dir": str(tmp_path / "logs")}))
    built.write_text(json.dumps({"engine": str(engine)}))
    code, text, _ = cmx4trt("bench", f"--request={request}", f"--build_result={built}", "--count=70")
    assert code == 0, text
    log = (tmp_path / "logs" / "SingleStream" / "performance" / "run_1" / "mlperf_log_summary.txt").read_text()
    assert "min_query_count : 70" in log
    request.write_text('{"scenaro": 1}')
    code, _, result = cmx4trt("bench", engine, f"--request={request}")
    assert code == 2
    assert "has 'scenaro'" in result["error"]


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
        "--target_qps=50",
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
    assert errors.strip().splitlines()[-1] == "cmx4trt: error: interrupted; logs are kept, and marked as partial"
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
