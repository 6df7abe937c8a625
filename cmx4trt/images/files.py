"""Files of preprocessed images: finding them in a folder, checking their format, and reading one image.

Formats are recognized by content, not by name: CM's generic preprocessor writes raw float32 numbers into files
named ``.npy`` (get-preprocessed-dataset-generic, ``image_data.tofile``), MLCommons' reference preprocessor writes real ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from math import prod
from typing import TYPE_CHECKING, BinaryIO

from cmx4trt.base.files import open_file
from cmx4trt.errors import DataError
from cmx4trt.images.npy import is_npy, read_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, int, int]

_FLOATS = ("float32", "float16", "float64")
_RAW = "<f4"
_NOT_IMAGES = (".txt", ".json", ".md", ".csv", ".log", ".yaml", ".jpg", ".jpeg", ".png")
"""Lists, notes and photographs that may be next to preprocessed images (val_map.txt, preprocessed_files.txt)."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The location of one image: its elements begin at byte ``offset`` of ``path``."""

    path: str
    offset: int
    dtype: str


def files_in_folder(folder: str) -> Iterator[str]:
    """The image files in a folder and its subfolders: each folder's own files sorted by name, then its subfolders; links to
    folders are not followed, hidden files are skipped. Raises DataError, also for anything that is not a regular file.
    """
    folders: list[str] = []
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read ({error.strerror}); give a readable one") from error
    for entry in entries:  # the file types come with the names, without a stat of each file
        if entry.is_dir():
            folders += [] if entry.is_symlink() else [entry.path]
        elif not entry.name.startswith(".") and not entry.name.lower().endswith(_NOT_IMAGES):
            if not entry.is_file():
                raise DataError(f"image file {entry.path} is not a regular file (a pipe, or a broken link); remove it")
            yield entry.path
    for path in folders:
        yield from files_in_folder(path)


def images_in_file(path: str, shape: Shape) -> list[StoredImage]:
    """The images of a file, [C, H, W] or [N, C, H, W]: ``.npy`` of float32, float16 or float64, or raw little-endian float32.

    Checks the header or the size; reads no image. Raises DataError.
    """
    try:
        with open_file(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            return _npy_images(path, stream, size, shape) if is_npy(stream) else _raw_images(path, size, shape)
    except OSError as error:
        raise DataError(f"image file {path} cannot be read ({error.strerror or error}); preprocess it again") from error


@contextmanager
def open_image(image: StoredImage) -> Iterator[FileIO]:
    """The image's file, positioned at its first element. Raises DataError, also for errors while it is read."""
    try:
        with open_file(image.path) as stream:
            stream.seek(image.offset)
            yield stream
    except (OSError, ValueError) as error:
        raise DataError(f"image file {image.path} can no longer be read ({error}); restore it") from error


def stored_size(image: StoredImage, shape: Shape) -> int:
    """The bytes of the image in its file."""
    return prod(shape) * int(image.dtype[2:])


def decode_image(content: bytes, image: StoredImage, shape: Shape) -> NDArray[np.float32]:
    """Decode the file's bytes: [C, H, W] float32. Raises ValueError if there are too few."""
    import numpy as np

    return np.frombuffer(content, image.dtype).astype(np.float32, copy=False).reshape(shape)


def read_image(image: StoredImage, shape: Shape) -> NDArray[np.float32]:
    """One image [C, H, W] float32. Raises DataError."""
    with open_image(image) as stream:
        return decode_image(stream.read(stored_size(image, shape)), image, shape)


def shown(dims: Sequence[int]) -> str:
    """A shape as shown in error messages."""
    return "[" + ", ".join(map(str, dims)) + "]"


def _npy_images(path: str, stream: BinaryIO, size: int, shape: Shape) -> list[StoredImage]:
    try:
        header = read_header(stream)
    except ValueError as error:
        raise DataError(f"image file {path} is not a readable .npy file ({error}); preprocess it again") from error
    dims = header.dims
    if header.dtype not in _FLOATS:
        raise DataError(
            f"image file {path} has type {header.dtype}, expected preprocessed float32 images {shown(shape)}"
        )
    if dims[-3:] != shape or len(dims) > 4 or header.fortran:
        raise DataError(f"image file {path} {_misfit(dims, header.fortran, shape)}")
    if size < header.end:
        raise DataError(f"image file {path} ends after {size} bytes, expected {header.end}; it is truncated")
    step = prod(shape) * header.itemsize
    count = dims[0] if len(dims) == 4 else 1
    return [StoredImage(path, header.offset + i * step, header.code) for i in range(count)]


def _misfit(dims: tuple[int, ...], fortran: bool, shape: Shape) -> str:
    channels, height, width = shape
    if dims[-3:] == (height, width, channels):
        return f"is in NHWC layout {shown(dims)}, expected NCHW {shown(shape)}; transpose it (CM: variation _NCHW)"
    if dims[-3:] == shape and fortran:
        return "is stored in Fortran order, expected C order; save it with np.ascontiguousarray"
    expected = f"{shown(shape)} or [N, {channels}, {height}, {width}]"
    return f"has shape {shown(dims)}, expected {expected}; give the images of this network"


def _raw_images(path: str, size: int, shape: Shape) -> list[StoredImage]:
    step = prod(shape) * 4
    if size == 0 or size % step:
        hint = "preprocess it again"
        if size and size % prod(shape) == 0:
            hint = "it may contain 8-bit pixels, which have no scale: preprocess them to float32"
        raise DataError(
            f"image file {path} is neither .npy nor raw float32 {shown(shape)}: it has {size} bytes, expected a multiple of "
            f"{step}; {hint}"
        )
    return [StoredImage(path, offset, _RAW) for offset in range(0, size, step)]
