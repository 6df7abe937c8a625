from __future__ import annotations

import json

import pytest

from cmx4trt.backends.tensorrt.inspection import facts_of_layers


def layer(**output: object) -> dict[str, object]:
    return {
        "Name": "res2a",
        "LayerType": "CaskConvolution",
        "TacticName": "sm90_xmma",
        "Inputs": [{"Name": "x", "Format/Datatype": "Int8"}],
        "Outputs": [output, {"Format/Datatype": "Int32"}] if output else [],
    }


@pytest.mark.parametrize(
    ("output", "data_type", "layout"),
    [
        # TensorRT 10: one field, in the words of its releases
        ({"Format/Datatype": "Row major linear FP32"}, "fp32", "Row major linear FP32"),
        ({"Format/Datatype": "Half"}, "fp16", "Half"),
        ({"Format/Datatype": "Float"}, "fp32", "Float"),
        ({"Format/Datatype": "BFloat16"}, "bf16", "BFloat16"),
        (
            {"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"},
            "int8",
            "Thirty-two wide channel vectorized row major Int8 format",
        ),
        # TensorRT 11: two fields
        (
            {"DataType": "Half", "Format": "Channel major FP16 format where channel % 8 == 0"},
            "fp16",
            "Channel major FP16 format where channel % 8 == 0",
        ),
        ({"DataType": "Int64", "Format": "Row major linear (kLINEAR)"}, "int64", "Row major linear (kLINEAR)"),
        ({}, "unknown", "unknown"),
    ],
)
def test_data_types_and_formats(output: dict[str, object], data_type: str, layout: str) -> None:
    facts = facts_of_layers(json.dumps({"Layers": [layer(**output)]}))
    assert facts["layers"] == [
        {"name": "res2a", "type": "CaskConvolution", "data_type": data_type, "format": layout, "kernel": "sm90_xmma"}
    ]


def test_histograms() -> None:
    text = json.dumps({"Layers": [layer(**{"Format/Datatype": t}) for t in ("Half", "Int8", "Half", "Half")]})
    facts = facts_of_layers(text)
    assert facts["engine_layers"] == 4
    assert facts["layer_data_types"] == {"fp16": 3, "int8": 1}
    assert facts["layer_formats"] == {"Half": 3, "Int8": 1}


def test_layers_without_details_are_names() -> None:
    facts = facts_of_layers(json.dumps({"Layers": ["conv1", "conv2"], "Bindings": ["x"]}))
    assert facts["layer_data_types"] == {"unknown": 2}
    assert [record["name"] for record in facts["layers"]] == ["conv1", "conv2"]
