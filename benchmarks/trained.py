"""Networks that train_resnet50.py and train_retinanet.py wrote, their held-out images, and how right their answers are."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import textured_objects
import textures
from onnx import numpy_helper

from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.graphs import network_from_model
from cmx4trt.networks.retinanet.accuracy import map_of_answers
from cmx4trt.networks.retinanet.details import Detector
from cmx4trt.networks.retinanet.detections import RECORD, Detections, detections_from_outputs
from cmx4trt.networks.retinanet.heads_compared import class_priors
from cmx4trt.networks.retinanet.matching import found_again
from cmx4trt.networks.retinanet.onnx_import import network_from_detector
from cmx4trt.networks.retinanet.random_weights import Topology
from cmx4trt.networks.retinanet.spec import Body, DetectorSpec
from cmx4trt.requests.build import BuildRequest

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]

CALIBRATION_SEED = 22
"""A series other than the held-out and the training images."""


@dataclass(frozen=True)
class Answer:
    """One image's: energy of the reference's outputs and of the error, and what is counted: a class, or detections."""

    signal: float
    error: float
    found: Any

    @property
    def sqnr(self) -> float:
        """In dB; at most 150, what float32 can tell."""
        return float(10 * np.log10(self.signal / max(self.error, self.signal * 1e-15)))


class Trained(ABC):
    """A trained network: see ``TrainedClassifier`` and ``TrainedDetector``."""

    kind: str
    folder: Path
    facts: dict[str, Any]
    columns: tuple[str, str]
    """What ``scores`` are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.facts = json.loads((folder / f"{self.kind}.json").read_text())

    @abstractmethod
    def network(self) -> CanonicalGraph:
        """The canonical float32 network (batch normalization folded), a new one each time."""

    @abstractmethod
    def images(self, seed: int, start: int, count: int, noise: float) -> tuple[Array, list[Any]]:
        """The network's inputs [count, 3, H, W], and what is in each image."""

    @abstractmethod
    def answers(self, expected: Outputs, got: Outputs) -> list[Answer]:
        """For each image of a batch."""

    @abstractmethod
    def scores(self, reference: list[Answer], answers: list[Answer], truth: list[Any]) -> tuple[float, float]:
        """See ``columns``."""


class TrainedClassifier(Trained):
    """ResNet-50 of train_resnet50.py."""

    kind = "resnet50"
    columns = ("top-1", "same class as FP32")

    def network(self) -> CanonicalGraph:
        options = BuildRequest.from_values({"precision": "fp32"}).graph_options()
        return network_from_model(decode_model(joined_model(self.folder)), spec_of("resnet50"), options)

    def images(self, seed: int, start: int, count: int, noise: float) -> tuple[Array, list[Any]]:
        images, labels = textures.held_out(seed, start, count, noise)
        return textures.preprocess(images, self.facts.get("std", 1.0)), list(labels % self.facts["classes"])

    def answers(self, expected: Outputs, got: Outputs) -> list[Answer]:
        signal, error = _energies(expected["logits"]), _energies(got["logits"] - expected["logits"])
        return [Answer(*found) for found in zip(signal, error, got["logits"].argmax(1), strict=True)]

    def scores(self, reference: list[Answer], answers: list[Answer], truth: list[Any]) -> tuple[float, float]:
        found, expected = (np.array([answer.found for answer in some]) for some in (answers, reference))
        return float((found == np.array(truth)).mean()), float((found == expected).mean())


