"""Files with external data, found without reading the constants."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmx4trt.ir.external import external_files


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two large constants in a file each, a small one inside."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    weights = [numpy_helper.from_array(np.full(1024, n, np.float32), f"w{n}") for n in range(2)]
    weights.append(numpy_helper.from_array(np.zeros(1, np.float32), "small"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1024]) for name in ("x", "y")]
    nodes = [helper.make_node("Sum", ["x", "w0", "w1", "small"], ["y"])]
    path = tmp_path / "m.onnx"
    save(
        helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], weights)),
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=1024,
    )
    return path


def test_the_files_are_those_of_the_constants(model: Path) -> None:
    assert external_files(str(model)) == ["w0", "w1"]


def test_a_model_in_one_file_has_none(resnet50_file: Path) -> None:
    assert external_files(str(resnet50_file)) == []


def test_damage_is_a_value_error_wherever_it_is(model: Path) -> None:
    content = model.read_bytes()
    for cut in range(1, len(content), 7):
        model.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"."):
            external_files(str(model))
    model.write_bytes(content.replace(b"w0", b"/w"))
    with pytest.raises(ValueError, match="outside its folder"):
        external_files(str(model))
