"""Networks of different origin, right by construction, in which mistakes.py plants mistakes.

Drawn here, written as MLPerf's own file, trained, exported from torchvision and timm with each of torch's exporters, and files.
Each is made anew where it is needed, always the same; what needs torch or timm is left out, with the reason, without them.
"""

from __future__ import annotations

import argparse
import io
import lzma
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import planted

from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.retinanet import random_weights as retinanet
from cmx4trt.networks.retinanet.random_weights import Topology
from cmx4trt.networks.retinanet.spec import Body, DetectorSpec

SIZE = 64
"""Side of a classifier's images where the file leaves it open: the passes and limits do not know of it."""
DETECTOR_SIZE = 256
TORCH, TIMM = ("torch", "torchvision", "onnx", "onnxscript"), ("torch", "torchvision", "onnx", "onnxscript", "timm")

Made = tuple[Model, ModelSpec]


@dataclass(frozen=True)
class Candidate:
    """A network: its ``make`` gives file and sizes; ``needs`` are modules; of large ones few cases are computed in a process."""

    title: str
    origin: str
    make: Callable[[], Made]
    needs: tuple[str, ...] = ()
    cases_at_a_time: int = 20

    def missing(self) -> list[str]:
        """The modules that it needs and that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What ``candidates`` reads."""
    parser.add_argument("--resnets", type=int, default=16, help="ResNet-50s drawn here")
    parser.add_argument("--detectors", type=int, default=12, help="small RetinaNets drawn here")
    parser.add_argument("--trained", type=Path, nargs="*", default=[], help="folders that train_resnet50.py wrote")
    parser.add_argument(
        "--retinanet_file", type=Path, nargs="*", default=[], help="RetinaNets of 800 x 800, .onnx or .onnx.xz"
    )
    parser.add_argument("--no_torch", action="store_true", help="without those exported from torchvision and timm")


def candidates(options: argparse.Namespace) -> list[Candidate]:
    """All that the options name, those that take longest first."""
    return [
        *_files(options.retinanet_file),
        *([] if options.no_torch else [*_torchvision_detectors(), *_exported_classifiers()]),
        *_trained(options.trained),
        *_drawn_classifiers(options.resnets),
        *_tensorflow_style(),
        *_drawn_detectors(options.detectors),
    ]


def _classifier(model: Model, size: int = SIZE) -> Made:
    spec = replace(spec_of("resnet50"), input_shape=(3, size, size))
    model.graph.inputs[0].dims = ("N", *spec.input_shape)
    return model, spec


def _drawn_classifiers(count: int) -> Iterator[Candidate]:
    for number in range(count):
        kind = planted.KINDS[number % len(planted.KINDS)]
        make = partial(lambda kind, seed: _classifier(planted.resnet50_of(kind, seed)), kind, number)
        yield Candidate(f"ResNet-50 {number}: {kind.title}", "drawn", make)


def _tensorflow_style() -> Iterator[Candidate]:
    """As MLPerf's own file is: TensorFlow's padding and tail, 1001 classes, pixels of +-128."""
    forms: list[tuple[int, int, bool]] = [(8, 60, True), (11, 61, True), (13, 62, False), (11, 63, False)]
    for opset, seed, batch_norm in forms:
        title = f"MLPerf's form, opset {opset}, {'batch normalization' if batch_norm else 'folded'}, seed {seed}"
        yield Candidate(title, "TensorFlow style", partial(_as_mlperfs, opset, seed, batch_norm))


def _as_mlperfs(opset: int, seed: int, batch_norm: bool) -> Made:
    written_as_mlperfs = _module_of_tests("mlperf_file").written_as_mlperfs
    model, spec = _classifier(planted.resnet50_of(planted.Kind("", stem=1 / 60), seed))
    return written_as_mlperfs(model, opset, "N", batch_norm), spec


def _module_of_tests(name: str) -> ModuleType:
    folder = str(Path(__file__).parents[1] / "tests" / "data")
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module(name)


def _trained(folders: list[Path]) -> Iterator[Candidate]:
    for folder in folders:
        yield Candidate(f"trained: {folder.name}", "trained", partial(_read_trained, folder))


def _read_trained(folder: Path) -> Made:
    parts = sorted(folder.glob("resnet50.onnx*"))
    if not parts:
        raise FileNotFoundError(f"{folder} holds no resnet50.onnx.000, which train_resnet50.py writes")
    return decode_model(b"".join(part.read_bytes() for part in parts)), spec_of("resnet50")


def _files(paths: list[Path]) -> Iterator[Candidate]:
    for path in paths:
        yield Candidate(f"file {path.name}", "file", partial(_read_file, path), cases_at_a_time=1)


def _read_file(path: Path) -> Made:
    content = path.read_bytes()
    return decode_model(lzma.decompress(content) if path.suffix == ".xz" else content), spec_of("retinanet")


def _drawn_detectors(count: int) -> Iterator[Candidate]:
    for number in range(count):
        yield Candidate(f"RetinaNet {number}", "drawn, detector", partial(_drawn_detector, number))


def _drawn_detector(number: int) -> Made:
    """All of RetinaNet's structure and few channels; every third of another topology."""
    model, topology = planted.small_detector(number)
    if number % 3 == 2:
        body = Body(stem=12, blocks=(1, 2, 1, 2), width=16, groups=4 if number % 2 else 8, pyramid=16, tower=2)
        topology = replace(topology, image_size=192, body=body)
        model = retinanet.model_from_seed(number, topology)
    return model, topology.spec()


