"""Preprocessed folders as CM leaves them, and synthetic images."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.bench.datasets import PreprocessedFolder, SyntheticImages, open_folder
from cmx4trt.errors import DataError
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD, RGB, InputForm
from cmx4trt.networks import network_of
from cmx4trt.networks.base import Network
from cmx4trt.quantize.samples import open_samples
from cmx4trt.requests.build import BuildRequest


def small(name: str) -> Network:
    network = network_of(name)
    return network.with_spec(replace(network.spec, input_shape=(3, 2, 2)))


def form_of(network: Network, normalization: tuple[RGB, RGB] | None = None, scale: float | None = None) -> InputForm:
    notes = (
        {"normalization": json.dumps(dict(zip(("mean", "std"), normalization, strict=True)))} if normalization else {}
    )
    return network.input_form(notes, scale, BuildRequest.from_values({"network": network.name}))


CLASSIFIER = small("resnet50")
DETECTOR = small("retinanet")


def image(number: int) -> Any:
    return np.full((3, 2, 2), number, np.float32)


def read(dataset: Any, index: int, dtype: Any = np.float32) -> Any:
    out = np.empty(dataset.shape, dtype)
    dataset.read(index, out)
    return out


def open_classifier(folder: Path, **values: Any) -> PreprocessedFolder:
    return PreprocessedFolder(CLASSIFIER, form_of(CLASSIFIER), str(folder), **values)


def test_the_reference_preprocessors_layout(tmp_path: Path) -> None:
    folder = tmp_path / "preprocessed" / "imagenet_resnet50" / "NCHW"
    folder.mkdir(parents=True)
    for number in (3, 1, 2):
        np.save(folder / f"ILSVRC2012_val_{number}.JPEG.npy", image(number))
    (tmp_path / "val_map.txt").write_text(
        "ILSVRC2012_val_2.JPEG 22\nILSVRC2012_val_9.JPEG 9\nILSVRC2012_val_1.JPEG 11\n"
    )
    dataset = open_classifier(tmp_path)
    assert len(dataset) == 2  # 3 is not listed, 9 is not there
    assert [read(dataset, i)[0, 0, 0] for i in range(2)] == [2, 1]
    assert dataset.truth is not None
    assert dataset.truth.labels == (22, 11)
    assert not dataset.complete


def test_the_generic_preprocessors_raw_bytes(tmp_path: Path) -> None:
    for number in (1, 2):
        image(number).tofile(tmp_path / f"ILSVRC2012_val_{number}.rgb32")
    labels = tmp_path / "elsewhere.txt"
    labels.write_text("5\n6\n")
    dataset = open_classifier(tmp_path, label_file=str(labels))
    assert dataset.truth is not None
    assert dataset.truth.labels == (5, 6)
    assert read(dataset, 1, np.float16)[0, 0, 0] == 2


def test_without_labels_the_files_are_taken_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        np.save(tmp_path / f"{name}.npy", image(ord(name)))
    dataset = open_classifier(tmp_path)
    assert dataset.truth is None
    assert read(dataset, 0)[0, 0, 0] == ord("a")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_what_calibrates_also_benchmarks(tmp_path: Path, dtype: Any) -> None:
    """One reader serves both: other widths of floats, one image with a batch dimension, pictures and hidden files beside it."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    np.save(tmp_path / "deep" / "er" / "a.npy", image(7)[None].astype(dtype))
    (tmp_path / "a.JPEG").write_bytes(b"a picture")
    (tmp_path / "._a.npy").write_bytes(b"a hidden file")
    assert read(open_classifier(tmp_path), 0)[0, 0, 0] == 7
    assert open_samples(str(tmp_path), (3, 2, 2)).read(0)[0, 0, 0, 0] == 7


def test_count_takes_the_first(tmp_path: Path) -> None:
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", image(number))
    assert len(open_classifier(tmp_path, count=2)) == 2
    with pytest.raises(DataError, match=r"6 images were requested, .* the 5 listed .*--count .*CM_BATCH_COUNT"):
        open_classifier(tmp_path, count=6)


def _detector_folder(tmp_path: Path, values: Any) -> Path:
    (tmp_path / "annotations").mkdir()
    images = [
        {"id": 7, "file_name": "b.jpg", "height": 10, "width": 20},
        {"id": 9, "file_name": "a.jpg", "height": 5, "width": 5},
    ]
    object_ = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    annotations = {"images": images, "annotations": [object_], "categories": [{"id": 3, "name": "three"}]}
    (tmp_path / "annotations" / "openimages-mlperf.json").write_text(json.dumps(annotations))
    for name in ("a", "b"):
        values.astype(np.float32).tofile(tmp_path / f"{name}.raw")
    return tmp_path


def test_detectors_images_come_in_the_order_of_the_annotations(tmp_path: Path) -> None:
    folder = _detector_folder(tmp_path, image(-1))
    (folder / "b.raw").unlink()
    dataset = PreprocessedFolder(DETECTOR, form_of(DETECTOR), str(folder))
    assert dataset.truth is not None
    assert dataset.truth.positions == (1,)


