"""Calibration images from folders and files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.errors import DataError
from cmx4trt.quantize.samples import DEFAULT_SAMPLES, MIN_SAMPLES, choose_samples, open_samples

SHAPE = (3, 4, 5)


def images(count: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, *SHAPE)).astype(dtype)


def read_all(path: Path, list_file: Path | None = None) -> np.ndarray:
    samples = open_samples(str(path), SHAPE, None if list_file is None else str(list_file))
    return np.concatenate([samples.read(index) for index in range(len(samples))])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_folder_of_npy_files_in_order_of_names(tmp_path: Path, dtype: str) -> None:
    expected = images(3, dtype)
    for index in (2, 0, 1):
        np.save(tmp_path / f"{index}.npy", expected[index])
    assert np.array_equal(read_all(tmp_path), expected.astype(np.float32))


def test_files_of_several_images_and_lists_beside_them(tmp_path: Path) -> None:
    expected = images(5)
    np.save(tmp_path / "a.npy", expected[:2])
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "b.npy", expected[2:])
    (tmp_path / "val_map.txt").write_text("a 1\n")
    assert np.array_equal(read_all(tmp_path), expected)


def test_raw_tensor_file(tmp_path: Path) -> None:
    expected = images(4)
    expected.tofile(tmp_path / "all.bin")
    assert np.array_equal(read_all(tmp_path / "all.bin"), expected)


def test_raw_numbers_in_a_file_called_npy(tmp_path: Path) -> None:
    """CM's generic preprocessor writes these."""
    expected = images(1)
    expected.tofile(tmp_path / "ILSVRC2012_val_00000001.npy")
    assert np.array_equal(read_all(tmp_path), expected)


def test_list_chooses_and_orders_whatever_the_extension(tmp_path: Path) -> None:
    expected = images(3)
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "a.JPEG.npy", expected[0])
    expected[1].tofile(folder / "b.rgb32")
    expected[2].tofile(folder / "c.rgb32")
    (tmp_path / "list.txt").write_text("/somewhere/c.JPEG\na.JPEG 65\n\n")
    assert np.array_equal(read_all(folder, tmp_path / "list.txt"), expected[[2, 0]])


def test_list_that_names_absent_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", images(1)[0])
    (tmp_path / "list.txt").write_text("a.JPEG\nb.JPEG\n")
    with pytest.raises(DataError, match=r"1 of the 2 images, such as 'b.JPEG'"):
        open_samples(str(tmp_path), SHAPE, str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 5, 3), np.float32), r"NHWC layout \[4, 5, 3\], expected NCHW \[3, 4, 5\]"),
        (np.zeros((2, 4, 5, 3), np.float32), "NHWC layout"),
        (np.zeros((3, 5, 5), np.float32), r"shape \[3, 5, 5\], expected \[3, 4, 5\] or \[N, 3, 4, 5\]"),
        (np.zeros((1, 2, 3, 4, 5), np.float32), "has shape"),
        (np.zeros(SHAPE, np.uint8), "has type uint8, expected preprocessed float32"),
        (np.asfortranarray(images(1)[0]), "Fortran order"),
    ],
)
def test_wrong_arrays(tmp_path: Path, array: np.ndarray, sentence: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=sentence):
        open_samples(str(tmp_path), SHAPE)


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", images(1)[0])
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-4])
    with pytest.raises(DataError, match="truncated"):
        open_samples(str(tmp_path), SHAPE)


@pytest.mark.parametrize(("size", "hint"), [(3 * 4 * 5, "8-bit pixels"), (7, "a multiple of 240")])
def test_raw_file_of_another_size(tmp_path: Path, size: int, hint: str) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=hint):
        open_samples(str(tmp_path), SHAPE)


def test_absent_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_samples(str(tmp_path / "nowhere"), SHAPE)
    with pytest.raises(DataError, match="holds no images"):
        open_samples(str(tmp_path), SHAPE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    bad = images(2)
    bad[1, 0, 0, 0] = value
    np.save(tmp_path / "good.npy", bad[0])
    np.save(tmp_path / "ugly.npy", bad[1])
    with pytest.raises(DataError, match=r"ugly.npy holds 1 values that are NaN or infinite"):
        open_samples(str(tmp_path), SHAPE).read(1)


def test_digest_shows_its_progress_and_takes_no_number_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds an engine again waits for the disk, not for numpy."""
    images(20).tofile(tmp_path / "all.bin")
    steps: list[tuple[str, int, int]] = []

    class Recorder(Silent):
        def step(self, name: str, done: int, total: int) -> None:
            steps.append((name, done, total))

    monkeypatch.delattr(np, "frombuffer")
    open_samples(str(tmp_path), SHAPE).digest(Recorder())
    assert sorted(steps) == [("read images", done, 20) for done in range(1, 21)]


def test_the_same_bytes_of_another_type_are_other_images(tmp_path: Path) -> None:
    halves = images(2, "float16")
    np.save(tmp_path / "a.npy", halves)
    np.save(tmp_path / "b.npy", halves.view(">f2"))
    digests = {open_samples(str(tmp_path / name), SHAPE).digest(Silent()) for name in ("a.npy", "b.npy")}
    assert len(digests) == 2


def test_digest_depends_on_values_and_order_only(tmp_path: Path) -> None:
    expected = images(2)
    for folder, order in (("a", (0, 1)), ("b", (1, 0))):
        (tmp_path / folder).mkdir()
        for place, index in enumerate(order):
            np.save(tmp_path / folder / f"{place}.npy", expected[index])
    expected.tofile(tmp_path / "all.bin")
    digests = [open_samples(str(tmp_path / name), SHAPE).digest(Silent()) for name in ("a", "b", "all.bin")]
    assert digests[0] == digests[2] != digests[1]


def test_digest_follows_writes_that_no_file_system_shows(tmp_path: Path) -> None:
    """Through a mapping whose page is dirty already: size, inode and all times stay as they are."""
    images(4).tofile(tmp_path / "all.bin")
    mapped = np.memmap(tmp_path / "all.bin", np.float32, "r+")
    mapped[5] = 1.0
    first = open_samples(str(tmp_path), SHAPE).digest(Silent())
    mapped[5] = 2.0
    assert open_samples(str(tmp_path), SHAPE).digest(Silent()) != first


def test_an_image_that_changes_after_its_digest_is_refused(tmp_path: Path) -> None:
    images(4).tofile(tmp_path / "all.bin")
    samples = open_samples(str(tmp_path), SHAPE)
    samples.digest(Silent())
    part = samples.part(1, 3)
    assert np.array_equal(part.read(0)[0], images(4)[1])
    (images(4) + 1).tofile(tmp_path / "all.bin")
    with pytest.raises(DataError, match=r"all\.bin changed while it was in use; start again"):
        part.read(0)


def test_count(tmp_path: Path) -> None:
    images(8).tofile(tmp_path / "all.bin")
    samples = open_samples(str(tmp_path), SHAPE)
    assert len(choose_samples(samples, 5, "it")) == 5
    assert len(choose_samples(samples, None, "it")) == 8 <= DEFAULT_SAMPLES
    with pytest.raises(DataError, match="calibration_count is 9, but it holds 8 images"):
        choose_samples(samples, 9, "it")
    with pytest.raises(DataError, match=f"gives 3 calibration images, expected at least {MIN_SAMPLES}"):
        choose_samples(samples, 3, "it")
