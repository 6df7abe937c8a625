"""Annotations of detectors: checked whole, and what is wrong with a file is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.bench.labels import listed_images
from cmx4trt.errors import DataError
from cmx4trt.images.lists import truth_of_images
from cmx4trt.networks import network_of
from cmx4trt.networks.retinanet.annotations import read_annotations


def annotations() -> dict[str, Any]:
    """Two images, of which the second holds an object."""
    return {
        "images": [{"id": 7 + n, "file_name": f"{n}.jpg", "height": 10, "width": 20} for n in range(2)],
        "annotations": [
            {"id": 1, "image_id": 8, "category_id": 3, "bbox": [1, 1.5, 5, 5], "area": 25, "iscrowd": 0, "ignored": "x"}
        ],
        "categories": [{"id": 3, "name": "three"}],
    }


def written(path: Path, values: Any, encoding: str = "utf-8") -> str:
    path.write_text(json.dumps(values), encoding)
    return str(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_images_come_in_the_order_of_the_annotation_file(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "a.json", annotations(), encoding)
    images = listed_images(network_of("retinanet"), "unused", path, [])
    assert [image.name for image in images] == ["0", "1"]
    truth = truth_of_images(images[1:])
    assert truth is not None
    assert truth.positions == (1,)
    assert read_annotations(truth.path, 264) == annotations()


def without(key: str, *names: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: [values[key][0].pop(name) for name in names]


def having(key: str, name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda values: values[key][0].update({name: value})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda values: values.pop("annotations"), r"has no annotations \(got None"),
        (lambda values: values.update(annotations=[]), r"has no annotations \(got \[\]"),
        (lambda values: values.update(images={}), r"has no images \(got {}"),
        (lambda values: values.pop("categories"), "has no categories"),
        (lambda values: values["images"].insert(0, 5), r"images\[0\] of .* is 5, expected an object"),
        (without("images", "height"), r"images\[0\]\.height of .* is missing, expected a size"),
        (having("images", "height", "600"), r"images\[0\]\.height of .* is '600', expected a size"),
        (having("images", "width", 0), r"images\[0\]\.width of .* is 0, expected a size"),
        (having("images", "width", float("nan")), r"images\[0\]\.width of .* is nan, expected a size"),
        (having("images", "id", "7"), r"images\[0\]\.id of .* is '7', expected an integer"),
        (having("images", "id", True), r"images\[0\]\.id of .* is True, expected an integer"),
        (having("images", "id", 2**53), r"images\[0\]\.id of .*, expected an integer"),
        (having("images", "id", 8), r"has 8 twice, in images\[0\]\.id and images\[1\]\.id"),
        (
            having("images", "file_name", "1.png"),
            r"has '1' twice, in images\[0\]\.file_name and images\[1\]\.file_name",
        ),
        (having("images", "file_name", ["1"]), r"images\[0\]\.file_name of .*, expected a name"),
        (without("annotations", "bbox"), r"annotations\[0\]\.bbox of .* is missing, expected four numbers"),
        (
            having("annotations", "bbox", [1, 2, 3]),
            r"annotations\[0\]\.bbox of .* is \[1, 2, 3\], expected four numbers",
        ),
        (having("annotations", "bbox", [1, 2, 3, "4"]), r"annotations\[0\]\.bbox of .*, expected four numbers"),
        (without("annotations", "area"), r"annotations\[0\]\.area of .* is missing, expected a number"),
        (without("annotations", "iscrowd"), r"annotations\[0\]\.iscrowd of .* is missing"),
        (having("annotations", "image_id", 9), r"annotations\[0\]\.image_id of .* is 9, expected the id of .* images"),
        (having("annotations", "category_id", 4), r"annotations\[0\]\.category_id of .* is 4, .* categories"),
        (having("categories", "id", 264), r"has categories 264\.\.264, expected 0\.\.263"),
    ],
)
def test_an_annotation_file_is_checked_whole_when_it_is_opened(
    tmp_path: Path, damage: Callable[[dict[str, Any]], object], words: str
) -> None:
    values = annotations()
    damage(values)
    with pytest.raises(DataError, match=words):
        listed_images(network_of("retinanet"), "unused", written(tmp_path / "a.json", values), [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "annotation file .* cannot be read"),
        (b"[1]", r"annotation file .* holds \[1\], expected an object"),
        (b'{"images": "\xff"}', "annotation file .* cannot be read .*0xff"),
        (b"[" * 100_000, "annotation file .* cannot be read"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(DataError, match=words):
        listed_images(network_of("retinanet"), "unused", str(tmp_path / "a.json"), [])
