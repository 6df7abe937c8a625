"""Lists of images and their classes."""

from __future__ import annotations

from collections.abc import Sequence

from cmx4trt.base.files import open_text
from cmx4trt.errors import DataError
from cmx4trt.images.lists import ListedImage, image_name, quoted, refuse_repeated


def images_of_class_list(path: str, names: Sequence[str], classes: int) -> list[ListedImage]:
    """Lines 'NAME CLASS' with one of the ``classes``; or 'CLASS' alone, one for each file, in the order of the files' names."""
    lines = _lines_of_file(path)
    rows = [(number, text.rsplit(None, 1)) for number, text in lines]  # names may hold spaces
    if rows and all(len(row) == 1 and _class_of(row[0], classes) is not None for _, row in rows):
        if len(rows) != len(names):
            raise DataError(
                f"label file {path} has {len(rows)} classes, expected {len(names)}, one for each image file"
            )
        rows = [(number, [name, row[0]]) for name, (number, row) in zip(names, rows, strict=True)]
    listed: list[ListedImage] = []
    for (number, row), (_, text) in zip(rows, lines, strict=True):
        label = _class_of(row[1], classes) if len(row) == 2 else None
        if label is None:
            raise DataError(
                f"line {number} of label file {path} is {quoted(text)}, expected 'NAME CLASS' with one of the classes "
                f"0..{classes - 1}; subtract 1 from all if a background class was counted"
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


def _class_of(text: str, classes: int) -> int | None:
    """One of the classes, from 0: answers have no background class (see ClassResponder); None for anything else."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"  # int() refuses thousands of digits, zeros too
    number = int(digits) if len(digits) <= len(str(classes)) else classes
    return number if number < classes else None
