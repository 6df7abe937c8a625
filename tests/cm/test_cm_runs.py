"""Runs that meet something: a model from CM's cache, other runs at the same time, a signal, the user's own files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

TAGS = "generate engine mlperf inference nvidia"

CACHED_MODELS = {
    "resnet50": ("get-ml-model-resnet50", "56203e4e998b4bc0", "get,ml-model,resnet50,raw,ml-model-resnet50,_onnx"),
    "retinanet": ("get-ml-model-retinanet", "427bc5665e4541c2", "get,ml-model,retinanet,raw,resnext50,_onnx,_fp32"),
}
"""Network -> alias, uid and tags of the script whose finished download stands in CM's cache."""

FILL_CACHE = """
import cmind, json, sys
alias, uid, tags, model = sys.argv[1:]
meta = {"associated_script_artifact": f"{alias},{uid}", "associated_script_artifact_uid": uid}
tags = f"{tags},image-classification,object-detection,script-artifact-{uid}"
answer = cmind.access({"action": "add", "automation": "cache", "artifact": "", "tags": tags, "meta": meta})
assert answer["return"] == 0, answer
state = {"new_env": {"CM_ML_MODEL_FILE_WITH_PATH": model}, "new_state": {}, "deps": [], "version": ""}
json.dump(state, open(f"{answer['path']}/cm-cached-state.json", "w"))
"""


@pytest.fixture
def cached_model(cm: Any, tmp_path: Path) -> Iterator[Path]:
    """Both models "downloaded" already: CM's cache names a file that is not a network, so nothing long is built."""
    model = tmp_path / "downloaded.onnx"
    model.write_text("not a network")
    for row in CACHED_MODELS.values():
        subprocess.run([sys.executable, "-c", FILL_CACHE, *row, str(model)], env=cm.environment, check=True)
    yield model
    cm.command("cm", "rm", "cache", "-f", cwd=tmp_path)


@pytest.mark.parametrize("network", CACHED_MODELS)
def test_model_of_the_dependency(cm: Any, rtx: None, folder: Path, cached_model: Path, network: str) -> None:
    done = cm.cmr(f"_{network}", cwd=folder)
    assert ["model", str(cached_model)] in [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 3, done.stdout
    assert f"CM error: model file {cached_model}" in done.stdout
    assert list(folder.iterdir()) == []


def test_fake_run_only_fetches(cm: Any, folder: Path, cached_model: Path) -> None:
    """``cm prepare script``: CM runs the dependencies and no hook of ours."""
    done = cm.cmr("", "--fake_run", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert f"Path to the ML model: {cached_model}" in done.stdout
    assert list(folder.iterdir()) == []


def test_own_model_instead_of_the_dependency(cm: Any, rtx: None, folder: Path, cached_model: Path) -> None:
    (folder / "mine.onnx").write_text("not a network either")
    done = cm.cmr("", "--model=mine.onnx", cwd=folder)
    assert f"CM error: model file {folder / 'mine.onnx'}" in done.stdout
    assert str(cached_model) not in done.stdout


def test_no_dependency_beyond_detection(cm: Any, published: Path, folder: Path) -> None:
    answer = cm.result("_random-weights", f"--output_dir={published}", cwd=folder)
    assert answer["deps"] == ["detect,os", "detect,cpu"]


@pytest.mark.slow
def test_engine_of_the_cached_model(cm: Any, rtx: None, folder: Path, cached_model: Path) -> None:
    """The whole way with a file in the dependency's place, and the second time from the store."""
    from cmx4trt.ir.onnx_file import encode_model
    from cmx4trt.networks import model_from_seed

    cached_model.write_bytes(bytes(encode_model(model_from_seed("resnet50", 3), inline_bytes=None).message))
    first = cm.result("_resnet50", cwd=folder)
    assert first["return"] == 0, first
    assert first["new_env"]["CM_MLPERF_ENGINE_VERIFIED"] == "yes"
    assert first["deps"] == ["detect,os", "detect,cpu", "get,ml-model,resnet50,_onnx"]
    manifest = json.loads(Path(first["new_env"]["CM_MLPERF_ENGINE_MANIFEST_WITH_PATH"]).read_text())
    assert manifest["source"]["path"] == str(cached_model)
    second = cm.result("_resnet50", cwd=folder)
    assert second["new_env"]["CM_MLPERF_ENGINE_REUSED"] == "yes"
    assert second["new_env"]["CM_MLPERF_ENGINE_SHA256"] == first["new_env"]["CM_MLPERF_ENGINE_SHA256"]


def test_four_at_once_from_one_folder(cm: Any, published: Path, folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: cm.cmr("_random-weights", f"--output_dir={published}", cwd=folder), range(4)))
    assert [run.returncode for run in runs] == [0] * 4, [run.stdout for run in runs if run.returncode]
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_two_builds_at_once_into_one_folder(small_cm: Any, rtx: None, folder: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: small_cm.cmr("_random-weights", "--verify=no", cwd=folder), range(2)))
    assert [run.returncode for run in runs] == [0] * 2, [run.stdout for run in runs if run.returncode]
    assert small_cm.result("_random-weights", "--verify=no", cwd=folder)["new_env"]["CM_MLPERF_ENGINE_REUSED"] == "yes"
    files = sorted(path.suffix for path in (folder / "engines").rglob("*") if path.is_file())
    assert files == [".html", ".json", ".plan"]


