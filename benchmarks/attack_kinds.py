"""The kinds of files that attacks.py damages: a valid file, how the package reads it, and an independent reader to compare
with."""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference

from cmx4trt.backends.hopper.choices import Choices, Table, choices_of
from cmx4trt.base.progress import Silent
from cmx4trt.bench.datasets import open_folder
from cmx4trt.bench.labels import listed_images
from cmx4trt.bench.results import read_detail_log
from cmx4trt.bench.user_conf import KEYS, read_user_conf
from cmx4trt.cli.build import _read_request
from cmx4trt.cli.evaluations import read_evaluations
from cmx4trt.errors import CmxError, VerificationError
from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.passes import drop_identities, lift_constants
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD, InputForm
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks import model_from_seed, network_of, spec_of
from cmx4trt.networks.classification.accuracy import top1_of_answers
from cmx4trt.networks.graphs import network_from_model, valid_graph
from cmx4trt.networks.retinanet.annotations import read_annotations
from cmx4trt.pipeline.published import read_published
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.quantize.bias import mean_channels
from cmx4trt.quantize.calibration import ranges_from_content
from cmx4trt.quantize.observe import Method, Wanted, _range_observer, _resume, observe
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.random_samples import RandomSamples
from cmx4trt.quantize.ranges import Ranges, digest_of_model
from cmx4trt.quantize.samples import open_samples
from cmx4trt.quantize.tensorrt_cache import encode_cache, parse_cache
from cmx4trt.report.facts import facts_of_engine
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import PERFORMANCE
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession
from cmx4trt.store.manifest import Manifest
from cmx4trt.verify.accuracy import read_accuracy_log

RESNET = spec_of("resnet50")
IMAGES = InputForm(IMAGENET_MEAN, IMAGENET_STD)


class Kind(ABC):
    """A kind of file; ``path`` is rewritten for every case."""

    slowness = 1
    """The number of cases is divided by this."""
    path: Path

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """Write the valid file below ``folder``."""

    @abstractmethod
    def read(self) -> Any:
        """Read the file like the package. Raises CmxError."""

    @abstractmethod
    def check(self, content: bytes, value: Any) -> None:
        """Raises if ``value`` differs from an independent reading of ``content``."""

    def names_file(self, sentence: str) -> bool:
        """Whether an error names the file."""
        return str(self.path) in sentence


def _small_model() -> Model:
    """Convolution, batch normalization, Relu, pooling, matrix product on x [N, 3, 8, 8]."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "scale": (4,), "offset": (4,), "mean": (4,), "fc": (5, 4)}
    constants = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    constants["variance"] = rng.uniform(0.5, 1.5, 4).astype(np.float32)
    nodes = [
        Node("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]}, "conv"),
        Node("BatchNormalization", ["c", "scale", "offset", "mean", "variance"], ["b"], {"epsilon": 1e-5}, "norm"),
        Node("Relu", ["b"], ["r"], {}, "relu"),
        Node("GlobalAveragePool", ["r"], ["g"], {}, "pool"),
        Node("Flatten", ["g"], ["f"], {}, "flatten"),
        Node("Gemm", ["f", "fc"], ["y"], {"transB": 1}, "product"),
    ]
    tensors = {name: Tensor.from_numpy(name, values) for name, values in constants.items()}
    inputs, outputs = [ValueInfo("x", DType.FLOAT, ("N", 3, 8, 8))], [ValueInfo("y", DType.FLOAT, ("N", 5))]
    return Model(Graph("small", nodes, tensors, inputs, outputs), {"": 19}, 9)


class OnnxFile(Kind):
    """A small network: decoded, folded, run and verified against its own bytes in ONNX Runtime, like in a build; accepted files
    are compared with ONNX's reference evaluator."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.onnx"
        self.path.write_bytes(encode_model(_small_model(), None).message)
        self._image = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)

    def read(self) -> Any:
        request = BuildRequest.from_values({"model": str(self.path)})
        source = source_of_request(request)
        model = source.model()
        with valid_graph(request.graph_options()):
            lift_constants(model.graph)
            drop_identities(model.graph)
            fold_batch_norm(model.graph)
            original = OnnxRuntimeSession.from_bytes(self.path.read_bytes())
            prepared = OnnxRuntimeSession.from_graph(encode_model(model))
            expected, found = (session.run({session.inputs[0]: self._image}) for session in (original, prepared))
        if not all(_agree(expected[name], found.get(name)) for name in expected):
            raise VerificationError(f"the prepared graph of {self.path} disagrees with the original")
        return found

    def check(self, content: bytes, value: Any) -> None:
        model = onnx.load_model_from_string(content)
        with np.errstate(all="ignore"):
            reference = onnx.reference.ReferenceEvaluator(model)
            expected = reference.run(None, {model.graph.input[0].name: self._image})
        names = [info.name for info in model.graph.output]
        assert set(names) == value.keys()
        assert all(_agree(one, value[name]) for name, one in zip(names, expected, strict=True))


