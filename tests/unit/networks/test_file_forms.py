"""Files as exporters, optimisers and quantizers write them: built in every precision, or refused for their true reason."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_memory import InMemory

from cmx4trt import networks
from cmx4trt.base.progress import Silent
from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import CmxError, DataError, ModelError
from cmx4trt.ir.model import DType, Model, Node, Tensor
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.base import Network
from cmx4trt.pipeline.prepare import Prepared, prepare, verify
from cmx4trt.requests.build import BuildRequest

DATA = Path(__file__).parents[2] / "data"
FORMS = [
    "float16",
    "float16_inside",
    "bfloat16",
    "nhwc_input",
    "nhwc_everywhere",
    "auto_pad",
    "fused",
    "unoptimised",
    "second_output",
]


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The module of file forms, with the small network registered."""
    monkeypatch.syspath_prepend(DATA)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = import_module("small_network")
    with networks.registered(small.SmallNetwork()):
        yield import_module("file_forms")
    for name in ("small_network", "file_forms"):
        sys.modules.pop(name)


def small_model() -> Model:
    found: Model = import_module("small_network").small_model()
    return found


def request(precision: str, **values: Any) -> BuildRequest:
    own = {"random_weights": 0, "calibration_data": "random", "calibration_count": 4} if precision == "int8" else {}
    return BuildRequest.from_values({"network": "small", "precision": precision, **own, **values})


def prepared(model: Model, asked: BuildRequest) -> tuple[Prepared, InMemory]:
    source = InMemory(model)
    return prepare(asked, source, Silent()), source  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_network(forms: Any, form: str, precision: str) -> None:
    model = small_model()
    forms.SAME_NETWORK[form](model)
    asked = request(precision)
    made, source = prepared(model, asked)
    found = verify(made, source.message, asked)
    assert found.verdict == PASSED, found.sentence()
    assert made.graph.inputs[0].dims == ("N", 3, 32, 32)
    assert made.graph.inputs[0].dtype is DType.FLOAT
    operators = {node.op_type for node in made.graph.model.graph.nodes}
    assert operators <= {"Conv", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Flatten", "Gemm", "ArgMax", "Cast"} | (
        {"QuantizeLinear", "DequantizeLinear"} if precision == "int8" else set()
    )


def test_all_forms_are_tested(forms: Any) -> None:
    assert list(forms.SAME_NETWORK) == FORMS


def test_notes_say_what_was_done(forms: Any) -> None:
    said = {}
    for form in FORMS:
        model = small_model()
        forms.SAME_NETWORK[form](model)
        said[form] = prepared(model, request("fp32"))[0].graph.notes
    assert said["fused"]["fused_operators_split"] == "3"
    assert said["nhwc_input"]["channels_last_input"] == "1"
    assert said["auto_pad"]["auto_pad_resolved"] == "5"
    assert said["second_output"]["outputs_left_out"] == "flat"


class Notes(Silent):
    """Keeps what a build says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_second_output_is_named(forms: Any) -> None:
    model, notes = small_model(), Notes()
    forms.second_output(model)
    prepare(request("fp32"), InMemory(model), notes)  # type: ignore[arg-type]
    assert notes.said == ["the model's outputs flat are left out: the engine has Small classifier's"]


def scales_of(made: Prepared) -> dict[str, Any]:
    """QuantizeLinear's input -> its scale in the graph given to the builder."""
    graph = made.graph.model.graph
    found = {}
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            name = graph.producers()[node.inputs[0]].inputs[0] if node.inputs[0] == "input_float16" else node.inputs[0]
            found[name] = float(graph.initializers[node.inputs[1]].numpy())
    return found


def request_without_calibration(tmp_path: Path, model: Model) -> BuildRequest:
    path = tmp_path / "quantized.onnx"
    path.write_bytes(encode_model(model, None).message)
    return BuildRequest.from_values({"network": "small", "precision": "int8", "model": str(path)})