def test_pixels_are_normalised_and_normalised_images_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pixels").mkdir()
    (tmp_path / "normal").mkdir()
    pixels = np.linspace(0, 1, 12).reshape(3, 2, 2).astype(np.float32)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    normal = (pixels - mean) / std
    form = form_of(DETECTOR)
    for name, stored in (("pixels", pixels), ("normal", normal)):
        dataset = PreprocessedFolder(DETECTOR, form, str(_detector_folder(tmp_path / name, stored)))
        np.testing.assert_allclose(read(dataset, 0), normal, rtol=1e-6)
    own = form_of(DETECTOR, ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    np.testing.assert_allclose(
        read(PreprocessedFolder(DETECTOR, own, str(tmp_path / "pixels")), 0), (pixels - 0.5) / 0.25
    )
    with_normalisation_inside = form_of(DETECTOR, ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    np.testing.assert_array_equal(
        read(PreprocessedFolder(DETECTOR, with_normalisation_inside, str(tmp_path / "pixels")), 0), pixels
    )
    with pytest.raises(DataError, match=r"are normalized .*expected 0\.\.1"):
        PreprocessedFolder(DETECTOR, with_normalisation_inside, str(tmp_path / "normal"))


def test_int8_images_are_divided_by_their_scale_and_clipped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(-300, 300, 50, dtype=np.float32).reshape(3, 2, 2))
    form = form_of(CLASSIFIER, scale=2.0)
    found = read(PreprocessedFolder(CLASSIFIER, form, str(tmp_path)), 0, np.int8)
    assert found.reshape(-1).tolist() == [-128, -125, -100, -75, -50, -25, 0, 25, 50, 75, 100, 125]
    with pytest.raises(DataError, match="has no scale"):
        read(open_classifier(tmp_path), 0, np.int8)


@pytest.mark.parametrize(
    ("files", "labels", "words"),
    [
        ({"a.npy": image(1)}, "b 1\n", "none of the images listed in .* is in .*such as a, expected b"),
        ({"a.npy": image(1)}, "a\n", "line 1 of label file .* is 'a', expected 'NAME CLASS'"),
        ({"a.npy": image(1)}, "1\n2\n", "has 2 classes, expected 1, one for each image file"),
        ({"a.npy": image(1), "b.npy": image(1)}, "a 1\nb x\n", "line 2 of label file .* is 'b x'"),
        ({"a.npy": np.zeros((3, 3, 3), np.float32)}, "a 1\n", r"has shape \[3, 3, 3\], expected \[3, 2, 2\]"),
        ({"a.npy": np.zeros((2, 2, 3), np.float32)}, "a 1\n", r"NHWC layout \[2, 2, 3\], expected NCHW \[3, 2, 2\]"),
        ({"a.npy": np.zeros((2, 3, 2, 2), np.float32)}, "a 1\n", "contains 2 images, expected one file per image"),
        ({"a.npy": np.zeros((3, 2, 2), np.uint8)}, "a 1\n", "has type uint8, expected preprocessed float32"),
        ({}, "a 1\n", "contains no preprocessed images"),
    ],
)
def test_unusable_data_are_refused_before_the_run(tmp_path: Path, files: Any, labels: str, words: str) -> None:
    for name, values in files.items():
        np.save(tmp_path / name, values)
    (tmp_path / "val_map.txt").write_text(labels)
    with pytest.raises(DataError, match=words):
        open_classifier(tmp_path)


def test_a_missing_folder_or_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data folder .*none does not exist.*--data=synthetic"):
        open_folder(CLASSIFIER, form_of(CLASSIFIER), str(tmp_path / "none"), None, None)
    np.save(tmp_path / "a.npy", image(1))
    with pytest.raises(DataError, match=r"label file .*none\.txt does not exist"):
        open_classifier(tmp_path, label_file=str(tmp_path / "none.txt"))


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    for name in ("NCHW", "NHWC"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "val_1.JPEG.npy", image(1))
    with pytest.raises(DataError, match=r"NCHW/val_1\.JPEG\.npy and .*NHWC/val_1\.JPEG\.npy are the same image"):
        open_classifier(tmp_path)
    assert len(open_classifier(tmp_path / "NHWC")) == 1


def test_pipes_and_broken_links_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image(1))
    os.mkfifo(tmp_path / "b.npy")
    with pytest.raises(DataError, match=r"b\.npy is not a regular file"):
        open_classifier(tmp_path)
    (tmp_path / "b.npy").unlink()
    (tmp_path / "b.npy").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"b\.npy is not a regular file"):
        open_classifier(tmp_path)
    (tmp_path / "b.npy").unlink()
    (tmp_path / "b.npy").symlink_to(tmp_path / "a.npy")
    os.mkfifo(tmp_path / "notes.txt")  # never opened
    assert len(open_classifier(tmp_path)) == 2


def test_synthetic_images_are_seeded_and_different() -> None:
    network = network_of("resnet50")
    one, two = (SyntheticImages(network.spec, form_of(network), 3) for _ in range(2))
    np.testing.assert_array_equal(read(one, 1), read(two, 1))
    assert not np.array_equal(read(one, 1), read(one, 2))
    values = read(one, 0)
    assert values.min() >= -123.7  # pixels 0..255 minus the means
    assert 140 < values.max() <= 255 - 103.9
    assert one.truth is None
    assert not one.complete
