"""Annotation files in COCO's format: everything that is read of one after a run is checked before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cmx4trt.base.damage import parse_json, reason
from cmx4trt.base.files import open_text
from cmx4trt.errors import DataError
from cmx4trt.images.lists import ListedImage, image_name, quoted, refuse_repeated

_LARGEST = 2**53
"""pycocotools computes in float64, which tells integers apart up to here (IEEE 754: 53 bits of significand)."""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST  # no NaN


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and _is_number(value) and value > 0


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_INTEGER, _SIZE, _NUMBER = ("an integer", _is_integer), ("a size in pixels", _is_size), ("a number", _is_number)
_TEXT = ("a name", lambda value: isinstance(value, str) and bool(value))
_BOX = ("four numbers x, y, width, height", _is_box)
_FLAG = ("0 or 1", lambda value: isinstance(value, bool) or _is_integer(value))
"""OpenImages has -1 too, for unknown; pycocotools asks only whether it is 0."""

ENTRIES: Mapping[str, Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "categories": {"id": _INTEGER},
    "images": {"id": _INTEGER, "file_name": _TEXT, "height": _SIZE, "width": _SIZE},
    "annotations": {
        "id": _INTEGER,
        "image_id": _INTEGER,
        "category_id": _INTEGER,
        "bbox": _BOX,
        "area": _NUMBER,
        "iscrowd": _FLAG,
    },
}
"""What pycocotools (COCO.createIndex, COCOeval.evaluate with boxes) and this package's accuracy read of each entry."""


def read_annotations(path: str, classes: int) -> dict[str, Any]:
    """The annotation file at ``path``, of which at least images, categories and objects are there and as COCO has them.

    ``classes``: category ids are 0 … classes - 1. Raises DataError, which names the place in the file.
    """
    values = _parse(path)
    for key, fields in ENTRIES.items():
        _check_entries(path, key, values.get(key), fields)
    ids = {key: {entry["id"] for entry in values[key]} for key in ENTRIES}
    if not 0 <= min(ids["categories"]) <= max(ids["categories"]) < classes:
        raise DataError(
            f"annotation file {path} has categories {min(ids['categories'])}..{max(ids['categories'])}, expected "
            f"0..{classes - 1} as in openimages-mlperf.json; the labels would not match"
        )
    for place, entry in enumerate(values["annotations"]):
        for name, key in (("image_id", "images"), ("category_id", "categories")):
            if entry[name] not in ids[key]:
                raise _misfit(path, f"annotations[{place}].{name}", entry[name], f"the id of one of its {key}")
    return values


def images_of_annotations(path: str, classes: int) -> list[ListedImage]:
    """The images of an annotation file in COCO's format, whose objects are of ``classes`` categories."""
    images = read_annotations(path, classes)["images"]
    listed = [ListedImage(path, image_name(image["file_name"]), None, place) for place, image in enumerate(images)]
    named = ((f"images[{image.position}].file_name", image.name) for image in listed)
    refuse_repeated(f"annotation file {path}", named)
    return listed


def _parse(path: str) -> dict[str, Any]:
    try:
        with open_text(path, "utf-8-sig") as stream:
            values = parse_json(stream.read())
    except (OSError, ValueError, MemoryError) as error:
        raise DataError(
            f"annotation file {path} cannot be read ({reason(error)}); give openimages-mlperf.json"
        ) from error
    if not isinstance(values, dict):
        raise DataError(
            f"annotation file {path} holds {quoted(values)}, expected an object; give openimages-mlperf.json"
        )
    return values


def _check_entries(
    path: str, key: str, entries: object, fields: Mapping[str, tuple[str, Callable[[Any], bool]]]
) -> None:
    """Every entry has the ``fields``, and an id of its own. Raises DataError."""
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"annotation file {path} has no {key} (got {quoted(entries)}, expected a list), without which accuracy is "
            "undefined; give openimages-mlperf.json"
        )
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _misfit(path, f"{key}[{place}]", entry, "an object")
        for name, (words, holds) in fields.items():
            if not holds(entry.get(name)):
                raise _misfit(path, f"{key}[{place}].{name}", entry.get(name), words)
    refuse_repeated(f"annotation file {path}", ((f"{key}[{n}].id", entry["id"]) for n, entry in enumerate(entries)))


def _misfit(path: str, place: str, value: object, expected: str) -> DataError:
    got = "missing" if value is None else quoted(value)
    return DataError(f"{place} of annotation file {path} is {got}, expected {expected}; give openimages-mlperf.json")
