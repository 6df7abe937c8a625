"""The input of a network: preprocessed images in a folder, as written by CM's get,dataset,preprocessed, or seeded noise."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.base.values import absolute_path
from cmx4trt.bench.labels import listed_images
from cmx4trt.errors import DataError
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.images.files import Shape, files_in_folder, images_in_file, read_image
from cmx4trt.images.lists import IMAGE_EXTENSIONS, Truth, image_name, truth_of_images
from cmx4trt.images.normalization import InputForm
from cmx4trt.networks.base import Network
from cmx4trt.requests.evaluation_options import SYNTHETIC_DATA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SYNTHETIC_SEED = 20241123


class Dataset(Protocol):
    """Images of one shape, by index."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W] of every image."""

    @property
    def description(self) -> str:
        """A description of the data."""

    @property
    def complete(self) -> bool:
        """Whether it is the whole validation set that MLPerf's accuracy target refers to."""

    @property
    def truth(self) -> Truth | None:
        """The ground truth; None if there is none."""

    def __len__(self) -> int:
        """The number of images."""

    def read(self, index: int, out: NDArray[Any]) -> None:
        """Write image ``index`` into ``out`` [C, H, W], converting to its dtype. Raises DataError."""


class SyntheticImages:
    """Seeded noise: pixels uniform over 0..1, preprocessed as the network expects, so that activations have realistic
    magnitudes. All images differ, and are the same in every run; they have no ground truth."""

    complete = False
    truth: Truth | None = None

    def __init__(self, spec: ModelSpec, form: InputForm, count: int) -> None:
        self.shape = spec.input_shape
        self.description = f"synthetic ({count} images of uniform noise, seed {SYNTHETIC_SEED})"
        self._form = form
        self._count = count

    def __len__(self) -> int:
        """The number of images."""
        return self._count

    def read(self, index: int, out: NDArray[Any]) -> None:
        """See Dataset."""
        import numpy as np

        pixels = np.random.default_rng((SYNTHETIC_SEED, index)).random(self.shape, np.float32)
        self._form.write(self._form.normalize(pixels), out)


class PreprocessedFolder:
    """Images that CM preprocessed: one .npy or raw float32 file each, [C, H, W], in the order of the label file."""

    def __init__(
        self, network: Network, form: InputForm, folder: str, label_file: str | None = None, count: int | None = None
    ) -> None:
        self.shape = network.spec.input_shape
        files = _files_by_name(folder)
        listed = listed_images(network, folder, label_file, sorted(files))
        found = [image for image in listed if image.name in files]
        if not found:
            raise DataError(
                f"none of the images listed in {label_file or network.label_file} is in {folder}; got {len(files)} files "
                f"such as {min(files)}, expected {listed[0].name if listed else 'any'}; give the right --data or --labels"
            )
        if count is not None and count > len(found):
            raise DataError(
                f"{count} images were requested, expected at most the {len(found)} listed images in {folder}; lower --count (or "
                "CM_BATCH_COUNT and CM_BATCH_SIZE, whose product is CM's default)"
            )
        found = found[:count]
        self._paths = [files[image.name] for image in found]
        target = network.accuracy
        self.complete = target is not None and len(found) == len(listed) == target.images
        self.truth = truth_of_images(found)
        self.description = f"{len(found)} of {len(listed)} listed images in {folder}"
        first = _read_only_image(self._paths[0], self.shape)
        self._form = form
        self._pixels = bool(form.stored_as_pixels and first.min() >= 0 and first.max() <= 1)
        if form.takes_pixels and not self._pixels:
            raise DataError(
                f"the images in {folder} are normalized ({first.min():.3g}..{first.max():.3g}), expected 0..1: the engine was "
                "built with input_range=0-1; preprocess without normalization"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self._paths)

    def read(self, index: int, out: NDArray[Any]) -> None:
        """See Dataset."""
        image = _read_only_image(self._paths[index], self.shape)
        self._form.write(self._form.normalize(image) if self._pixels else image, out)


def open_folder(
    network: Network, form: InputForm, data: str, label_file: str | None, count: int | None
) -> PreprocessedFolder:
    """The data set in folder ``data``, at most ``count`` images of it. Raises DataError."""
    folder = absolute_path(data)
    if not os.path.isdir(folder):
        wrong = "is not a folder" if os.path.lexists(folder) else "does not exist"
        raise DataError(
            f"data folder {folder} {wrong}; give a folder of preprocessed images, or --data={SYNTHETIC_DATA}"
        )
    return PreprocessedFolder(network, form, folder, label_file, count)


def _files_by_name(folder: str) -> dict[str, str]:
    """Image files in nested folders, by the name of the original image; the reference preprocessor creates subfolders.

    Raises DataError if two files belong to the same image, because the order in the file system must not matter.
    """
    files: dict[str, str] = {}
    for path in files_in_folder(folder):
        other = files.setdefault(image_name(path), path)
        if other != path:
            one, two = sorted((other, path))
            raise DataError(
                f"{one} and {two} are the same image, expected one file per image; give a folder with one set"
            )
    if not files:
        raise DataError(
            f"{folder} contains no preprocessed images ({', '.join(IMAGE_EXTENSIONS)}); run CM's get,dataset,preprocessed, "
            f"or give --data={SYNTHETIC_DATA}"
        )
    return files


def _read_only_image(path: str, shape: Shape) -> NDArray[np.float32]:
    """The image [C, H, W] float32 of a file with one image. Raises DataError."""
    images = images_in_file(path, shape)
    if len(images) != 1:
        raise DataError(f"image file {path} contains {len(images)} images, expected one file per image; split it")
    return read_image(images[0], shape)
