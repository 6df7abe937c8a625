"""Label files and annotation files: what is listed, and what is refused before a run."""

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

CLASSIFIER, DETECTOR = network_of("resnet50"), network_of("retinanet")


def listed(path: Path, text: str | bytes, names: list[str] | None = None) -> list[tuple[str, int | None]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    images = listed_images(CLASSIFIER, "unused", str(path), names or [])
    return [(image.name, image.label) for image in images]


@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, prefix: str) -> None:
    assert listed(tmp_path / "l.txt", f"{prefix}a.JPEG 1\r\n\r\nb.JPEG 2\r\n") == [("a", 1), ("b", 2)]
    assert listed(tmp_path / "l.txt", f"{prefix}3\n0999\n", ["a", "b"]) == [("a", 3), ("b", 999)]


def test_names_may_hold_spaces(tmp_path: Path) -> None:
    assert listed(tmp_path / "l.txt", "my  cat.JPEG\t 281\n") == [("my  cat", 281)]


def test_leading_zeros_do_not_matter(tmp_path: Path) -> None:
    assert listed(tmp_path / "l.txt", "a 000\nb " + "0" * 5000 + "7\n") == [("a", 0), ("b", 7)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a 1\n\xff\xfe 2\n", "cannot be read .*0xff in position 4"),
        ("a 1\n\nb \u00b2\n", "line 3 of label file .* is 'b \u00b2', expected 'NAME CLASS'"),
        ("\u00b2\n", "line 1 of label file .* is '\u00b2', expected 'NAME CLASS'"),
        ("a \u0661\n", "line 1 of label file .*, expected 'NAME CLASS'"),
        ("a 1000\n", r"'a 1000', .* classes 0\.\.999; subtract 1 from all if a background class was counted"),
        ("a 99999999999999999999\n", r"expected .* classes 0\.\.999"),
        ("a " + "9" * 5000, r"line 1 .* classes 0\.\.999"),
        ("1000\n", r"line 1 .* is '1000', expected"),
        ("a -1\n", r"'a -1', expected .*0\.\.999"),
        ("a.JPEG 1\nb 2\na.npy 3\n", "has 'a' twice, in line 1 and line 3"),
        ("a 1\na 1\n", "has 'a' twice, in line 1 and line 2"),
    ],
)
def test_lines_that_are_no_label_are_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        listed(tmp_path / "l.txt", text, ["image"])


def test_long_lines_are_not_quoted_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        listed(tmp_path / "l.txt", json.dumps({"images": [{"file_name": f"{n}.jpg"} for n in range(1000)]}))
    assert "line 1 of label file" in str(error.value)
    assert len(str(error.value)) < 400


def test_the_label_file_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a regular file"):
        listed_images(CLASSIFIER, "unused", str(tmp_path), [])


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
    images = listed_images(DETECTOR, "unused", path, [])
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
        listed_images(DETECTOR, "unused", written(tmp_path / "a.json", values), [])


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
        listed_images(DETECTOR, "unused", str(tmp_path / "a.json"), [])
