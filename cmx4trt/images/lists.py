"""Lists of images, as files of ground truth have them."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cmx4trt.errors import DataError

IMAGE_EXTENSIONS = (".npy", ".rgb32", ".raw", ".bin")
"""What CM's preprocessors append to an image's name, or put in place of its extension."""

_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = 80


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image as a file of ground truth, ``source``, has it: its name without extension, its class where the file says it,
    and its position there."""

    source: str
    name: str
    label: int | None
    position: int


@dataclass(frozen=True, slots=True)
class Truth:
    """A file of ground truth, ``path``; for image i its class ``labels[i]``, if it has classes, and its place ``positions[i]``
    among the file's images."""

    path: str
    labels: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()


def truth_of_images(images: Sequence[ListedImage]) -> Truth | None:
    """What is true of ``images``, in their order; None where no file listed them."""
    if not images[0].source:
        return None
    labels = tuple(image.label for image in images if image.label is not None)
    return Truth(images[0].source, labels, tuple(image.position for image in images))


def image_name(name: str) -> str:
    """'ILSVRC2012_val_00000001' of that name with .JPEG, .JPEG.npy, .npy or .rgb32 behind it."""
    base = os.path.basename(name)
    for extension in (*IMAGE_EXTENSIONS, ".jpg", ".jpeg", ".png"):
        if base.lower().endswith(extension):
            base = base[: -len(extension)]
    return base


def quoted(value: object) -> str:
    """A value from a file as an error message shows it: long ones without their middle."""
    return _QUOTE.repr(value)


def refuse_repeated(where: str, named: Iterable[tuple[str, object]]) -> None:
    """Refuse a (place, value) whose value an earlier place has. Raises DataError."""
    first: dict[object, str] = {}
    for place, value in named:
        if value in first:
            raise DataError(
                f"{where} has {quoted(value)} twice, in {first[value]} and {place}, expected it once; remove one of them"
            )
        first[value] = place
