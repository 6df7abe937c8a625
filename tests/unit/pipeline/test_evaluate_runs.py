"""verify and bench of a published engine, through the command line: what runs, and how it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.cli.evaluations import INTERRUPTED
from cmx4trt.devices.driver import local_gpu
from cmx4trt.devices.placement import Placement
from cmx4trt.errors import DeviceError
from cmx4trt.requests.options import SCENARIOS
from cmx4trt.sessions.null import NullSession

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
REPOSITORY = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, dict[str, Any]]]


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
        next(line for line in lines if "on the engine's graph; the engine itself was not run" in line).split(None, 1)[
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


def test_without_a_gpu_the_graph_runs_and_the_reason_is_given(
    cmx4trt: Run, engine: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    def refuse(engine: bytes) -> Any:
        raise DeviceError("this GPU has compute capability 9.0", advice="_cpu builds for others")

    stand_in("tensorrt-rtx", open_session=refuse)
    code, text, _ = cmx4trt("bench", engine, "--mode=accuracy", "--count=2", f"--log_dir={tmp_path}")
    assert code == 0, text
    assert "the engine itself was not run (this GPU has compute capability 9.0)" in text
    code, _, result = cmx4trt("bench", engine, "--execute=engine", f"--log_dir={tmp_path}")
    assert code == 9
    hint = "run it on a machine with a GPU that it is for, or run its graph in ONNX Runtime with --execute=graph"
    assert f"nothing here can run {engine}: this GPU has compute capability 9.0; {hint}" in result["error"]


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_without_a_gpu_nobody_is_told_to_install_anything(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """pycuda is not there either, but would change nothing; and what is run is an engine that _cpu has built already."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open")

    monkeypatch.setattr("ctypes.CDLL", missing)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    local_gpu.cache_clear()
    code, text, result = cmx4trt(command, engine, "--execute=engine")
    assert code == 9, text
    assert (
        "this machine has no NVIDIA GPU with a driver: libcuda.so.1: cannot open; run it on a machine"
        in result["error"]
    )
    assert "pip install" not in text + result["error"]
    assert "_cpu" not in text + result["error"]


def test_the_engine_itself_is_preferred(
    cmx4trt: Run, engine: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    session = NullSession(4)
    session.device = "TensorRT on a GPU"
    stand_in("tensorrt-rtx", open_session=lambda engine: session)
    code, text, result = cmx4trt("bench", engine, "--count=1000", f"--log_dir={tmp_path}")
    assert code == 0, text
    assert "the engine itself, by TensorRT on a GPU" in text
    assert result["exports"]["EXECUTED"] == "engine"


def test_every_gpu_gets_a_session(cmx4trt: Run, engine: Path, tmp_path: Path, stand_in: Callable[..., None]) -> None:
    opened: list[NullSession] = []
    closed: list[str] = []

    def open_session(engine: bytes, gpu: int = 0) -> NullSession:
        if gpu == 7:
            raise DeviceError("there is no GPU 7 here")
        session = NullSession(4)
        session.device, session.placements = f"GPU {gpu}", (Placement(gpu, "RTX 5090", ""),)
        session.close = lambda: closed.append(session.device)  # type: ignore[method-assign]
        opened.append(session)
        return session

    stand_in("tensorrt-rtx", open_session=open_session, count_gpus=lambda: 3)
    for given, used in (("all", ["GPU 0", "GPU 1", "GPU 2"]), ("2,0", ["GPU 2", "GPU 0"]), ("1", ["GPU 1"])):
        opened.clear()
        closed.clear()
        code, text, result = cmx4trt("bench", engine, "--count=1000", f"--gpus={given}", f"--log_dir={tmp_path}")
        assert code == 0, text
        assert [session.device for session in opened] == used
        assert f"the engine itself, by {', '.join(used)}" in text
        assert sorted(closed) == sorted(used)
    opened.clear()
    closed.clear()
    code, text, result = cmx4trt("bench", engine, "--count=1000", "--gpus=1,7", f"--log_dir={tmp_path}")
    assert code == 9
    assert "there is no GPU 7 here" in result["error"]
    assert closed == ["GPU 1"]


def test_a_build_is_proved_in_the_same_line(
    cmx4trt: Run, engine: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    stand_in("tensorrt-rtx", open_session=lambda engine: NullSession(4))
    folder = engine.parents[3]
    flags = ["--random_weights=3", "--precision=fp32", "--batch_size=4", "--verify=no", f"--output_dir={folder}"]
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps({"bench": {"count": 100, "log_dir": str(tmp_path / "logs")}}))
    code, text, result = cmx4trt("build", *flags, f"--evaluation={evaluation}")
    assert code == 0, text
    assert result["engine"] == str(engine)
    assert result["result_exports"]["VALID"] == "yes"
    assert (tmp_path / "logs" / "Offline" / "performance" / "run_1" / "mlperf_log_summary.txt").exists()


_INTERRUPTED = """
import sys, time
from cmx4trt.backends.tensorrt import TensorRTRTX
from cmx4trt.cli import main
from cmx4trt.devices.driver import local_gpu
from cmx4trt.errors import DeviceError
from cmx4trt.sessions.null import NullSession

class Session(NullSession):
    calls = 0
    def run(self, feeds):
        Session.calls += 1
        time.sleep(0.005)
        if Session.calls == 200 and {fail}:
            raise DeviceError("the device is gone")
        return super().run(feeds)

TensorRTRTX.open_session = lambda backend, engine: Session(4)
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