def _exported_classifiers() -> Iterator[Candidate]:
    ways: dict[str, dict[str, Any]] = {
        "TorchScript exporter, opset 13": {"opset_version": 13, "dynamo": False},
        "TorchScript exporter, batch normalization kept": {"opset_version": 17, "dynamo": False, "unfolded": True},
        "torch.export": {"dynamo": True},
        "torch.export, unoptimized, channels last": {"dynamo": True, "optimize": False, "channels_last": True},
        "float16": {"opset_version": 17, "dynamo": False, "half": "float16"},
        "bfloat16": {"dynamo": True, "half": "bfloat16"},
    }
    for seed, (title, way) in enumerate(ways.items(), 100):
        make = partial(_exported_classifier, "torchvision", seed, 1000, way)
        yield Candidate(f"torchvision resnet50, {title}", "torchvision", make, TORCH)
    for seed, classes in ((200, 1000), (201, 37)):
        way = {"dynamo": bool(seed % 2), **({} if seed % 2 else {"opset_version": 17})}
        make = partial(_exported_classifier, "timm", seed, classes, way)
        yield Candidate(f"timm resnet50, {classes} classes", "timm", make, TIMM)


def _exported_classifier(library: str, seed: int, classes: int, way: dict[str, Any]) -> Made:
    import torch

    torch.manual_seed(seed)
    if library == "timm":
        network = import_module("timm").create_model(
            "resnet50", pretrained=False, num_classes=classes, zero_init_last=False
        )
    else:
        import torchvision

        network = torchvision.models.resnet50(weights=None, num_classes=classes)
    _settle(network, lambda: torch.randn(4, 3, SIZE, SIZE))
    return _classifier(decode_model(_export(network, torch.zeros(1, 3, SIZE, SIZE), way)))


def _settle(network: Any, images: Callable[[], Any]) -> None:
    """Batch normalization as in a trained network: its statistics are those of what it gets, factors and offsets differ."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.2)
            norm.bias.normal_(0, 0.2)
            norm.momentum = None
        network.train()
        for _ in range(2):
            network(images())
    network.eval()


def _export(network: Any, image: Any, way: dict[str, Any]) -> bytes:
    """The ONNX file that torch's exporter makes; ``way`` has its options and ours: half, channels_last, unfolded."""
    import torch

    options = {name: value for name, value in way.items() if name not in ("half", "channels_last", "unfolded")}
    if "half" in way:
        dtype = getattr(torch, way["half"])
        network, image = network.to(dtype), image.to(dtype)
    if way.get("channels_last"):
        network, image = (x.to(memory_format=torch.channels_last) for x in (network, image))
    if way.get("unfolded"):
        options |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    if not way["dynamo"]:
        buffer = io.BytesIO()
        torch.onnx.export(network, (image,), buffer, **options)
        return buffer.getvalue()
    program = torch.onnx.export(network, (image,), verbose=False, **options)
    return bytes(program.model_proto.SerializeToString())


def _torchvision_detectors() -> Iterator[Candidate]:
    for seed, classes in ((300, 264), (301, 91)):
        title = f"torchvision RetinaNet ResNeXt-50, {classes} classes"
        yield Candidate(title, "torchvision, detector", partial(_exported_detector, seed, classes), TORCH, 5)


def _spread(network: Any, images: Any) -> None:
    """Heads that differ from place to place, as trained ones do: logits by about 1, offsets by about 0.3."""
    import torch

    with torch.no_grad():
        for layer in [m for m in network.head.modules() if isinstance(m, torch.nn.Conv2d)]:
            torch.nn.init.kaiming_normal_(layer.weight)
        found = network.head(list(network.backbone(images).values()))
        network.head.classification_head.cls_logits.weight.div_(found["cls_logits"].std())
        network.head.regression_head.bbox_reg.weight.mul_(0.3 / found["bbox_regression"].std())


def _exported_detector(seed: int, classes: int) -> Made:
    """torchvision's RetinaNet on ResNeXt-50 32x4d, for images of 256 x 256, with head weights that find something."""
    import torch
    from torch import nn
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.retinanet import RetinaNet
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.manual_seed(seed)
    backbone = resnet_fpn_backbone(
        backbone_name="resnext50_32x4d",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
        trainable_layers=5,
    )
    _settle(backbone, lambda: torch.randn(2, 3, DETECTOR_SIZE, DETECTOR_SIZE))
    limits: dict[str, Any] = {
        "score_thresh": 0.05,
        "nms_thresh": 0.5,
        "topk_candidates": 200,
        "detections_per_img": 100,
    }
    sizes = {"min_size": DETECTOR_SIZE, "max_size": DETECTOR_SIZE}
    network = RetinaNet(backbone, classes, **sizes, **limits).eval()
    _spread(network, torch.rand(1, 3, DETECTOR_SIZE, DETECTOR_SIZE))

    class OneImage(nn.Module):  # type: ignore[misc]  # torch is not installed where types are checked
        """A batch of one, and its results without names."""

        def __init__(self) -> None:
            super().__init__()
            self.detector = network.requires_grad_(False)

        def forward(self, images: Any) -> tuple[Any, Any, Any]:
            found = self.detector([images[0]])[0]
            return found["boxes"], found["scores"], found["labels"]

    buffer = io.BytesIO()
    image = torch.rand(1, 3, DETECTOR_SIZE, DETECTOR_SIZE)
    torch.onnx.export(OneImage().eval(), (image,), buffer, dynamo=False, opset_version=13)
    detector = DetectorSpec(
        classes=classes,
        score_threshold=limits["score_thresh"],
        candidates=limits["topk_candidates"],
        detections=limits["detections_per_img"],
    )
    return decode_model(buffer.getvalue()), Topology(DETECTOR_SIZE, Body(), detector).spec()
