"""Which images a data set consists of, in which order, and what is true of them: label files and annotation files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmx4trt.errors import DataError
from cmx4trt.models.spec import ModelSpec, Task

LABEL_FILES = {
    Task.CLASSIFICATION: "val_map.txt",
    Task.DETECTION: os.path.join("annotations", "openimages-mlperf.json"),
}
"""Where CM's preprocessed folders hold the truth, unless a file is named."""

IMAGE_EXTENSIONS = (".npy", ".rgb32", ".raw", ".bin")
"""What CM's preprocessors append to an image's name, or put in place of its extension."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A label file, ``path``; for image i its class ``labels[i]``, or its place among the file's images ``positions[i]``."""

    path: str
    labels: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image as the label file has it: its name without extension, and its class or its position there."""

    source: str
    name: str
    label: int | None
    position: int


def listed_images(spec: ModelSpec, folder: str, label_file: str | None, names: Sequence[str]) -> list[ListedImage]:
    """The images of the label file, in its order; without one, those of the folder by name."""
    path = label_file or os.path.join(folder, LABEL_FILES[spec.task])
    if not os.path.isfile(path):
        if label_file is not None:
            raise DataError(
                f"label file {path} does not exist; give {LABEL_FILES[spec.task]} of the data set with --labels"
            )
        return [ListedImage("", name, None, position) for position, name in enumerate(names)]
    if spec.task is Task.DETECTION:
        return _images_of_annotations(path)
    return _images_of_class_list(path, names)


def _images_of_class_list(path: str, names: Sequence[str]) -> list[ListedImage]:
    """Lines 'NAME CLASS'; or 'CLASS' alone, then one for each file, in the order of the files' names."""
    with open(path, encoding="utf-8") as stream:
        rows = [line.split() for line in stream if line.strip()]
    if rows and all(len(row) == 1 and row[0].isdigit() for row in rows):
        if len(rows) != len(names):
            raise DataError(
                f"label file {path} has {len(rows)} classes, expected {len(names)}, one for each image file"
            )
        rows = [[name, row[0]] for name, row in zip(names, rows, strict=True)]
    listed: list[ListedImage] = []
    for number, row in enumerate(rows):
        if len(row) != 2 or not row[1].isdigit():
            raise DataError(f"line {number + 1} of label file {path} is '{' '.join(row)}', expected 'NAME CLASS'")
        listed.append(ListedImage(path, image_name(row[0]), int(row[1]), number))
    return listed


def _images_of_annotations(path: str) -> list[ListedImage]:
    """The images of an annotation file in COCO's format."""
    try:
        with open(path, encoding="utf-8") as stream:
            images: list[Mapping[str, Any]] = json.load(stream)["images"]
        return [
            ListedImage(path, image_name(image["file_name"]), None, position) for position, image in enumerate(images)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"label file {path} is not a COCO annotation file ({error!r}); give openimages-mlperf.json"
        ) from error


def truth_of_images(spec: ModelSpec, images: Sequence[ListedImage]) -> Truth | None:
    """What is true of ``images``, in their order; None where no label file listed them."""
    if not images[0].source:
        return None
    if spec.task is Task.DETECTION:
        return Truth(images[0].source, positions=tuple(image.position for image in images))
    return Truth(images[0].source, labels=tuple(image.label or 0 for image in images))


def image_name(name: str) -> str:
    """'ILSVRC2012_val_00000001' of that name with .JPEG, .JPEG.npy, .npy or .rgb32 behind it."""
    base = os.path.basename(name)
    for extension in (*IMAGE_EXTENSIONS, ".jpg", ".jpeg", ".png"):
        if base.lower().endswith(extension):
            base = base[: -len(extension)]
    return base
