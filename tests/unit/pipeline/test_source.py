"""A model file as a source: what a lookup reads of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cmx4trt.errors import ModelError
from cmx4trt.pipeline.source import FileSource
from cmx4trt.store.fingerprint import source_of_record


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model whose one constant is in another file."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    weights = numpy_helper.from_array(np.arange(1024, dtype=np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1024]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights])
    path = tmp_path / "m.onnx"
    save(helper.make_model(graph), path, save_as_external_data=True, location="m.bin", size_threshold=16)
    return path, tmp_path / "m.bin"


def part(path: Path) -> str:
    return FileSource(str(path)).part()


def test_what_is_looked_up_is_what_is_built(files: tuple[Path, Path]) -> None:
    """The digests without reading weights are those of the bytes that are read."""
    looked_up, source = part(files[0]), FileSource(str(files[0]))
    source.model()
    assert source.part() == looked_up
    assert source_of_record(source.record(), "blake3") == looked_up
    assert "+external:" in looked_up


def test_a_lookup_of_what_is_no_model_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model" * 10**5)
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        part(path)


@pytest.mark.parametrize("which", [0, 1])
def test_other_bytes_are_another_source(files: tuple[Path, Path], which: int) -> None:
    former = part(files[0])
    content = bytearray(files[which].read_bytes())
    content[content.index(b"pytest") if b"pytest" in content else -1] ^= 1
    files[which].write_bytes(content)
    assert part(files[0]) != former


@pytest.mark.parametrize("damage", ["gone", "a pipe"])
def test_missing_external_data_are_an_error(files: tuple[Path, Path], damage: str) -> None:
    files[1].unlink()
    if damage == "a pipe":
        os.mkfifo(files[1])
    with pytest.raises(ModelError, match=r"cannot read model file .*m\.bin"):
        part(files[0])