class TrainedDetector(Trained):
    """RetinaNet of train_retinanet.py. The energies are those of the class logits without their prior."""

    kind = "retinanet"
    columns = ("mAP, %", "same detections as FP32")

    @cached_property
    def _network(self) -> CanonicalGraph:
        model = decode_model((self.folder / "retinanet.onnx").read_bytes())
        body = Body(**{**self.facts["body"], "blocks": tuple(self.facts["body"]["blocks"])})
        spec = Topology(self.facts["size"], body, DetectorSpec(classes=self.facts["classes"])).spec()
        options = BuildRequest.from_values({"network": "retinanet", "precision": "fp32"}).graph_options()
        return network_from_detector(model, spec, options)

    def network(self) -> CanonicalGraph:
        own = self._network
        return CanonicalGraph(own.model.copy(), own.spec, own.details, dict(own.notes))

    def images(self, seed: int, start: int, count: int, noise: float) -> tuple[Array, list[Any]]:
        images, truth = textured_objects.held_out(seed, start, count, self.facts["size"], self.facts["classes"], noise)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (images.astype(np.float32) / 255 - mean) / std, list(truth)

    def answers(self, expected: Outputs, got: Outputs) -> list[Answer]:
        detector = self._network.details
        assert isinstance(detector, Detector)
        heads = [name for name in expected if name.startswith("cls_")]
        priors = class_priors(self._network.model.graph, heads)
        said = [expected[name] - priors[name].reshape(1, -1, 1, 1) for name in heads]
        signal = np.sum([_energies(values) for values in said], axis=0)
        error = np.sum([_energies(got[name] - expected[name]) for name in heads], axis=0)
        found = detections_from_outputs(got, detector.spec, True, detector)
        return [Answer(*one) for one in zip(signal, error, found, strict=True)]

    def scores(self, reference: list[Answer], answers: list[Answer], truth: list[Any]) -> tuple[float, float]:
        counts = np.array([found_again([r.found], [a.found]) for r, a in zip(reference, answers, strict=True)])
        again, expected = counts.sum(axis=0)
        precision = mean_average_precision([answer.found for answer in answers], truth, self.facts)
        return precision, float(again / max(expected, 1))


def holds_network(folder: Path) -> bool:
    """Whether one of the two programs wrote a network there."""
    return any((folder / f"{kind.kind}.json").exists() for kind in (TrainedClassifier, TrainedDetector))


@lru_cache
def read_trained(folder: Path) -> Trained:
    """The network in a folder, read once in a process. Ends the program where there is none."""
    for kind in (TrainedClassifier, TrainedDetector):
        if (folder / f"{kind.kind}.json").exists():
            return kind(folder)
    sys.exit(f"{folder} contains no trained network; run train_resnet50.py or train_retinanet.py first")


def joined_model(folder: Path) -> bytes:
    """The ONNX file of train_resnet50.py's parts, without the Casts after its float16 weights."""
    parts = sorted(folder.glob("resnet50.onnx.*"))
    if not parts:
        sys.exit(f"{folder} contains no resnet50.onnx.000; run train_resnet50.py first")
    proto = onnx.load_from_string(b"".join(part.read_bytes() for part in parts))
    halves = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name.endswith(".half")}
    for node in [n for n in proto.graph.node if n.op_type == "Cast" and n.input[0] in halves]:
        values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        halves[node.input[0]].CopyFrom(numpy_helper.from_array(values, node.output[0]))
        proto.graph.node.remove(node)
    return bytes(proto.SerializeToString())


def mean_average_precision(found: list[Detections], truth: list[Any], facts: dict[str, Any]) -> float:
    """COCO's, in percent, over IoU 0.50 … 0.95."""
    size, objects = facts["size"], []
    for image, (boxes, labels) in enumerate(truth):
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            sides = [x1, y1, x2 - x1, y2 - y1]
            objects.append({"image_id": image, "category_id": label, "bbox": sides, "area": sides[2] * sides[3]})
    annotations = {
        "images": [{"id": index, "width": size, "height": size} for index in range(len(truth))],
        "categories": [{"id": label} for label in range(facts["classes"])],
        "annotations": [{**one, "id": number, "iscrowd": 0} for number, one in enumerate(objects, 1)],
    }
    answers = {index: _record(one, index, size) for index, one in enumerate(found)}
    return map_of_answers(answers, annotations, range(len(truth))) or 0.0


def _record(found: Detections, image: int, size: int) -> bytes:
    """MLPerf's records of an image's detections."""
    rows = np.empty((len(found), RECORD), np.float32)
    rows[:, 0] = image
    rows[:, 1:5] = found.boxes[:, [1, 0, 3, 2]] / np.float32(size)
    rows[:, 5], rows[:, 6] = found.scores, found.labels
    return rows.tobytes()


def _energies(values: Array) -> Array:
    """Of each image [N]."""
    total: Array = np.square(values.reshape(len(values), -1), dtype=np.float64).sum(axis=1)
    return total
