from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cmx4trt.errors import ModelError
from cmx4trt.ir.model import DType, Graph, Node, Tensor
from cmx4trt.ir.onnx_file import EncodedGraph, decode_encoded, decode_model, encode_model, read_bytes, with_output

TYPES = [
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT64,
    TensorProto.BOOL,
    TensorProto.BFLOAT16,
]


def wrap(tensor: TensorProto, **attributes: object) -> bytes:
    node = helper.make_node("Thing", ["x", tensor.name], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, None])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("code", TYPES)
def test_constants_of_every_type_have_the_values_that_onnx_reads(code: int, raw: bool) -> None:
    values = np.array([[0, 1, 2], [1, 100, 3]]) if code != TensorProto.BOOL else np.array([[0, 1, 1], [1, 0, 0]])
    dtype = helper.tensor_dtype_to_np_dtype(code)
    array = values.astype(dtype)
    tensor = helper.make_tensor("w", code, array.shape, array.tobytes() if raw else array.ravel().tolist(), raw=raw)
    ours = decode_model(wrap(tensor)).graph.initializers["w"]
    expected = numpy_helper.to_array(tensor)
    assert ours.dims == (2, 3)
    assert bytes(ours.data) == np.ascontiguousarray(expected).tobytes()


def test_negative_integers_survive_the_typed_field() -> None:
    tensor = helper.make_tensor("w", TensorProto.INT32, [3], [-1, -(2**31), 2**31 - 1])
    assert decode_model(wrap(tensor)).graph.initializers["w"].numpy().tolist() == [-1, -(2**31), 2**31 - 1]


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
attribute = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    finite,
    st.text(st.characters(codec="utf-8")),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(finite, min_size=1),
    st.lists(st.text(st.characters(codec="utf-8")), min_size=1),
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), attribute, max_size=5), st.lists(finite, max_size=40)
)
def test_attributes_and_constants_round_trip_through_onnx(attributes: dict[str, object], values: list[float]) -> None:
    tensor = numpy_helper.from_array(np.array(values, np.float32), "w")
    ours = decode_model(wrap(tensor, **attributes))
    assert ours.graph.nodes[0].attributes == attributes
    again = onnx.load_model_from_string(encode_model(ours, None).message)
    got = {a.name: helper.get_attribute_value(a) for a in again.graph.node[0].attribute}
    as_text = {k: v.encode() if isinstance(v, str) else v for k, v in attributes.items()}
    as_text = {
        k: [s.encode() for s in v] if isinstance(v, list) and isinstance(v[0], str) else v for k, v in as_text.items()
    }
    assert {k: list(v) if isinstance(as_text[k], list) else v for k, v in got.items()} == as_text
    assert numpy_helper.to_array(again.graph.initializer[0]).tolist() == np.array(values, np.float32).tolist()


