"""Files of images: found by folder, recognized by content, read one by one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cmx4trt.errors import DataError
from cmx4trt.images.files import StoredImage, files_in_folder, images_in_file, read_image, stored_size

SHAPE = (3, 2, 2)


def some(count: int, dtype: str = "float32") -> np.ndarray:
    return np.arange(count * 12, dtype=dtype).reshape(count, *SHAPE)


def test_a_folders_own_files_come_before_those_of_its_folders(tmp_path: Path) -> None:
    for name in ("b.npy", "a.bin", "val_map.txt", "photo.JPEG", ".hidden", "sub/c.npy", "sub/deep/d.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    found = [os.path.relpath(path, tmp_path) for path in files_in_folder(str(tmp_path))]
    assert found == ["a.bin", "b.npy", "sub/c.npy", "sub/deep/d.npy"]
    os.mkfifo(tmp_path / "sub" / "pipe")
    with pytest.raises(DataError, match="pipe is not a regular file"):
        list(files_in_folder(str(tmp_path)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_every_image_of_a_file_is_where_it_is_said_to_be(tmp_path: Path, dtype: str) -> None:
    path = str(tmp_path / "images.npy")
    np.save(path, some(3, dtype))
    images = images_in_file(path, SHAPE)
    assert [stored_size(image, SHAPE) for image in images] == [12 * np.dtype(dtype).itemsize] * 3
    read = [read_image(image, SHAPE) for image in images]
    assert {one.dtype.name for one in read} == {"float32"}
    np.testing.assert_array_equal(np.stack(read), some(3))


def test_raw_numbers_need_no_header_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "raw.npy"
    path.write_bytes(some(2).tobytes())
    assert images_in_file(str(path), SHAPE) == [StoredImage(str(path), offset, "<f4") for offset in (0, 48)]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2, 3), np.float32), r"NHWC layout \[2, 2, 3\], expected NCHW \[3, 2, 2\]"),
        (np.zeros((3, 4, 4), np.float32), r"has shape \[3, 4, 4\], expected \[3, 2, 2\] or \[N, 3, 2, 2\]"),
        (np.asfortranarray(some(1)[0]), "Fortran order, expected C order"),
        (np.zeros(SHAPE, np.uint8), "has type uint8, expected preprocessed float32 images"),
    ],
)
def test_other_images_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    path = str(tmp_path / "image.npy")
    np.save(path, array)
    with pytest.raises(DataError, match=words):
        images_in_file(path, SHAPE)


@pytest.mark.parametrize(
    ("size", "words"), [(47, "expected a multiple of 48"), (12, "8-bit pixels, which have no scale")]
)
def test_sizes_that_are_no_images_are_refused(tmp_path: Path, size: int, words: str) -> None:
    (tmp_path / "raw").write_bytes(bytes(size))
    with pytest.raises(DataError, match=words):
        images_in_file(str(tmp_path / "raw"), SHAPE)


def test_a_file_that_changed_since_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, some(1))
    [image] = images_in_file(str(path), SHAPE)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="can no longer be read"):
        read_image(image, SHAPE)
