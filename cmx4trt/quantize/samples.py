"""Calibration images from where people have them: a folder of files, one tensor file, or CM's preprocessed data set.

Nothing is kept in memory: a sample is read when it is asked for.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from cmx4trt.base.background import in_threads
from cmx4trt.base.digests import hash_stream, new_blake3
from cmx4trt.errors import DataError
from cmx4trt.images.files import (
    Shape,
    StoredImage,
    decode_image,
    files_in_folder,
    images_in_file,
    open_image,
    shown,
    stored_size,
)
from cmx4trt.images.lists import listed_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.base.progress import Progress

MIN_SAMPLES = 4
"""Fewer images than this are taken for a mistake: their extremes say next to nothing about other images."""
DEFAULT_SAMPLES = 500
"""Length of MLPerf's calibration lists for ImageNet and OpenImages (mlcommons/inference, calibration/)."""

READING = "read images"
"""The stage of ``digest``."""


class Samples(Protocol):
    """Images of one shape [C, H, W], by index."""

    shape: Shape

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: int) -> NDArray[np.float32]:
        """Image ``index`` as [1, C, H, W] float32."""

    def digest(self, progress: Progress) -> str:
        """SHA-256 over the BLAKE3 of each image. Raises DataError where one cannot be read."""

    def part(self, start: int, stop: int) -> Samples:
        """Images ``start`` to ``stop - 1``."""


class FileSamples:
    """Images in files, read one at a time. Once ``digest`` has seen an image, ``read`` gives that image or fails."""

    def __init__(
        self, items: Sequence[StoredImage], shape: Shape, seen: dict[StoredImage, bytes] | None = None
    ) -> None:
        self._items = tuple(items)
        self._seen: dict[StoredImage, bytes] = {} if seen is None else seen
        self.shape = shape

    def __len__(self) -> int:
        """Number of images."""
        return len(self._items)

    def part(self, start: int, stop: int) -> FileSamples:
        """Images ``start`` to ``stop - 1``."""
        return FileSamples(self._items[start:stop], self.shape, self._seen)

    def read(self, index: int) -> NDArray[np.float32]:
        """Image ``index`` as [1, C, H, W] float32.

        Raises DataError where the file is unreadable or changed by now, or holds NaN or infinity.
        """
        import numpy as np

        item = self._items[index]
        with open_image(item) as stream:
            content = stream.read(stored_size(item, self.shape))
            image = decode_image(content, item, self.shape)[None]
        if item in self._seen and _digest_of(content) != self._seen[item]:
            raise DataError(f"image file {item.path} changed while it was in use; start again")
        if not (finite := np.isfinite(image)).all():
            raise DataError(
                f"image file {item.path} holds {image.size - int(finite.sum())} values that are NaN or infinite; "
                "no range can be computed from it: preprocess it again or leave it out"
            )
        return image

    def digest(self, progress: Progress) -> str:
        """SHA-256 over shape, kinds and BLAKE3 of the images' bytes, in order, read by several threads.

        No image is looked into: whoever finds an engine again needs no numbers. Raises DataError.
        """
        done = itertools.count(1)

        def look_at(item: StoredImage) -> None:
            self._seen[item] = self._hash(item)
            progress.step(READING, next(done), len(self._items))

        in_threads([partial(look_at, item) for item in self._items])
        digest = hashlib.sha256(repr(self.shape).encode())
        for item in self._items:
            digest.update(item.dtype.encode() + self._seen[item])
        return digest.hexdigest()

    def _hash(self, item: StoredImage) -> bytes:
        hasher, size = new_blake3(), stored_size(item, self.shape)
        with open_image(item) as stream:
            if hash_stream(stream, hasher, size) < size:
                raise ValueError("it is shorter than it was")
        return hasher.digest()


def _digest_of(content: bytes) -> bytes:
    hasher = new_blake3()
    hasher.update(content)
    return hasher.digest()


def open_samples(path: str, shape: Shape, list_file: str | None = None) -> FileSamples:
    """The images in ``path``: a folder (searched recursively, in order of names) or one file of any number of images.

    ``list_file`` names the images to take, one a line, in order; extensions may differ (MLPerf's calibration
    lists name JPEG files). Every file's header or size is checked here, no image is read. Raises DataError.
    """
    if not os.path.exists(path):
        raise DataError(f"calibration_data {path} does not exist; give a folder of images or a tensor file")
    paths = list(files_in_folder(path)) if os.path.isdir(path) else [path]
    if list_file is not None:
        paths = listed_files(paths, list_file, path)
    items = [item for file in paths for item in images_in_file(file, shape)]
    if not items:
        raise DataError(
            f"calibration_data {path} holds no images; give a folder of .npy or raw float32 files {shown(shape)}"
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