def test_a_model_optimizer_file_is_built_with_its_own_scales(forms: Any, tmp_path: Path) -> None:
    model = small_model()
    own = forms.model_optimizer_pairs(model)
    constants = dict(model.graph.initializers)
    asked = request_without_calibration(tmp_path, model)
    made, source = prepared(model, asked)
    found = verify(made, source.message, asked)
    assert found.verdict == PASSED, found.sentence()
    got = scales_of(made)
    own["input"] = own.pop("image")
    own["relu1"] = own["pool1"]  # max pooling keeps the range, and gets a pair on both sides
    assert got == {name: own[name] for name in got}
    assert set(own) - {"shortcut"} <= set(got)
    assert made.quantization is not None
    assert made.quantization.origin == "the model's own"
    weights = {t.name: t for t in made.graph.model.graph.initializers.values() if t.dtype is DType.INT8 and t.size > 1}
    for layer in ("conv1", "conv2", "conv3", "shortcut"):
        kernel, steps = (constants[f"{layer}.weight{end}"].numpy() for end in ("", "_scale"))
        expected = np.clip(np.rint(kernel / steps.reshape(-1, 1, 1, 1)), -128, 127).astype(np.int8)
        same = [t for t in weights.values() if t.dims == expected.shape and (t.numpy() == expected).all()]
        assert same, layer


def test_an_onnxruntime_file_is_built_with_its_own_ranges(forms: Any, tmp_path: Path) -> None:
    model = small_model()
    plain = model.copy()
    forms.onnxruntime_pairs(model)
    asked = request_without_calibration(tmp_path, model)
    made, source = prepared(model, asked)
    found = verify(made, source.message, asked)
    assert found.verdict == PASSED, found.sentence()
    assert made.graph.notes["own_ranges_made_symmetric"]
    largest = forms.largest_values(plain)
    scales = sorted(scales_of(made).values())
    assert any(abs(scale - largest["relu1"] / 127) < 1e-2 * scale for scale in scales)


@pytest.fixture
def quantizer(forms: Any) -> Any:
    """ONNX Runtime's."""
    return import_module("onnxruntime_quantizer")


