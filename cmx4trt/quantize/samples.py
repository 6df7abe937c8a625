"""Calibration images from where people have them: a folder of files, one tensor file, or CM's preprocessed data set.

Files are told apart by their content, not by their names: CM's generic preprocessor writes bare float32 numbers into files
called ``.npy`` (get-preprocessed-dataset-generic, ``image_data.tofile``), MLCommons' reference preprocessor real ones.
Nothing is kept in memory: a sample is read when it is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, BinaryIO, Protocol

from cmx4trt.background import Background
from cmx4trt.errors import DataError
from cmx4trt.files import open_file, open_text
from cmx4trt.images.npy import is_npy, read_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, int, int]

MIN_SAMPLES = 4
"""Fewer images than this are taken for a mistake: their extremes say next to nothing about other images."""
DEFAULT_SAMPLES = 500
"""Length of MLPerf's calibration lists for ImageNet and OpenImages (mlcommons/inference, calibration/)."""

MAX_READERS = 8
"""Threads that read and hash images; more wait for the disk."""

_RANDOM_SEED = 20241123
_FLOATS = ("float32", "float16", "float64")
_NOT_IMAGES = (".txt", ".json", ".md", ".csv", ".log", ".yaml")
"""Lists and notes that preprocessors leave beside the images (val_map.txt, preprocessed_files.txt)."""


class Samples(Protocol):
    """Images of one shape [C, H, W], by index."""

    shape: Shape

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: int) -> NDArray[np.float32]:
        """Image ``index`` as [1, C, H, W] float32."""

    def digest(self) -> str:
        """SHA-256 of all images. Raises DataError where one holds NaN or infinity."""

    def part(self, start: int, stop: int) -> Samples:
        """Images ``start`` to ``stop - 1``."""


@dataclass(frozen=True, slots=True)
class _Item:
    """Where one image lies: its elements begin at byte ``offset`` of ``path``."""

    path: str
    offset: int
    dtype: str


class FileSamples:
    """Images in files, read one at a time. Once ``digest`` has seen an image, ``read`` gives that image or fails."""

    def __init__(self, items: Sequence[_Item], shape: Shape, seen: dict[_Item, bytes] | None = None) -> None:
        self._items = tuple(items)
        self._seen: dict[_Item, bytes] = {} if seen is None else seen
        self.shape = shape

    def __len__(self) -> int:
        """Number of images."""
        return len(self._items)

    def part(self, start: int, stop: int) -> FileSamples:
        """Images ``start`` to ``stop - 1``."""
        return FileSamples(self._items[start:stop], self.shape, self._seen)

    def read(self, index: int) -> NDArray[np.float32]:
        """Image ``index`` as [1, C, H, W] float32. Raises DataError where the file is unreadable or changed by now."""
        item = self._items[index]
        image = self._read(item)
        if item in self._seen and hashlib.sha256(image.data).digest() != self._seen[item]:
            raise DataError(f"calibration image {item.path} changed while it was in use; start again")
        return image

    def digest(self) -> str:
        """SHA-256 over shape and values, in order, read by several threads. Raises DataError for NaN and infinity."""
        threads = min(len(os.sched_getaffinity(0)), MAX_READERS)
        running = [Background(partial(self._look_at, self._items[start::threads])) for start in range(threads)]
        for part in running:
            part.result()
        digest = hashlib.sha256(repr(self.shape).encode())
        for item in self._items:
            digest.update(self._seen[item])
        return digest.hexdigest()

    def _look_at(self, items: Sequence[_Item]) -> None:
        import numpy as np

        for item in items:
            image = self._read(item)
            if not np.isfinite(image).all():
                bad = int(image.size - np.isfinite(image).sum())
                raise DataError(
                    f"calibration image {item.path} holds {bad} values that are NaN or infinite; "
                    "a range cannot be taken from it: make it anew or leave it out"
                )
            self._seen[item] = hashlib.sha256(image.data).digest()

    def _read(self, item: _Item) -> NDArray[np.float32]:
        import numpy as np

        try:
            with open_file(item.path) as stream:
                stream.seek(item.offset)
                content = stream.read(prod(self.shape) * np.dtype(item.dtype).itemsize)
            values = np.frombuffer(content, item.dtype)
            return values.astype(np.float32, copy=False).reshape(1, *self.shape)
        except (OSError, ValueError) as error:
            raise DataError(f"calibration image {item.path} cannot be read any more ({error}); restore it") from error


class RandomSamples:
    """Normally distributed images: for networks with random weights, where no image means more than another, and to try a
    network whose ranges came without images. ``spread`` is the standard deviation."""

    def __init__(self, shape: Shape, count: int, spread: float = 1.0, start: int = 0) -> None:
        self.shape = shape
        self._count = count
        self._spread = spread
        self._start = start

    def __len__(self) -> int:
        """Number of images."""
        return self._count

    def read(self, index: int) -> NDArray[np.float32]:
        """Image ``index`` as [1, C, H, W] float32."""
        import numpy as np

        generator = np.random.default_rng((_RANDOM_SEED, self._start + index))
        return generator.standard_normal((1, *self.shape), dtype=np.float32) * np.float32(self._spread)

    def part(self, start: int, stop: int) -> RandomSamples:
        """Images ``start`` to ``stop - 1``."""
        return RandomSamples(self.shape, stop - start, self._spread, self._start + start)

    def digest(self) -> str:
        """SHA-256 of what determines the images."""
        text = f"normal:{_RANDOM_SEED}:{self._spread}:{self.shape}:{self._start}:{self._count}"
        return hashlib.sha256(text.encode()).hexdigest()


