"""Label files of classifiers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmx4trt.bench.labels import listed_images
from cmx4trt.errors import DataError
from cmx4trt.networks import network_of


def listed(path: Path, text: str | bytes, names: list[str] | None = None) -> list[tuple[str, int | None]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    images = listed_images(network_of("resnet50"), "unused", str(path), names or [])
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
        listed_images(network_of("resnet50"), "unused", str(tmp_path), [])
