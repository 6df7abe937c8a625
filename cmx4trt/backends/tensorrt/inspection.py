"""What TensorRT's engine inspector reports about an engine, for the manifest: layers, their data types, formats and memory.

JSON layouts: "Engine Inspector" of the TensorRT documentation, and "Migrating IEngineInspector Usage from TensorRT 10.x
to 11.x": a tensor's "Format/Datatype" of release 10 is two fields, "Format" and "DataType", in release 11.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.tensorrt.serialize import collecting_logger

if TYPE_CHECKING:
    from cmx4trt.backends.tensorrt.library import Library

_DATA_TYPES = (
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|half|float16"),
    ("fp32", r"fp32|float"),
    ("fp8", r"fp8"),
    ("int8", r"int8"),
    ("int4", r"int4"),
    ("int64", r"int64"),
    ("int32", r"int32"),
    ("bool", r"bool"),
)
"""Our name of a data type and its name in TensorRT's texts, in search order."""
_UNKNOWN = "unknown"


def inspect_engine(trt: Library, engine: Any) -> dict[str, Any]:
    """Facts of a serialized ``engine`` found by loading it on the local GPU.

    If it cannot be loaded (because it is for other GPUs), reports that instead: the build itself succeeded.
    """
    logger = collecting_logger(trt)
    runtime = trt.Runtime(logger)
    loaded: Any = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        return {"engine_inspection": f"not possible here: {logger.reason()}"}
    size = getattr(loaded, "device_memory_size_v2", None)
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return {
        "activation_memory_bytes": loaded.device_memory_size if size is None else size,
        "auxiliary_streams": loaded.num_aux_streams,
        **facts_of_layers(text),
    }


def facts_of_layers(text: str) -> dict[str, Any]:
    """A summary of the layers, and the number of layers per output data type and format, from the inspector's JSON."""
    layers = [_layer_record(layer) for layer in json.loads(text).get("Layers", [])]
    return {
        "engine_layers": len(layers),
        "layer_data_types": _histogram(layer["data_type"] for layer in layers),
        "layer_formats": _histogram(layer["format"] for layer in layers),
        "layers": layers,
    }


def _layer_record(layer: Mapping[str, Any] | str) -> dict[str, str]:
    """One layer: name, type, kernel, and data type and format of its first output. Without details it is only a name."""
    if isinstance(layer, str):
        return {"name": layer, "type": _UNKNOWN, "data_type": _UNKNOWN, "format": _UNKNOWN, "kernel": ""}
    outputs: list[Mapping[str, Any]] = list(layer.get("Outputs") or [{}])
    output = outputs[0]
    joined = str(output.get("Format/Datatype") or "")
    layout = str(output.get("Format") or joined or _UNKNOWN)
    return {
        "name": str(layer.get("Name", "")),
        "type": str(layer.get("LayerType", _UNKNOWN)),
        "data_type": _data_type_in(str(output.get("DataType") or joined or layout)),
        "format": layout,
        "kernel": str(layer.get("TacticName", "")),
    }


def _data_type_in(text: str) -> str:
    found = (name for name, pattern in _DATA_TYPES if re.search(pattern, text, re.IGNORECASE))
    return next(found, _UNKNOWN)


def _histogram(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())