def open_samples(path: str, shape: Shape, list_file: str | None = None) -> FileSamples:
    """The images in ``path``: a folder (searched recursively, in order of names) or one file of any number of images.

    A file holds float32, float16 or float64 images [C, H, W] or [N, C, H, W] as ``.npy``, or bare little-endian float32
    numbers. ``list_file`` names the images to take, one a line, in order; extensions may differ (MLPerf's calibration
    lists name JPEG files). Every file's header or size is checked here, no image is read. Raises DataError.
    """
    if not os.path.exists(path):
        raise DataError(f"calibration_data {path} does not exist; give a folder of images or a tensor file")
    paths = _files_in(path) if os.path.isdir(path) else [path]
    if list_file is not None:
        paths = _listed(paths, list_file, path)
    items = [item for file in paths for item in _items_of(file, shape)]
    if not items:
        raise DataError(
            f"calibration_data {path} holds no images; give a folder of .npy or raw float32 files {_text(shape)}"
        )
    return FileSamples(items, shape)


def choose_samples(samples: FileSamples, count: int | None, where: str) -> FileSamples:
    """The first ``count`` images (None: all, at most DEFAULT_SAMPLES). Raises DataError where there are too few."""
    if count is not None and count > len(samples):
        raise DataError(
            f"calibration_count is {count}, but {where} holds {len(samples)} images; lower it or add images"
        )
    chosen = samples.part(0, count or min(len(samples), DEFAULT_SAMPLES))
    if len(chosen) < MIN_SAMPLES:
        raise DataError(
            f"{where} gives {len(chosen)} calibration images, expected at least {MIN_SAMPLES} "
            f"(MLPerf's lists have {DEFAULT_SAMPLES}); add images"
        )
    return chosen


def _files_in(folder: str) -> list[str]:
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        found += [
            os.path.join(parent, n) for n in sorted(names) if not n.startswith(".") and not n.endswith(_NOT_IMAGES)
        ]
    return found


def _listed(paths: Sequence[str], list_file: str, where: str) -> list[str]:
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
            f"calibration_list {list_file} names {what}, that {found} {where}; give the list that fits the folder"
        )
    return [path for path in chosen if path is not None]


def _keys(name: str) -> Iterator[str]:
    """``name``, then without its extension: 'a.JPEG' of a list meets 'a.rgb32' and 'a.JPEG.npy' of a folder."""
    yield name
    yield os.path.splitext(name)[0]


def _items_of(path: str, shape: Shape) -> list[_Item]:
    try:
        size = os.path.getsize(path)
        with open_file(path) as stream:
            return _npy_items(path, stream, size, shape) if is_npy(stream) else _raw_items(path, size, shape)
    except OSError as error:
        raise DataError(f"calibration image {path} cannot be read: {error.strerror}") from error


def _npy_items(path: str, stream: BinaryIO, size: int, shape: Shape) -> list[_Item]:
    try:
        header = read_header(stream)
    except ValueError as error:
        raise DataError(f"calibration image {path} is no readable .npy file ({error}); preprocess it again") from error
    dims, fortran = header.dims, header.fortran
    if header.dtype not in _FLOATS:
        raise DataError(
            f"calibration image {path} holds {header.dtype}, expected preprocessed float32 images {_text(shape)}"
        )
    count = dims[0] if len(dims) == 4 else 1
    if dims[-3:] != shape or len(dims) > 4 or fortran:
        raise DataError(f"calibration image {path} {_misfit(dims, fortran, shape)}")
    if size < header.end:
        raise DataError(f"calibration image {path} ends after {size} bytes, expected {header.end}; it is truncated")
    step = prod(shape) * header.itemsize
    return [_Item(path, header.offset + i * step, header.code) for i in range(count)]


def _misfit(dims: tuple[int, ...], fortran: bool, shape: Shape) -> str:
    channels, height, width = shape
    if dims[-3:] == (height, width, channels):
        return f"is in NHWC layout {_text(dims)}, expected NCHW {_text(shape)}; transpose it (CM: variation _NCHW)"
    if dims[-3:] == shape and fortran:
        return "is stored in Fortran order, expected C order; save it with np.ascontiguousarray"
    return f"has shape {_text(dims)}, expected {_text(shape)} or [N, {channels}, {height}, {width}]"


def _raw_items(path: str, size: int, shape: Shape) -> list[_Item]:
    step = prod(shape) * 4
    if size == 0 or size % step:
        hint = ""
        if size and size % prod(shape) == 0:
            hint = "; it may hold 8-bit pixels, which have no scale: preprocess them to float32"
        raise DataError(
            f"calibration image {path} is neither .npy nor raw float32 {_text(shape)}: it has {size} bytes, "
            f"expected a multiple of {step}{hint}"
        )
    return [_Item(path, offset, "<f4") for offset in range(0, size, step)]


def _text(dims: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, dims)) + "]"