def test_files_named_like_those_of_cm_stay(cm: Any, published: Path, folder: Path) -> None:
    mine = ["tmp-run.sh", "tmp-env.sh", "tmp-state.json", "tmp-run-env.out", "tmp-run-state.json", "tmp-ver.out"]
    for name in mine:
        (folder / name).write_text("mine")
    done = cm.cmr("_random-weights", f"--output_dir={published}", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(mine, "mine")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """TMPDIR of one run, to see what it leaves behind."""
    path = tmp_path / "private"
    path.mkdir()
    return path


@pytest.mark.parametrize("tags", ["_random-weights", "_random-weights _batch_size.0"])
def test_private_folder_is_removed(cm: Any, published: Path, folder: Path, private: Path, tags: str) -> None:
    cm.cmr(tags, f"--output_dir={published}", cwd=folder, TMPDIR=str(private))
    assert list(private.iterdir()) == []


def test_failing_dependency(cm: Any, rtx: None, folder: Path, private: Path) -> None:
    """CM calls no hook when a dependency fails; the private folder goes when CM's process ends."""
    done = cm.cmr("", "--adr.resnet50-model.tags=_no-such-variation", cwd=folder, TMPDIR=str(private))
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert list(folder.iterdir()) == list(private.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, 137)])
def test_signal_during_the_build(cm: Any, rtx: None, folder: Path, private: Path, number: int, status: int) -> None:
    """Ctrl-C reaches the whole group; the other two only the worker. Nothing that looks like an engine is left."""
    done = _signalled(cm, folder, private, number)
    assert done.returncode == status, done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.count("CM error:") == 1
    assert "Please file an issue" not in done.stdout
    assert not [path for path in folder.rglob("*") if path.suffix in (".plan", ".json")]
    assert list(private.iterdir()) == []


def _signalled(cm: Any, folder: Path, private: Path, number: int) -> subprocess.CompletedProcess[str]:
    log = private.parent / "log"
    line = f"{TAGS} _random-weights _copy_streams.8"  # eight profiles: a build of seconds
    command = [sys.executable, "-c", "from cmind.cli import run_script; run_script()", line]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**cm.environment, "TMPDIR": str(private)},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Background jobs of a shell start with it ignored, and hand that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 60
        while "build ..." not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            os.kill(_worker_of(process.pid), number)
        process.wait(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, log.read_text())


def _worker_of(session: int) -> int:
    """The process of the session that runs ``python -m cmx4trt build``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[1:4] == [b"-m", b"cmx4trt", b"build"]:
                return int(entry.name)
    raise AssertionError("the worker is not running")
