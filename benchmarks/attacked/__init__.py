"""The kinds of files that attacks.py damages: a valid file, how the package reads it, and an independent reader to compare
with."""

from __future__ import annotations

from attacked.base import Kind
from attacked.calibration import CalibrationImage, CalibrationList, CalibrationState, RangesFile, TensorrtCache
from attacked.engines import KernelChoices, ManifestFile, RequestFile
from attacked.models import OnnxFile, Resnet50File
from attacked.runs import AccuracyLog, DetailLog, EvaluationFile, ResultFile, UserConf
from attacked.truth import AnnotationFile, DatasetImage, LabelFile

KINDS: dict[str, type[Kind]] = {
    "onnx": OnnxFile,
    "onnx-resnet50": Resnet50File,
    "npy-calibration": CalibrationImage,
    "npy-data-set": DatasetImage,
    "calibration-state": CalibrationState,
    "ranges": RangesFile,
    "tensorrt-cache": TensorrtCache,
    "calibration-list": CalibrationList,
    "kernel-choices": KernelChoices,
    "manifest": ManifestFile,
    "request": RequestFile,
    "evaluation": EvaluationFile,
    "loadgen-result": ResultFile,
    "loadgen-detail-log": DetailLog,
    "loadgen-accuracy-log": AccuracyLog,
    "user-conf": UserConf,
    "labels": LabelFile,
    "annotations": AnnotationFile,
}
"""Name on the command line -> kind."""
