"""A network from outside the package: registered, nothing edited, and taken from its file to engines, accuracy and report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt import backends, networks
from cmx4trt.cli import main
from cmx4trt.errors import ModelError, RequestError
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.base import AccuracyTarget, Network
from cmx4trt.requests.build import BuildRequest

Run = Callable[..., tuple[int, str, dict[str, Any]]]
CLASSES = 10
IMAGES = 12


@pytest.fixture
def throwaway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """The network of docs/how-to/network.md."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "data" / "throwaway")
    found: tuple[Network, ...] = import_module("throwaway_network").NETWORKS
    with networks.registered(*found):
        yield found[0]
    sys.modules.pop("throwaway_network")


@pytest.fixture
def model(model_from_text: Callable[[str], Model]) -> Model:
    """As an exporter writes it: batch 1, softmax at the end."""
    found = model_from_text("""
        small (float[1, 3, 32, 32] image) => (float[1, 10] probabilities) {
            c1 = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
            r1 = Relu (c1)
            c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r1, w2, b2)
            r2 = Relu (c2)
            c3 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r2, w3, b3)
            r3 = Relu (c3)
            pooled = GlobalAveragePool (r3)
            flat = Flatten (pooled)
            scores = Gemm <transB = 1> (flat, w4, b4)
            probabilities = Softmax (scores)
        }""")
    generator = np.random.default_rng(2)
    shapes = {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "w3": (64, 32, 3, 3), "w4": (CLASSES, 64)}
    for name, shape in shapes.items():
        weight = generator.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
        found.graph.initializers[name] = Tensor.from_numpy(name, weight.astype(np.float32))
        bias = f"b{name[1:]}"
        found.graph.initializers[bias] = Tensor.from_numpy(bias, np.zeros(shape[0], np.float32))
    return found


@pytest.fixture
def model_file(model: Model, tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(encode_model(model, None).message)
    return path


@pytest.fixture
def images(model: Model, tmp_path: Path) -> Path:
    """Preprocessed images whose labels are what the model says of them, but for the last."""
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    folder = tmp_path / "images"
    folder.mkdir()
    session, generator = OnnxRuntimeSession.from_graph(encode_model(model)), np.random.default_rng(4)
    lines = []
    for number in range(IMAGES):
        image = generator.standard_normal((3, 32, 32)).astype(np.float32)
        np.save(folder / f"{number:02}.npy", image)
        label = int(session.run({"image": image[None]})["probabilities"].argmax())
        lines.append(f"{number:02}.png {label if number < IMAGES - 1 else (label + 1) % CLASSES}\n")
    (folder / "val_map.txt").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_from_its_file_to_engine_accuracy_and_report(
    tensorrt_rtx: str,
    throwaway: Network,
    model_file: Path,
    images: Path,
    cmx4trt: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = f"--result={tmp_path / 'result.json'}"
    calibration = [f"--calibration_data={images}", "--calibration_count=8"] if precision == "int8" else []
    options = (
        "--network=throwaway",
        f"--model={model_file}",
        f"--precision={precision}",
        "--batch_size=4",
        *calibration,
    )
    code, text, built = cmx4trt("build", *options, f"--output_dir={tmp_path / 'engines'}", result)
    assert code == 0, text
    assert (built["exports"]["MODEL"], built["exports"]["VERIFIED"]) == ("throwaway", "yes")
    engine = Path(built["exports"]["FILE_WITH_PATH"])
    assert engine.name.startswith("throwaway")
    code, text, _ = cmx4trt("inspect", engine)
    assert code == 0
    assert "Throw-away classifier" in text

    logs = tmp_path / "logs"
    flags = (engine, f"--data={images}", f"--log_dir={logs}", "--execute=graph", result)
    code, text, found = cmx4trt("verify", *flags)
    assert code == 0, text
    accuracy = {name: value for name, value in found["exports"].items() if name.startswith("ACCURACY")}
    share = float(accuracy.pop("ACCURACY_VALUE"))
    assert accuracy == {"ACCURACY_METRIC": "top-1", "ACCURACY_IMAGES": str(IMAGES), "ACCURACY_VERDICT": "none"}
    assert share == pytest.approx(100 * (IMAGES - 1) / IMAGES, abs=0.01 if precision == "fp16" else 20)
    assert "there is no target for this network" in text

    code, text, found = cmx4trt("bench", engine, "--execute=graph", "--count=64", f"--log_dir={logs}", result)
    assert code == 0, text
    assert found["exports"]["VALID"] == "yes"
    report = tmp_path / "report.html"
    code, text, _ = cmx4trt("report", engine, f"--html={report}")
    assert code == 0, text
    assert "Throw-away classifier" in report.read_text()


def test_a_target_gives_a_verdict(throwaway: Network) -> None:
    from cmx4trt.verify.accuracy import accuracy_of

    throwaway.accuracy = AccuracyTarget(
        reference=90.0, images=IMAGES, share=0.5
    )  # of an instance that goes with its module
    assert accuracy_of(throwaway, 45.0, IMAGES, True).verdict == "passed"
    assert accuracy_of(throwaway, 44.9, IMAGES, True).verdict == "failed"


def test_help_and_refusals_know_it(throwaway: Network, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    assert "throwaway" in capsys.readouterr().out
    with pytest.raises(RequestError, match="resnet50, retinanet, throwaway"):
        BuildRequest.from_values({"network": "othernet"})
    with pytest.raises(RequestError, match="postprocess is for retinanet, not throwaway; leave it out"):
        BuildRequest.from_values({"network": "throwaway", "postprocess": "none"})


def test_it_has_no_generator_of_random_weights(throwaway: Network) -> None:
    with pytest.raises(RequestError, match="Throw-away classifier has no generator of random weights; give its file"):
        networks.model_from_seed("throwaway", 1)


def test_another_networks_file_is_refused(
    throwaway: Network, resnet50_file: Path, tmp_path: Path, cmx4trt: Run
) -> None:
    flags = ("--network=throwaway", f"--model={resnet50_file}", f"--output_dir={tmp_path}")
    code, text, _ = cmx4trt("build", *flags)
    assert code == ModelError.exit_code
    assert "need [N, 3, 32, 32]" in text


@pytest.mark.parametrize("builder", [backend.name for backend in backends.all_backends() if backend.networks])
def test_a_backend_that_cannot_build_it_says_so(throwaway: Network, builder: str) -> None:
    values = {"network": "throwaway", "builder": builder, "device": "cuda", "precision": "int8"}
    device = next(iter(backends.backend_of(builder).devices))
    with pytest.raises(
        RequestError, match=f"network is throwaway, expected resnet50.* with the builder {builder}; use"
    ):
        BuildRequest.from_values({**values, "device": device})


def test_it_is_gone_again() -> None:
    assert networks.names() == ("resnet50", "retinanet")
