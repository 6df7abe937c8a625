"""Calibration images from where people have them: a folder of files, one tensor file, or CM's preprocessed data set.

Nothing is kept in memory: a sample is read when it is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from cmx4trt.background import Background
from cmx4trt.errors import DataError
from cmx4trt.images.files import Shape, StoredImage, files_in_folder, images_in_file, read_image, shown
from cmx4trt.images.lists import listed_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_SAMPLES = 4
"""Fewer images than this are taken for a mistake: their extremes say next to nothing about other images."""
DEFAULT_SAMPLES = 500
"""Length of MLPerf's calibration lists for ImageNet and OpenImages (mlcommons/inference, calibration/)."""

MAX_READERS = 8
"""Threads that read and hash images; more wait for the disk."""

_RANDOM_SEED = 20241123


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
        """Image ``index`` as [1, C, H, W] float32. Raises DataError where the file is unreadable or changed by now."""
        item = self._items[index]
        image = read_image(item, self.shape)[None]
        if item in self._seen and hashlib.sha256(image.data).digest() != self._seen[item]:
            raise DataError(f"image file {item.path} changed while it was in use; start again")
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

    def _look_at(self, items: Sequence[StoredImage]) -> None:
        import numpy as np

        for item in items:
            image = read_image(item, self.shape)[None]
            if not np.isfinite(image).all():
                bad = int(image.size - np.isfinite(image).sum())
                raise DataError(
                    f"image file {item.path} holds {bad} values that are NaN or infinite; "
                    "a range cannot be taken from it: make it anew or leave it out"
                )
            self._seen[item] = hashlib.sha256(image.data).digest()


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
