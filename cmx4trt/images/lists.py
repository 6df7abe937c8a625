"""Lists of images, as in ground-truth files."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cmx4trt.base.files import open_text
from cmx4trt.errors import DataError

IMAGE_EXTENSIONS = (".npy", ".rgb32", ".raw", ".bin")
"""What CM's preprocessors append to an image's name, or replace its extension with."""

_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = 80


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image in the ground-truth file ``source``: its name without extension, its class if the file gives one,
    and its position there."""

    source: str
    name: str
    label: int | None
    position: int


@dataclass(frozen=True, slots=True)
class Truth:
    """The ground-truth file ``path``; for image i its class ``labels[i]``, if there are classes, and its position
    ``positions[i]`` among the file's images."""

    path: str
    labels: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()


def truth_of_images(images: Sequence[ListedImage]) -> Truth | None:
    """The ground truth of ``images``, in their order; None if no file lists them."""
    if not images[0].source:
        return None
    labels = tuple(image.label for image in images if image.label is not None)
    return Truth(images[0].source, labels, tuple(image.position for image in images))


def image_name(name: str) -> str:
    """'ILSVRC2012_val_00000001' from that name followed by .JPEG, .JPEG.npy, .npy or .rgb32."""
    base = os.path.basename(name)
    for extension in (*IMAGE_EXTENSIONS, ".jpg", ".jpeg", ".png"):
        if base.lower().endswith(extension):
            base = base[: -len(extension)]
    return base


def quoted(value: object) -> str:
    """A value from a file as shown in error messages: long ones without their middle."""
    return _QUOTE.repr(value)


def refuse_repeated(where: str, named: Iterable[tuple[str, object]]) -> None:
    """Reject duplicate values among (place, value) pairs. Raises DataError."""
    first: dict[object, str] = {}
    for place, value in named:
        if value in first:
            raise DataError(
                f"{where} has {quoted(value)} twice, in {first[value]} and {place}, expected it once; remove one of them"
            )
        first[value] = place


def listed_files(paths: Sequence[str], list_file: str, where: str) -> list[str]:
    """The files that the list names, in its order. Raises DataError."""
    try:
        with open_text(list_file) as stream:
            wanted = [os.path.basename(line.split()[0]) for line in stream if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"calibration_list {list_file} cannot be read ({error}); give a text file of image names"
        ) from error
    by_name: dict[str, str] = {}
    for path in reversed(paths):
        for key in _keys(os.path.basename(path)):
            by_name[key] = path
    chosen = [next((by_name[key] for key in _keys(name) if key in by_name), None) for name in wanted]
    missing = [name for name, path in zip(wanted, chosen, strict=True) if path is None]
    if missing or not wanted:
        what = f"{len(missing)} of the {len(wanted)} images, such as '{missing[0]}'" if missing else "no image"
        found = "are not in" if missing else "in"
        raise DataError(
            f"calibration_list {list_file} names {what}, that {found} {where}; give the list that matches the folder"
        )
    return [path for path in chosen if path is not None]


def _keys(name: str) -> Iterator[str]:
    """``name``, then without its extension: 'a.JPEG' in a list matches 'a.rgb32' and 'a.JPEG.npy' in a folder."""
    yield name
    yield os.path.splitext(name)[0]