def _agree(one: Any, other: Any) -> bool:
    """Whether two arrays are equal up to rounding; NaN is never equal."""
    if other is None or one.shape != other.shape:
        return False
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-3 * float(np.abs(one).max(initial=0.0))))


class Resnet50File(Kind):
    """ResNet-50 with its weights in another file: every accepted file has the convolutions of ResNet-50."""

    slowness = 20

    def __init__(self, folder: Path) -> None:
        encoded = encode_model(model_from_seed("resnet50", 0), 1 << 16)
        self.path = folder / "resnet50.onnx"
        position, proto = 0, onnx.load_model_from_string(encoded.message)
        with (folder / "weights.bin").open("wb") as weights:
            for tensor in proto.graph.initializer:
                if tensor.name in encoded.constants:
                    data = encoded.constants[tensor.name].data
                    entries = {"location": "weights.bin", "offset": position, "length": len(data)}
                    del tensor.external_data[:]
                    for key, entry in entries.items():
                        tensor.external_data.add(key=key, value=str(entry))
                    position += weights.write(data)
        self.path.write_bytes(proto.SerializeToString())

    def read(self) -> Any:
        request = BuildRequest.from_values({"model": str(self.path)})
        return network_from_model(source_of_request(request).model(), RESNET, request.graph_options())

    def check(self, content: bytes, value: Any) -> None:
        onnx.load_model_from_string(content)
        assert sum(node.op_type == "Conv" for node in value.model.graph.nodes) == 53


class CalibrationImage(Kind):
    """A .npy file among calibration images."""

    _shape = (3, 4, 5)

    def __init__(self, folder: Path) -> None:
        self.path = folder / "image.npy"
        np.save(self.path, np.random.default_rng(0).standard_normal((2, *self._shape)).astype(np.float32))

    def read(self) -> Any:
        samples = open_samples(str(self.path), self._shape)
        samples.digest(Silent())
        return np.concatenate([samples.read(index) for index in range(len(samples))])

    def check(self, content: bytes, value: Any) -> None:
        assert np.isfinite(value).all()
        assert value.shape[1:] == self._shape
        raw = np.frombuffer(content, "<f4") if content[:6] != b"\x93NUMPY" else np.load(io.BytesIO(content))
        assert np.array_equal(value.reshape(-1), raw.astype(np.float32).reshape(-1))


class DatasetImage(Kind):
    """A .npy file of a preprocessed data set."""

    slowness = 2

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "data"
        self._folder.mkdir()
        self.path = self._folder / "a.npy"
        np.save(self.path, np.random.default_rng(0).standard_normal(RESNET.input_shape).astype(np.float32))

    def read(self) -> Any:
        images = open_folder(network_of("resnet50"), IMAGES, str(self._folder), None, None)
        out = np.empty(RESNET.input_shape, np.float32)
        images.read(0, out)
        return out

    def check(self, content: bytes, value: Any) -> None:
        raw = np.frombuffer(content, "<f4") if content[:6] != b"\x93NUMPY" else np.load(io.BytesIO(content))
        assert np.array_equal(value.reshape(-1), raw.reshape(-1), equal_nan=True)


