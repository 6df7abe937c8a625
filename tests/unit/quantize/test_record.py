"""What the manifest says of INT8."""

from __future__ import annotations

import pytest

from cmx4trt.base.typed import WrongRecordError
from cmx4trt.quantize.record import LayerGain, QuantizationRecord

RECORD = QuantizationRecord(
    origin="images",
    method="entropy",
    samples=500,
    layers=54,
    quantized_layers=53,
    kept=["fc1000"],
    rules={"layer-input": 53},
    ranking=[LayerGain("conv1", 0.25, 1.25)],
)


def test_it_is_read_as_it_was_written() -> None:
    assert QuantizationRecord.from_dict(RECORD.to_dict()) == RECORD
    assert RECORD.to_dict()["ranking"] == [{"layer": "conv1", "share": 0.25, "gain_db": 1.25}]
    assert RECORD.to_dict()["input_scale"] is None, "null, not missing"


def test_what_a_former_release_did_not_record_has_a_default() -> None:
    assert QuantizationRecord.from_dict({"input_scale": 0.5}) == QuantizationRecord(input_scale=0.5)


def test_a_value_of_another_type_is_named() -> None:
    with pytest.raises(WrongRecordError, match=r"graph\.quantization\.ranking\[0\]\.share is missing"):
        QuantizationRecord.from_dict({"ranking": [{"layer": "conv1"}]}, "graph.quantization")
