"""A backend from a file outside the package: registered, nothing edited, and everything follows."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cmx4trt import backends
from cmx4trt.cli import main
from cmx4trt.cm.meta import written_anew
from cmx4trt.errors import RequestError, VerificationError
from cmx4trt.gui.form import form_from_meta
from cmx4trt.ir.model import DType
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.requests.build import BuildRequest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "data" / "throwaway"


@pytest.fixture(autouse=True)
def throwaway(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(FOLDER)
    from throwaway_backend import BACKENDS

    with backends.registered(*BACKENDS):
        yield
    sys.modules.pop("throwaway_backend")


@pytest.fixture
def cmx4trt(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: object) -> str:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_from_build_to_report(cmx4trt: Callable[..., str], small_resnet50: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
    text = cmx4trt("build", "--builder=throwaway", "--random_weights=3", "--batch_size=2", f"--output_dir={tmp_path}")
    assert ["precision", "fp32"] in lines(text)
    assert ["target", "sm90"] in lines(text)
    assert "a GPU of sm90 (Hopper: H100, H200, …)" in text
    (engine,) = (tmp_path / "sm90" / "resnet50" / "Offline").glob("resnet50-Offline-gpu-b2-fp32-*.throwaway.plan")
    manifest = json.loads(engine.with_suffix(".json").read_text())
    assert manifest["execution"]["backend_checks"][0]["passed"] is True

    text = cmx4trt("inspect", engine)
    assert "How it was thrown away" in text
    assert ["nodes", str(manifest["builder"]["nodes"]), "half"] in lines(text)

    text = cmx4trt("verify", engine)
    assert "the engine itself, by ONNX Runtime" in text
    assert f"yes: {manifest['engine']['bytes']} bytes compared, run" in text

    assert "0.500 ms for a batch of 2, 4,000 images/s, on an imaginary GPU" in text

    text = cmx4trt("tune", engine)
    assert ["measured", "everything"] in lines(text)
    assert engine.with_suffix(".kernels.json").read_text() == str(manifest["builder"]["nodes"])

    text = cmx4trt("bench", engine, "--count=2", "--mode=accuracy")
    assert "the engine itself, by ONNX Runtime" in text

    page = tmp_path / "page.html"
    cmx4trt("report", engine, f"--html={page}")
    html = page.read_text()
    for words in ("built by Throw-away 0.1 for Hopper GPUs, in imagination", "How it was thrown away", "half"):
        assert words in html
    assert "Checked by its builder: equals its specification." in html


def test_a_failed_check_of_its_own_is_the_builds_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_resnet50: Path, tmp_path: Path
) -> None:
    from cmx4trt.backends.facts import Check

    wrong = Check("equals its specification", False, "3 bytes differ")
    monkeypatch.setattr("throwaway_backend.Throwaway.check_engine", lambda *_: [wrong])
    assert (
        main(["build", "--builder=throwaway", "--random_weights=3", f"--output_dir={tmp_path}"])
        == VerificationError.exit_code
    )
    assert (
        "fails its check 'equals its specification': 3 bytes differ; no engine was published" in capsys.readouterr().err
    )
    assert not list(tmp_path.rglob("*.plan"))


def test_int8_in_its_flavor(cmx4trt: Callable[..., str], small_resnet50: Path, tmp_path: Path) -> None:
    flags = ("--precision=int8", "--calibration_data=random", "--calibration_count=1", "--random_weights=3")
    cmx4trt("build", "--builder=throwaway", *flags, "--verify=no", "--report=no", f"--output_dir={tmp_path}")
    graph = decode_model(next(tmp_path.rglob("*.plan")).read_bytes()).graph
    zero_points = [graph.initializers[n.inputs[2]] for n in graph.nodes if n.op_type == "QuantizeLinear"]
    assert {DType.UINT8, DType.INT8} >= {tensor.dtype for tensor in zero_points} >= {DType.UINT8}
    scales = [graph.initializers[n.inputs[1]] for n in graph.nodes if n.op_type == "QuantizeLinear"]
    assert all(scale.numpy().dtype == np.float32 for scale in scales)


def test_help_lists_it(cmx4trt: Callable[..., str]) -> None:
    text = " ".join(cmx4trt("build", "--help").split())
    assert "{" + ",".join(backends.names()) + "}" in text
    assert "throwaway: hopper, sm90 (default: sm90)" in text
    assert "throwaway: fp32" in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"precision": "fp16"}, "precision is fp16, expected fp32 or int8 with the builder throwaway"),
        ({"network": "retinanet"}, "network is retinanet, expected resnet50 with the builder throwaway"),
        (
            {"target": "ada"},
            "target includes sm89 (Ada: L40S, L40, …), which the builder throwaway does not support; use _cpu",
        ),
        ({"copy_streams": 2}, "the builder throwaway has one copy stream"),
        ({"timing_cache": "t"}, "timing_cache is for the builder tensorrt, not throwaway"),
        ({"calibration_count": 1}, "and throwaway; got fp32 with throwaway: leave it out"),
    ],
)
def test_what_it_cannot_build_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as error:
        BuildRequest.from_values({"builder": "throwaway", **values})
    assert words in str(error.value)


def test_its_targets(tmp_path: Path) -> None:
    for name in ("h100", "hopper", "9.0"):
        assert BuildRequest.from_values({"builder": "throwaway", "target": name}).target == "sm90"
    with pytest.raises(RequestError, match=r"use .*_cpu,_throwaway \(--builder=throwaway\) on any machine"):
        BuildRequest.from_values({"target": "h100"})


@pytest.fixture
def meta_text() -> str:
    """What ``_cm.yaml`` would be with this backend."""
    return written_anew((ROOT / "_cm.yaml").read_text(encoding="utf-8"))


def test_the_page_asks_for_it(meta_text: str) -> None:
    form = form_from_meta(yaml.safe_load(meta_text))
    field = next(field for field in form.groups if field.name == "builder")
    assert field.choices == backends.names()
    assert field.note("throwaway") == "An ONNX file that ONNX Runtime runs"


def test_a_dry_run_of_cm(cm: Any, meta_text: str, tmp_path: Path) -> None:
    script = tmp_path / "home" / "repos" / "local" / "script" / "generate-nvidia-engine"
    script.mkdir(parents=True)
    (script / "_cm.yaml").write_text(meta_text, encoding="utf-8")
    for name in ("customize.py", "run.sh"):
        (script / name).symlink_to(ROOT / name)
    more = {
        "CM_REPOS": str(tmp_path / "home"),
        "PYTHONPATH": f"{FOLDER}:{ROOT}",
        backends.MORE_BACKENDS: "throwaway_backend",
    }
    done = cm.cmr(
        "_throwaway _random-weights", "--target=h100", "--wrapping=string", "--dry_run=yes", cwd=tmp_path, **more
    )
    assert done.returncode == 0, done.stdout
    found = lines(done.stdout)
    assert ["builder", "throwaway", "0.1"] in found
    assert ["precision", "fp32"] in found
    assert ["target", "sm90"] in found
    assert ["wrapping", "string"] in found
