"""Which images a data set consists of, and in which order."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cmx4trt.errors import DataError
from cmx4trt.images.lists import ListedImage
from cmx4trt.networks.base import Network


def listed_images(network: Network, folder: str, label_file: str | None, names: Sequence[str]) -> list[ListedImage]:
    """The images of the ground-truth file, in its order; without one, those of the folder by name. Raises DataError."""
    path = label_file or os.path.join(folder, network.label_file)
    if os.path.isfile(path):
        return network.listed_images(path, names)
    if label_file is not None:
        wrong = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise DataError(f"label file {path} {wrong}; give {network.label_file} of the data set with --labels")
    return [ListedImage("", name, None, position) for position, name in enumerate(names)]
