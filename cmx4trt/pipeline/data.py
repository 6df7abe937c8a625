"""The images and labels that a user names for an evaluation: what it would refuse is refused before an engine is built."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cmx4trt.errors import DataError
from cmx4trt.images.lists import Truth
from cmx4trt.networks import network_of
from cmx4trt.networks.base import Network
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import ACCURACY, SYNTHETIC_DATA, EvaluationOptions

if TYPE_CHECKING:
    from cmx4trt.bench.datasets import PreprocessedFolder
    from cmx4trt.images.normalization import InputForm


def is_synthetic(options: EvaluationOptions) -> bool:
    """Whether no folder is named. Raises DataError for labels of synthetic images."""
    if options.data is not None and options.data != SYNTHETIC_DATA:
        return False
    if options.labels is not None:
        raise DataError("synthetic data has no labels; leave --labels out, or give --data=FOLDER")
    return True


def open_images(network: Network, form: InputForm, options: EvaluationOptions) -> PreprocessedFolder:
    """The folder of images that ``options`` name. Raises DataError."""
    from cmx4trt.bench.datasets import open_folder

    assert options.data is not None
    count = options.count if options.mode == ACCURACY else None
    return open_folder(network, form, options.data, options.labels, count)


def check_truth(network: Network, options: EvaluationOptions, truth: Truth | None) -> None:
    """Refuse, before the run, to measure accuracy without labels or software. Raises DataError, MissingSoftwareError."""
    if truth is None and options.data not in (None, SYNTHETIC_DATA):
        raise DataError(
            f"no labels for {options.data}: it holds no {network.label_file}; give the label file with --labels"
        )
    if truth is not None:
        network.check_measurable()


def check_data(command: str, options: EvaluationOptions, request: BuildRequest) -> None:
    """Refuse what the evaluation of an engine that is still to be built would refuse; ``command``: verify or bench.

    Only the first image is read. Raises DataError, MissingSoftwareError.
    """
    if (command == "verify" and options.data is None) or is_synthetic(options):
        return
    if command == "verify":
        options = replace(options, mode=ACCURACY)
    network = network_of(request.network)
    images = open_images(network, network.input_form({}, None, request.graph_options()), options)
    if options.mode == ACCURACY:
        check_truth(network, options, images.truth)
