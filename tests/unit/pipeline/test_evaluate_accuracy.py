"""Accuracy through LoadGen: from images and labels to the figure and its verdict."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends import registered
from cmx4trt.backends.null import NullBackend
from cmx4trt.base.verdicts import PASSED
from cmx4trt.errors import MissingSoftwareError, VerificationError
from cmx4trt.networks.base import AccuracyTarget
from cmx4trt.pipeline.build import build
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.null import NullSession

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
Run = Callable[..., tuple[int, str, dict[str, Any]]]


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
    from cmx4trt.networks import model_from_seed
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    session = OnnxRuntimeSession.from_bytes(encode_model(model_from_seed("resnet50", 3), None).message)
    batch = np.stack([np.load(images / f"val_{number}.JPEG.npy") for number in range(6)])
    return dict(enumerate(session.run({session.inputs[0]: batch})["logits"].argmax(1) - 1))


@pytest.mark.slow
def test_detections_reach_the_accuracy_log_and_pycocotools(cmx4trt: Run, tmp_path: Path) -> None:
    """The graph is what runs, so that nothing has to be built."""
    values = {"network": "retinanet", "random_weights": 2, "precision": "fp32", "verify": False, "builder": "null"}
    images = np.random.default_rng(3).normal(0, 1, (2, 3, 800, 800)).astype(np.float32)
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    for number, image in enumerate(images):
        image.tofile(data / f"{number}.raw")
    listed = [{"id": 5 + n, "file_name": f"{n}.jpg", "height": 400, "width": 600} for n in range(2)]
    object_ = {"id": 1, "image_id": 5, "category_id": 3, "bbox": [1, 1, 50, 50], "area": 2500, "iscrowd": 0}
    annotations = {"images": listed, "annotations": [object_], "categories": [{"id": 3, "name": "three"}]}
    (data / "annotations" / "openimages-mlperf.json").write_text(json.dumps(annotations))
    with registered(NullBackend()):
        detector = build(BuildRequest.from_values({**values, "output_dir": str(tmp_path / "engines")})).engine
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
    from cmx4trt.base.progress import Silent
    from cmx4trt.graph.execution import open_prepared
    from cmx4trt.networks import spec_of
    from cmx4trt.networks.retinanet.detections import detections_from_outputs
    from cmx4trt.pipeline.prepare import prepare
    from cmx4trt.pipeline.source import source_of_request

    request = BuildRequest.from_values({"network": "retinanet", "random_weights": 2, "precision": "fp32"})
    session = open_prepared(prepare(request, source_of_request(request), Silent()).graph)
    return [
        detections_from_outputs(session.run({"input": image[None]}), spec_of("retinanet").details)[0]
        for image in images
    ]


def test_verify_checks_so_many_images_as_it_is_told(
    cmx4trt: Run, engine: Path, images: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    agreed = SimpleNamespace(verdict=PASSED, sentence=lambda: "they agree")
    stand_in("resnet50", compare=lambda *_: agreed)  # to compare takes seconds, and is tested above
    flags = (f"--data={images}", "--count=2", f"--log_dir={tmp_path}", "--execute=graph")
    code, text, result = cmx4trt("verify", engine, *flags)
    assert code == 0, text
    assert result["exports"]["ACCURACY_IMAGES"] == "2"


def test_missing_labels_are_found_out_before_the_run(cmx4trt: Run, engine: Path, images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "val_0.JPEG.npy", tmp_path)
    code, _, result = cmx4trt("verify", engine, f"--data={tmp_path}")
    assert code == 8
    assert "give the label file with --labels" in result["error"]


def test_a_verdict_needs_an_answer_for_every_image(
    cmx4trt: Run, engine: Path, images: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    """user.conf can make LoadGen ask for fewer images than there are."""
    stand_in("tensorrt-rtx", open_session=lambda engine: NullSession(4))
    stand_in("resnet50", accuracy=AccuracyTarget(76.456, 6))
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
    cmx4trt: Run, detector: Path, two_photographs: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (pip install 'cmx4trt[bench]')")
    stand_in("tensorrt-rtx", open_session=lambda engine: NothingFound(4))
    flags = ("--mode=accuracy", f"--data={two_photographs}", f"--log_dir={tmp_path / 'logs'}")
    code, text, result = cmx4trt("bench", detector, *flags, "--count=1")
    assert code == 0, text
    assert "there is no ground truth" in text
    exports = {name: value for name, value in result["exports"].items() if name.startswith("ACCURACY")}
    assert exports == {"ACCURACY_IMAGES": "1", "ACCURACY_VERDICT": "none"}
    code, text, result = cmx4trt("bench", detector, *flags)
    assert (code, result["exports"]["ACCURACY_VALUE"]) == (0, "0.0"), text


def test_missing_pycocotools_is_found_out_before_the_run(
    cmx4trt: Run,
    detector: Path,
    two_photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stand_in: Callable[..., None],
) -> None:
    stand_in("tensorrt-rtx", open_session=lambda engine: NothingFound(4))
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    flags = (f"--data={two_photographs}", f"--log_dir={tmp_path / 'logs'}")
    code, _, result = cmx4trt("bench", detector, "--mode=accuracy", *flags)
    assert code == MissingSoftwareError.exit_code
    assert "pycocotools cannot be imported" in result["error"]
    assert not (tmp_path / "logs").exists()