class CalibrationState(Kind):
    """The checkpoint of an interrupted calibration: with any bit damaged it is ignored."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.state"
        self._tensors = ("x", "r")
        model = _small_model()
        with contextlib.suppress(KeyboardInterrupt):
            observe(model, Wanted(self._tensors, {}), _Interrupted(), Method.MINMAX, Silent(), str(self.path))
        self._good = self.path.read_bytes()

    def read(self) -> Any:
        observer = _range_observer(Method.MINMAX, Wanted(self._tensors, {}))
        return _resume((observer,), str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        assert value == (3 if content == self._good else 0)


class _Interrupted(RandomSamples):
    def __init__(self) -> None:
        super().__init__((3, 8, 8), 6)

    def read(self, index: int) -> Any:
        if index == 3:
            raise KeyboardInterrupt
        return super().read(index)


class RangesFile(Kind):
    """Our JSON of ranges."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ranges.json"
        self._model = _small_model()
        fold_batch_norm(self._model.graph)
        self._placement = place(self._model.graph)
        scales = dict.fromkeys(self._placement.activations, 0.0123)
        channels = mean_channels(self._model.graph, self._placement)
        means = {name: np.ones(count, np.float32) for name, count in channels.items()}
        ranges = Ranges(scales, digest_of_model(self._model), "d" * 64, "mse", 8, means)
        self.path.write_text(ranges.to_json())

    def read(self) -> Any:
        return ranges_from_content(
            self.path.read_bytes(),
            f"calibration_cache {self.path}",
            CanonicalGraph(self._model, RESNET),
            self._placement,
        )[0]

    def check(self, content: bytes, value: Any) -> None:
        found = json.loads(content.decode("utf-8", errors="replace"))["scales"]
        assert all(0 <= scale < float("inf") for scale in value.scales.values())
        assert {name: np.float32(scale) for name, scale in found.items()} == dict(value.scales)
        channels = mean_channels(self._model.graph, self._placement)
        assert all(len(mean) == channels.get(name, len(mean)) for name, mean in value.means.items())