def test_subgraphs_and_shapes_round_trip(model_from_text) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 3, ?] x, bool c) => (float y) {
        y = If (c) <then_branch = a () => (float t) { t = Relu(x) }, else_branch = b () => (float e) { e = Abs(x) }>
    }"""
    model = model_from_text(text)
    node = model.graph.nodes[0]
    assert isinstance(node.attributes["then_branch"], Graph)
    assert set(model.graph.consumers()["x"]) == {node}
    assert [info.dims for info in model.graph.inputs] == [("N", 3, None), ()]
    again = onnx.load_model_from_string(encode_model(model).message)
    onnx.checker.check_model(again)
    assert decode_model(again.SerializeToString()).graph.nodes[0].attributes["else_branch"].nodes[0].op_type == "Abs"


def test_large_constants_stay_outside_and_are_not_copied() -> None:
    array = np.arange(1000, dtype=np.float32)
    content = memoryview(wrap(numpy_helper.from_array(array, "w")))
    model = decode_model(content)
    assert model.graph.initializers["w"].data.obj is content.obj
    encoded = encode_model(model)
    assert encoded.constants["w"].data.obj is content.obj
    assert len(encoded.message) < 400
    assert encode_model(model, None).constants == {}


def test_external_data_is_read_from_beside_the_model(tmp_path: Path) -> None:
    array = np.arange(4096, dtype=np.float32).reshape(64, 64)
    model = onnx.load_model_from_string(wrap(numpy_helper.from_array(array, "w")))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    ours = decode_model(read_bytes(str(tmp_path / "m.onnx")), str(tmp_path))
    assert np.array_equal(ours.graph.initializers["w"].numpy(), array)
    with pytest.raises(ModelError, match=r"cannot read model file .*weights.bin"):
        decode_model(read_bytes(str(tmp_path / "m.onnx")), str(tmp_path / "elsewhere"))


def test_the_digest_of_a_graph_covers_its_large_constants() -> None:
    arrays = [np.zeros(1000, np.float32), np.ones(1000, np.float32)]
    graphs = [encode_model(decode_model(wrap(numpy_helper.from_array(array, "w")))) for array in arrays]
    assert graphs[0].message == graphs[1].message
    assert graphs[0].sha256() != graphs[1].sha256()


def test_external_constants_inside_operators_are_refused() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "inner")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "m.bin"
    model = onnx.load_model_from_string(wrap(numpy_helper.from_array(np.zeros(4, np.float32), "w")))
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=tensor))
    with pytest.raises(ModelError, match=r"constant 'inner' inside an operator is in the external file 'm\.bin'"):
        decode_model(model.SerializeToString())


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", ""])
def test_external_data_outside_the_models_folder_is_refused(tmp_path: Path, location: str) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    with pytest.raises(ModelError, match="outside the model's folder"):
        decode_model(wrap(tensor), str(tmp_path))


def test_every_truncation_is_refused(resnet50_file: Path) -> None:
    content = resnet50_file.read_bytes()
    for keep in (1, 10, len(content) // 2, len(content) - 1):
        with pytest.raises(ModelError, match="the model is not"):
            decode_model(content[:keep])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_crashes(content: bytes) -> None:
    with pytest.raises(ModelError):
        decode_model(content)


def test_other_files_are_refused_in_one_sentence() -> None:
    for content in (b"PK\x03\x04 not a model", b"hello world\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(64)):
        with pytest.raises(ModelError, match=r"not .*ONNX") as error:
            decode_model(content, where="model file x.onnx")
        assert "\n" not in str(error.value)


def test_functions_and_sparse_constants_are_refused() -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    model = onnx.load_model_from_string(wrap(tensor))
    model.functions.add().name = "f"
    with pytest.raises(ModelError, match="functions inlined"):
        decode_model(model.SerializeToString())
    model = onnx.load_model_from_string(wrap(tensor))
    model.graph.sparse_initializer.add()
    with pytest.raises(ModelError, match="sparse constants"):
        decode_model(model.SerializeToString())


def test_read_bytes_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ModelError, match="is empty"):
        read_bytes(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="cannot read model file"):
        read_bytes(str(tmp_path / "missing"))
    with pytest.raises(ModelError, match="cannot read model file"):
        read_bytes(str(tmp_path))


def test_with_output_adds_one_output_and_changes_nothing_else(model_from_text) -> None:
    model = model_from_text("g (float[2] x) => (float[2] y) { a = Relu(x)\n y = Abs(a) }")
    message = encode_model(model).message
    assert with_output(message, "y") == message
    more = with_output(message, "a")
    assert more.startswith(message)
    parsed = onnx.load_model_from_string(more)
    assert [output.name for output in parsed.graph.output] == ["y", "a"]
    assert len(parsed.graph.node) == 2


def test_constants_among_the_inputs_are_not_inputs() -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    proto = onnx.load_model_from_string(wrap(tensor))
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))
    assert [info.name for info in decode_model(proto.SerializeToString()).graph.inputs] == ["x"]


def test_scalars_and_empty_lists_encode(model_from_text) -> None:
    model = model_from_text("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.nodes[0].attributes.update(
        empty=[], zero=0, nothing=0.0, blank="", t=Tensor("t", DType.FLOAT, (), b"\0\0\x80?")
    )
    again = decode_model(encode_model(model).message).graph.nodes[0]
    assert again.attributes["empty"] == []
    assert (again.attributes["zero"], again.attributes["nothing"], again.attributes["blank"]) == (0, 0.0, "")
    assert again.attributes["t"].numpy() == 1.0
    assert isinstance(again, Node)


def test_an_encoded_graph_with_an_appended_output_is_decoded_whole(model_from_text) -> None:  # type: ignore[no-untyped-def]
    model = model_from_text(
        '<ir_version: 9, opset_import: ["" : 19]> g (float[2] x) => (float[2] y) { a = Neg (x) y = Relu (a) }'
    )
    large = Tensor.from_numpy("large", np.arange(1000, dtype=np.float32))
    model.graph.initializers["large"] = large
    encoded = encode_model(model)
    found = decode_encoded(EncodedGraph(with_output(encoded.message, "a"), encoded.constants)).graph
    assert [info.name for info in found.outputs] == ["y", "a"]
    assert len(found.nodes) == 2
    assert bytes(found.initializers["large"].data) == bytes(large.data)
    with pytest.raises(ModelError, match="constant 'large' is missing"):
        decode_encoded(EncodedGraph(encoded.message, {}))
