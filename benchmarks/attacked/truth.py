"""Preprocessed images and their ground truth."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from attacked.base import Kind
from cmx4trt.bench.datasets import open_folder
from cmx4trt.bench.labels import listed_images
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD, InputForm
from cmx4trt.networks import network_of, spec_of
from cmx4trt.networks.retinanet.annotations import read_annotations

RESNET = spec_of("resnet50")
IMAGES = InputForm(IMAGENET_MEAN, IMAGENET_STD)


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