class TensorrtCache(Kind):
    """TensorRT's calibration cache."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "calibrator.cache"
        self.path.write_bytes(encode_cache({f"layer {i}: out": 0.5 + i / 8 for i in range(40)}))

    def read(self) -> Any:
        return parse_cache(self.path.read_bytes(), f"calibration_cache {self.path}").scales

    def check(self, content: bytes, value: Any) -> None:
        lines = [line.rstrip() for line in content.decode("utf-8", "replace").splitlines()[1:] if line.strip()]
        expected = {line[:-10]: struct.unpack(">f", bytes.fromhex(line[-8:]))[0] for line in lines}
        assert expected == value
        assert all(0 <= scale < float("inf") for scale in value.values())


class CalibrationList(Kind):
    """A text file of image names."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "list.txt"
        self._folder = folder / "images"
        self._folder.mkdir()
        for index in range(30):
            np.save(self._folder / f"image{index:02}.npy", np.zeros((1, 2, 2), np.float32))
        self.path.write_text("".join(f"image{index:02}.JPEG {index}\n" for index in range(30)))

    def read(self) -> Any:
        return open_samples(str(self._folder), (1, 2, 2), str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        assert len(value) == sum(bool(line.strip()) for line in content.decode().splitlines(keepends=True))


class ManifestFile(Kind):
    """A manifest: shown, used for a report, and read to run its engine."""

    def __init__(self, folder: Path) -> None:
        engine = folder / "e.plan"
        engine.write_bytes(b"an engine")
        self.path = folder / "e.json"
        request = BuildRequest.from_values({"random_weights": 1})
        network = {"title": RESNET.title, "outputs": [{"name": "logits", "dtype": "float", "shape": ["N", 1000]}]}
        layer = {"name": "conv", "op": "Conv", "precision": "fp16", "shape": [64, 112, 112], "input_scale": 0.5}
        sizes = {"macs": 118013952, "weight_bytes": 18816, "activation_bytes": 1605632}
        graph = {"message_sha256": "0" * 64, "layers": [{**layer, **sizes}], "constant_bytes": 5, "quantization": None}
        manifest = Manifest.from_dict(
            {
                "fingerprint": "f" * 64,
                "parts": {"builder.name": "tensorrt-rtx", "source": "seed:1"},
                "engine": {"file": "e.plan", "bytes": 9, "sha256": _sha256(b"an engine")},
                "request": request.to_dict(),
                "source": {"kind": "random-weights", "seed": 1},
                "network": network,
                "builder": {"name": "tensorrt-rtx", "version": "1.7.1", "warnings": []},
                "graph": graph,
                "verification": {"verdict": "passed", "method": "m", "relative_l2": 1e-6},
                "execution": {"engine_executed_on_a_device": "no"},
                "stages": {"build": 1.5},
                "created": "2026-01-01T00:00:00+00:00",
                "tool": {"cmx4trt": "0.1.0", "python": "3.11"},
            }
        )
        self.path.write_text(manifest.to_json())

    def read(self) -> Any:
        from cmx4trt.cli import main

        facts = facts_of_engine(str(self.path))
        facts.to_dict()
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            codes = [main(["inspect", str(self.path)]), main(["report", "--json", str(self.path)])]
        assert set(codes) <= {0, 3}, f"exit codes {codes}"
        return out.getvalue(), read_published(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        text, engine = value
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), "commands a terminal"
        written = json.loads(content)
        assert written["engine"]["sha256"] == _sha256(b"an engine")
        assert engine.request.batch_size == int(written["request"]["batch_size"])

    def names_file(self, sentence: str) -> bool:
        return str(self.path.parent) in sentence  # or names the engine that it describes


class RequestFile(Kind):
    """The options of a build."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "request.json"
        self.path.write_text(json.dumps(BuildRequest.from_values({"random_weights": 1, "batch_size": 16}).to_dict()))

    def read(self) -> Any:
        values = _read_request(str(self.path))
        try:
            return BuildRequest.from_values(values)
        except CmxError as error:  # the conflict could be with a flag, so the error names options
            raise type(error)(f"{self.path}: {error}") from error

    def check(self, content: bytes, value: Any) -> None:
        written = json.loads(content)
        assert value.batch_size == int(written.get("batch_size") or 1)


class EvaluationFile(Kind):
    """The evaluations after a build."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "evaluation.json"
        values = {"count": 100, "scenario": "Server", "target_qps": 120.5, "data": "synthetic", "duration": "60"}
        self.path.write_text(json.dumps({"verify": {"count": 10}, "bench": values}, indent=1))

    def read(self) -> Any:
        return read_evaluations(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        assert value.keys() == json.loads(content).keys()
        assert all(1 <= (options.count or 1) <= 10**9 for options in value.values())


class ResultFile(Kind):
    """A LoadGen result beside an engine; the page names unreadable ones."""

    def __init__(self, folder: Path) -> None:
        self._manifest = ManifestFile(folder)
        self.path = folder / "e.results" / "cmx4trt_result.json"
        self.path.parent.mkdir()
        metric = {"name": "samples_per_second", "value": 101.25, "unit": "samples/s"}
        result = {"schema": "cmx4trt-bench/1", "status": "complete", "scenario": "Offline", "mode": "performance"}
        subject = {"engine sha256": _sha256(b"an engine"), "network": "resnet50"}
        latency = {"50.00": 1000000, "99.00": 2500000}
        rest = {"executed": "x", "valid": True, "metric": metric, "latency_ns": latency, "subject": subject}
        self.path.write_text(json.dumps({**result, **rest}, indent=1))

    def read(self) -> Any:
        facts = facts_of_engine(str(self._manifest.path))
        facts.to_dict()
        return facts

    def check(self, content: bytes, value: Any) -> None:
        assert len(value.runs) + len(value.unreadable_runs) == 1
        if value.runs:
            assert json.loads(content)["schema"] == "cmx4trt-bench/1"


class DetailLog(Kind):
    """LoadGen's detail log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mlperf_log_detail.txt"
        values = {"result_query_count": 10, "result_samples_per_second": 12.5, "result_validity": "VALID"}
        entry = ':::MLLOG {{"key": "{}", "value": {}, "metadata": {{"is_error": false, "is_warning": false}}}}\n'
        self.path.write_text("".join(entry.format(key, json.dumps(value)) for key, value in values.items()))

    def read(self) -> Any:
        return read_detail_log(str(self.path.parent), PERFORMANCE)

    def check(self, content: bytes, value: Any) -> None:
        assert b"result_validity" in content
        assert "result_validity" in value.values


class AccuracyLog(Kind):
    """LoadGen's accuracy log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mlperf_log_accuracy.json"
        entries = [{"seq_id": i, "qsl_idx": i, "data": struct.pack("<i", i % 7).hex().upper()} for i in range(30)]
        self.path.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]")

    def read(self) -> Any:
        return read_accuracy_log(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        written = {entry["qsl_idx"]: bytes.fromhex(entry["data"]) for entry in reversed(json.loads(content))}
        assert written == value
        assert min(value) >= 0
        with contextlib.suppress(CmxError):
            assert 0 <= top1_of_answers(value, [0] * 30) <= 100


class UserConf(Kind):
    """MLPerf's user.conf."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "user.conf"
        lines = ["# comment", "*.Offline.target_qps = 100.5", "resnet50.Server.target_latency = 15"]
        lines += ["*.*.min_duration = 60000", "resnet50.Offline.min_query_count = 24576", "*.Server.target_qps = 1e3"]
        self.path.write_text("\n".join(lines) + "\n")

    def read(self) -> Any:
        return read_user_conf(str(self.path), "resnet50", "Offline")

    def check(self, content: bytes, value: Any) -> None:
        for key, number in value.items():
            takes = KEYS[key]["Offline"]
            assert takes.least <= float(number) <= takes.most
            assert re.search(
                rf"(?:\*|resnet50)\.(?:\*|Offline)\.{key}\s+=\s+{re.escape(number)}(?!\S)", content.decode()
            )


class LabelFile(Kind):
    """val_map.txt."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "val_map.txt"
        self._names = [f"ILSVRC2012_val_{index:08}" for index in range(30)]
        self.path.write_text("".join(f"{name}.JPEG {index * 33}\n" for index, name in enumerate(self._names)))

    def read(self) -> Any:
        return listed_images(network_of("resnet50"), str(self.path.parent), str(self.path), self._names)

    def check(self, content: bytes, value: Any) -> None:
        lines = [line.split() for line in content.decode("utf-8-sig").split("\n") if line.strip()]
        assert [int(line[-1]) for line in lines] == [image.label for image in value]
        assert all(0 <= image.label < 1000 for image in value)


class AnnotationFile(Kind):
    """Annotations in COCO's format."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "openimages-mlperf.json"
        boxes = [
            {"id": i, "image_id": i % 5, "category_id": i % 3, "bbox": [1, 2, 30.5, 40], "iscrowd": 0} for i in range(9)
        ]
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 120} for i in range(5)]
        content = {
            "categories": [{"id": i, "name": str(i)} for i in range(3)],
            "images": images,
            "annotations": [{**box, "area": 1220.0} for box in boxes],
        }
        self.path.write_text(json.dumps(content, indent=1))

    def read(self) -> Any:
        return read_annotations(str(self.path), 3)

    def check(self, content: bytes, value: Any) -> None:
        from pycocotools.coco import COCO

        assert json.loads(content.decode("utf-8-sig")) == value
        truth = COCO()
        truth.dataset = value
        truth.createIndex()
        assert all(truth.imgs[box["image_id"]]["width"] > 0 for box in truth.anns.values())


class KernelChoices(Kind):
    """The table of measured kernels that cmx4trt tune writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kernels.json"
        rows = {
            "classifier 2048->1000": {"streamed-128-6": 0.5, "split-2": 0.25},
            "3x3/1 128->128 at 28": {"halo": 0.125},
        }
        self.path.write_text(Choices("NVIDIA H100", {1: Table(rows), 64: Table(rows)}).to_json())

    def read(self) -> Any:
        return choices_of(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        written = json.loads(content.decode())
        assert {int(batch): table for batch, table in written["milliseconds"].items()} == {
            batch: table.milliseconds for batch, table in value.tables.items()
        }
        assert [last for _, last, _ in value.ranges(4096)][-1] == 4096
        for table in value.tables.values():
            assert all(0 <= ms < float("inf") for row in table.milliseconds.values() for ms in row.values())


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


KINDS: dict[str, type[Kind]] = {
    "onnx": OnnxFile,
    "onnx-resnet50": Resnet50File,
    "npy-calibration": CalibrationImage,
    "npy-data-set": DatasetImage,
    "calibration-state": CalibrationState,
    "ranges": RangesFile,
    "tensorrt-cache": TensorrtCache,
    "calibration-list": CalibrationList,
    "kernel-choices": KernelChoices,
    "manifest": ManifestFile,
    "request": RequestFile,
    "evaluation": EvaluationFile,
    "loadgen-result": ResultFile,
    "loadgen-detail-log": DetailLog,
    "loadgen-accuracy-log": AccuracyLog,
    "user-conf": UserConf,
    "labels": LabelFile,
    "annotations": AnnotationFile,
}
"""Name on the command line -> kind."""
