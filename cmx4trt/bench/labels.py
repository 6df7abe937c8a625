"""Which images a data set consists of, in which order, and what is true of them: label files and annotation files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cmx4trt.bench.annotations import quoted, read_annotations, refuse_repeated
from cmx4trt.bench.responses import IMAGENET_CLASSES
from cmx4trt.errors import DataError
from cmx4trt.files import open_text
from cmx4trt.graph.spec import ModelSpec, Task
from cmx4trt.networks.retinanet.spec import DetectorSpec

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
    """The images of the label file, in its order; without one, those of the folder by name. Raises DataError."""
    path = label_file or os.path.join(folder, LABEL_FILES[spec.task])
    if not os.path.isfile(path):
        if label_file is not None:
            wrong = "is not a regular file" if os.path.exists(path) else "does not exist"
            raise DataError(f"label file {path} {wrong}; give {LABEL_FILES[spec.task]} of the data set with --labels")
        return [ListedImage("", name, None, position) for position, name in enumerate(names)]
    if isinstance(spec.details, DetectorSpec):
        return _images_of_annotations(path, spec.details.classes)
    return _images_of_class_list(path, names)


def _images_of_class_list(path: str, names: Sequence[str]) -> list[ListedImage]:
    """Lines 'NAME CLASS'; or 'CLASS' alone, then one for each file, in the order of the files' names."""
    lines = _lines_of_file(path)
    rows = [(number, text.rsplit(None, 1)) for number, text in lines]  # names may hold spaces
    if rows and all(len(row) == 1 and _class_of(row[0]) is not None for _, row in rows):
        if len(rows) != len(names):
            raise DataError(
                f"label file {path} has {len(rows)} classes, expected {len(names)}, one for each image file"
            )
        rows = [(number, [name, row[0]]) for name, (number, row) in zip(names, rows, strict=True)]
    listed: list[ListedImage] = []
    for (number, row), (_, text) in zip(rows, lines, strict=True):
        label = _class_of(row[1]) if len(row) == 2 else None
        if label is None:
            raise DataError(
                f"line {number} of label file {path} is {quoted(text)}, expected 'NAME CLASS' with one of ImageNet's classes "
                f"0..{IMAGENET_CLASSES - 1}; subtract 1 from all if a background class was counted"
            )
        listed.append(ListedImage(path, image_name(row[0]), label, len(listed)))
    places = (f"line {number}" for number, _ in rows)
    refuse_repeated(f"label file {path}", zip(places, (image.name for image in listed), strict=True))
    return listed


def _lines_of_file(path: str) -> list[tuple[int, str]]:
    """The lines that are not blank, numbered from 1, without a byte order mark."""
    try:
        with open_text(path, "utf-8-sig") as stream:
            lines = stream.read().split("\n")  # at once, so that a decoding error tells the place in the file
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"label file {path} cannot be read ({error}); give text of lines 'NAME CLASS'") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _class_of(text: str) -> int | None:
    """One of ImageNet's classes, from 0: answers have no background class (see ClassResponder); None for anything else."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"  # int() refuses thousands of digits, zeros too
    number = int(digits) if len(digits) <= len(str(IMAGENET_CLASSES)) else IMAGENET_CLASSES
    return number if number < IMAGENET_CLASSES else None


def _images_of_annotations(path: str, classes: int) -> list[ListedImage]:
    """The images of an annotation file in COCO's format, whose objects are of ``classes`` categories."""
    images = read_annotations(path, classes)["images"]
    listed = [ListedImage(path, image_name(image["file_name"]), None, place) for place, image in enumerate(images)]
    named = ((f"images[{image.position}].file_name", image.name) for image in listed)
    refuse_repeated(f"annotation file {path}", named)
    return listed


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