@pytest.mark.parametrize("options", [{}, {"ActivationSymmetric": True}], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("signed", [False, True], ids=["uint8", "int8"])
def test_operators_on_integers_are_built_as_the_pairs_that_they_stand_for(
    quantizer: Any, tmp_path: Path, signed: bool, options: dict[str, Any]
) -> None:
    model = quantizer.quantized(small_model(), tmp_path, True, signed, **options)
    mean = [] if options else ["QLinearGlobalAveragePool"]  # else between two pairs already
    integers = [node.op_type for node in model.graph.nodes if node.op_type[:2] in ("QL", "QG")]
    assert sorted(integers) == sorted(["QLinearConv"] * 4 + ["QLinearAdd", "QGemm", *mean])
    pairs = quantizer.quantized(small_model(), tmp_path, False, signed, **options)
    asked = request_without_calibration(tmp_path, model)
    made, source = prepared(model, asked)
    found = verify(made, source.message, asked)
    assert found.verdict == PASSED, found.sentence()
    assert made.graph.notes["integer_operators_split"] == str(len(integers))
    same = prepared(pairs, request_without_calibration(tmp_path, pairs))[0]
    assert set(scales_of(made).values()) <= set(scales_of(same).values())


def test_pairs_of_each_reader_are_one_activation(quantizer: Any, tmp_path: Path) -> None:
    """A Relu that became a quantizer's clipping is one, however many quantizers there are."""
    options = {"DedicatedQDQPair": True}
    model = quantizer.quantized(small_model(), tmp_path, False, False, **options)
    asked = request_without_calibration(tmp_path, model)
    made, source = prepared(model, asked)
    assert verify(made, source.message, asked).verdict == PASSED
    assert sum(node.op_type == "Relu" for node in made.graph.model.graph.nodes) == 3


def test_a_class_as_good_as_the_best_agrees(forms: Any, quantizer: Any, tmp_path: Path) -> None:
    """Logits of integers have ties."""
    tied = {"logits": np.array([[1.0, 3.0, 3.0]]), "class": np.array([1])}
    results = networks.network_of("small").results(None, None)  # type: ignore[arg-type]
    assert results.count_agreeing(tied, {"class": np.array([2])}) == (1, 1)
    assert results.count_agreeing(tied, {"class": np.array([0])}) == (0, 1)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_quantized_file_is_refused_in_other_precisions(forms: Any, precision: str) -> None:
    model = small_model()
    forms.model_optimizer_pairs(model)
    with pytest.raises(ModelError, match=f"quantized already .* in int8, not in {precision}; give --precision=int8"):
        prepared(model, request(precision))


def test_own_scales_and_calibration_exclude_each_other(forms: Any) -> None:
    model = small_model()
    forms.model_optimizer_pairs(model)
    with pytest.raises(DataError, match="is built with its own scales; leave out calibration_data"):
        prepared(model, request("int8"))


def test_a_graph_that_is_not_the_quantized_file_fails(forms: Any, tmp_path: Path) -> None:
    """Exchanged channels of the last layer are found in floats."""
    model = small_model()
    forms.model_optimizer_pairs(model)
    asked = request_without_calibration(tmp_path, model)
    made, _ = prepared(model, asked)
    weight = model.graph.initializers["fc.weight"]
    model.graph.initializers["fc.weight"] = Tensor.from_numpy("fc.weight", weight.numpy()[::-1].copy())
    found = verify(made, InMemory(model).message, asked)
    assert found.verdict == FAILED
    assert "Gemm 'fc1000' differs from the original" in found.sentence()


def test_scales_that_are_not_the_quantized_files_fail(forms: Any, tmp_path: Path) -> None:
    """In floats both are the same; made-up images tell, since both sides round alike."""
    model = small_model()
    forms.model_optimizer_pairs(model)
    asked = request_without_calibration(tmp_path, model)
    made, source = prepared(model, asked)
    assert verify(made, source.message, asked).to_dict()["float32_graph"]["verdict"] == PASSED
    steps = model.graph.initializers["pool1_scale"]
    model.graph.initializers["pool1_scale"] = Tensor.from_numpy("pool1_scale", steps.numpy() / 32)
    found = verify(made, InMemory(model).message, asked)
    assert found.verdict == FAILED
    assert found.to_dict()["method"].endswith("against the quantized model")
    assert found.to_dict()["float32_graph"]["verdict"] == PASSED


def integer_operators(model: Model) -> None:
    model.graph.nodes[0].op_type = "ConvInteger"


def computed_scale(model: Model) -> None:
    node = model.graph.nodes[0]
    node.op_type = "QLinearConv"
    kernel, bias = node.inputs[1:]
    node.inputs = ["image", "a", "b", kernel, "c", "d", "e", "f", bias]


def one_cpus_layout(model: Model) -> None:
    model.graph.nodes[0].domain = "com.microsoft.nchwc"


def float8(model: Model) -> None:
    graph = model.graph
    graph.nodes[1:1] = [
        Node("QuantizeLinear", ["conv1", "conv3.bias"], ["q"], {}, "q"),
        Node("DequantizeLinear", ["q", "conv3.bias"], ["dq"], {}, "dq"),
    ]
    graph.nodes[3].inputs[0] = "dq"


REFUSED: dict[str, tuple[Callable[[Model], None], str]] = {
    "integers": (
        integer_operators,
        r"quantized with integer operators \(ConvInteger\), which have no form as .* here, expected a float model or Q/DQ",
    ),
    "scale": (computed_scale, "QLinearConv 'conv1' has a computed scale, expected constants; give the float model"),
    "layout": (one_cpus_layout, r"operators of the domain com.microsoft.nchwc \(Conv\), expected ONNX's own"),
    "scales": (float8, "'q' .*scale that is not a positive number|'q' gives an activation 16 scales, expected one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_true_reason_is_given(forms: Any, case: str) -> None:
    edit, sentence = REFUSED[case]
    model = small_model()
    edit(model)
    with pytest.raises(CmxError, match=sentence) as caught:
        prepared(model, request("fp32"))
    assert "is not Small" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_mode_is_named(forms: Any) -> None:
    model = small_model()
    forms.training_batch_norm(model)
    with pytest.raises(ModelError, match=r"BatchNormalization 'conv1_bn' is in training mode: .* evaluation mode"):
        prepared(model, request("fp32"))


def test_the_small_network_is_one(forms: Any) -> None:
    found: Network = networks.network_of("small")
    assert found.spec.title == "Small classifier"
