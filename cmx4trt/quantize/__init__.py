"""INT8: ranges of activations from images or from a calibration cache, and explicit Q/DQ for TensorRT.

Network --quantize_network--> the same Network with QuantizeLinear and DequantizeLinear in it
"""

from __future__ import annotations

from cmx4trt.quantize.calibration import CalibrationData, calibrate, open_data
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.quantizer import QuantizationReport, check_request, quantize_network

__all__ = [
    "CalibrationData",
    "QuantizationReport",
    "calibrate",
    "check_request",
    "open_data",
    "place",
    "quantize_network",
]
