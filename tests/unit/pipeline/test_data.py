"""Images and labels of an evaluation, looked at before there is an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmx4trt.errors import DataError
from cmx4trt.pipeline.data import check_data
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import EvaluationOptions

REQUEST = BuildRequest.from_values({"random_weights": 0})


def check(command: str, **values: Any) -> None:
    check_data(
        command, EvaluationOptions(**{k: str(v) if isinstance(v, Path) else v for k, v in values.items()}), REQUEST
    )


@pytest.mark.parametrize("values", [{}, {"data": "synthetic"}])
def test_nothing_to_look_at(values: dict[str, str]) -> None:
    check("verify", **values)
    check("bench", **values)


def test_a_folder_that_does(labelled_images: Path) -> None:
    check("verify", data=labelled_images, count=3)
    check("bench", data=labelled_images, mode="accuracy")


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_a_folder_that_is_not_there(command: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data folder .*none does not exist"):
        check(command, data=tmp_path / "none")


def test_too_few_images(labelled_images: Path) -> None:
    with pytest.raises(DataError, match="4 images were requested, expected at most the 3 listed"):
        check("verify", data=labelled_images, count=4)
    check("bench", data=labelled_images, count=4)  # of a performance run: its length


def test_labels(labelled_images: Path, tmp_path: Path) -> None:
    (labelled_images / "val_map.txt").unlink()
    check("bench", data=labelled_images)
    with pytest.raises(DataError, match=r"it holds no val_map\.txt"):
        check("verify", data=labelled_images)
    with pytest.raises(DataError, match=r"labels\.txt"):
        check("verify", data=labelled_images, labels=tmp_path / "labels.txt")
    with pytest.raises(DataError, match="synthetic data has no labels"):
        check("bench", labels=tmp_path / "labels.txt")


def test_images_of_another_network(labelled_images: Path) -> None:
    other = BuildRequest.from_values({"network": "retinanet", "random_weights": 0})
    (labelled_images / "openimages-mlperf.json").write_text("{}")
    with pytest.raises(DataError):
        check_data("bench", EvaluationOptions(data=str(labelled_images)), other)
