"""A model file as a source: what a lookup reads of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cmx4trt.base.digests import digests_of
from cmx4trt.pipeline.source import FileSource
from cmx4trt.store.fingerprint import source_of_record


def record_of(path: Path, *external: Path) -> dict[str, object]:
    def digests(file: Path) -> dict[str, object]:
        return {"bytes": file.stat().st_size, **digests_of(file.read_bytes())}

    others = [{"file": file.name, **digests(file)} for file in external]
    return {"kind": "file", "path": str(path), **digests(path), "external": others}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "m.onnx").write_bytes(b"not decoded")
    (tmp_path / "m.bin").write_bytes(b"weights")
    return tmp_path / "m.onnx", tmp_path / "m.bin"


def test_the_recorded_files_need_no_decoding(files: tuple[Path, Path]) -> None:
    record = record_of(*files)
    assert FileSource(str(files[0])).part_if(record) == source_of_record(record, "blake3")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", ["other bytes", "longer", "gone", "a pipe"])
def test_any_doubt_is_no_part(files: tuple[Path, Path], which: int, damage: str) -> None:
    record, source, path = record_of(*files), FileSource(str(files[0])), files[which]
    content = path.read_bytes()
    if damage == "other bytes":
        path.write_bytes(content[::-1])
    elif damage == "longer":
        path.write_bytes(content + b".")
    else:
        path.unlink()
    if damage == "a pipe":
        os.mkfifo(path)
    assert source.part_if(record) != source_of_record(record, "blake3")


@pytest.mark.parametrize(
    "change",
    [{"bytes": None}, {"external": 7}, {"external": [{}]}, {"external": [{"file": "../m.bin"}]}, {"blake3": 3}],
)
def test_a_record_that_is_none_is_no_part(files: tuple[Path, Path], change: dict[str, object]) -> None:
    assert FileSource(str(files[0])).part_if({**record_of(*files), **change}) == ""
