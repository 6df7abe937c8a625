"""Trains RetinaNet for a few minutes on the made-up images of textured_objects.py and writes it as ONNX.

    python benchmarks/train_retinanet.py --out FOLDER [--seconds 200] [--seed 50] [--classes 5] [--width 64]

The network is the one that this package builds, with all its blocks, pyramid levels and convolutions in the heads; images are
smaller (``--size 256``), and ``--width`` says how many channels it has (128: ResNeXt-50 32x4d). It needs torch, onnx and a GPU;
no network access. FOLDER gets ``retinanet.onnx``, with the post-processing inside, and ``retinanet.json``. ``int8_accuracy.py``
uses it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import textured_objects
import torch
import training
from torch import nn
from torch.nn import functional

from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.retinanet.random_weights import CLASS_PRIOR, Topology, anchor_table, model_from_seed
from cmx4trt.networks.retinanet.spec import EXPANSION, Body, DetectorSpec

HELD_OUT_SEED = 51
POSITIVE, NEGATIVE = 0.5, 0.4
"""Overlap with an object from which an anchor stands for it, and below which it stands for nothing (arXiv:1708.02002,
section 4)."""
ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss (arXiv:1708.02002, section 5.1)."""
MOST_GRADIENT = 10.0
"""Largest norm of a step's gradient: the heads have no normalization that would bound it."""
HOPELESS = 0.4
"""After this share of the time, a loss of classes that is no better than that of an untrained network ends the run."""


def main() -> None:
    options = read_options()
    device = training.begin(options)
    topology = sizes(options)
    model: Any = Detector(topology).to(device, memory_format=torch.channels_last)
    steps, losses = train(model, topology, options, device)
    onnx = transplanted(model.float().eval().cpu(), topology)
    (options.out / "retinanet.onnx").write_bytes(encode_model(onnx, None).message)
    facts = {
        "kind": "retinanet",
        "size": options.size,
        "body": asdict(topology.body),
        "classes": options.classes,
        "held_out_seed": HELD_OUT_SEED,
        "last losses (classes, boxes)": losses,
    }
    training.write_facts(options.out / "retinanet.json", facts | training.facts_of_run(options, steps, device))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=200.0, help="training time")
    parser.add_argument("--seed", type=int, default=50, help="of the first weights and the training images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--classes", type=int, default=5, help="number of classes: 5 shapes, or 25 with their patterns")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage's grouped convolutions")
    parser.add_argument("--blocks", type=int, nargs=4, default=[3, 4, 6, 3], help="blocks of each stage")
    parser.add_argument("--tower", type=int, default=4, help="convolutions in front of a head's last")
    parser.add_argument("--rate", type=float, default=training.PEAK_RATE, help="the maximum learning rate")
    parser.add_argument("--weight_decay", type=float, default=training.WEIGHT_DECAY)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def sizes(options: argparse.Namespace) -> Topology:
    width = options.width
    body = Body(min(64, width), tuple(options.blocks), width, max(1, width // 4), 2 * width, options.tower)
    return Topology(options.size, body, DetectorSpec(classes=options.classes))


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """With batch normalization."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):  # type: ignore[misc]
    """A residual block of ResNeXt."""

    def __init__(self, channels: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.first = convolution(channels, width, 1)
        self.grouped = convolution(width, width, 3, stride, groups)
        self.last = convolution(width, outputs, 1)
        self.shortcut = convolution(channels, outputs, 1, stride) if channels != outputs or stride != 1 else None

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        branch = self.last(functional.relu(self.grouped(functional.relu(self.first(value)))))
        return functional.relu(branch + (value if self.shortcut is None else self.shortcut(value)))


class Detector(nn.Module):  # type: ignore[misc]
    """RetinaNet between normalized images and head tensors; its convolutions are made in the order of
    ``random_weights.model_from_seed``."""

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        body, detector = topology.body, topology.detector
        self.stem = convolution(3, body.stem, 7, 2)
        channels, stages = body.stem, []
        for stage, count in enumerate(body.blocks):
            width = body.width << stage
            blocks = []
            for block in range(count):
                blocks.append(Block(channels, width, 2 if stage and not block else 1, body.groups))
                channels = width * EXPANSION
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        inner = body.pyramid
        self.laterals = nn.ModuleList(convolution((body.width << s) * EXPANSION, inner, 1) for s in (1, 2, 3))
        self.levels = nn.ModuleList(convolution(inner, inner, 3) for _ in range(3))
        self.smaller = nn.ModuleList(convolution(inner, inner, 3, 2) for _ in range(2))
        anchors = detector.anchors_per_location
        self.classes = head(inner, body.tower, anchors * detector.classes, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
        self.boxes = head(inner, body.tower, anchors * 4, 0.0)

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Images [B, 3, S, S] -> of each level the class logits [B, A * K, H, W], and the box offsets [B, A * 4, H, W]."""
        value = functional.max_pool2d(functional.relu(self.stem(images)), 3, 2, 1)
        stages = [value := stage(value) for stage in self.stages]
        merged = [lateral(stage) for lateral, stage in zip(self.laterals, stages[1:], strict=True)]
        for level in (1, 0):
            merged[level] = merged[level] + functional.interpolate(merged[level + 1], scale_factor=2)
        features = [layer(value) for layer, value in zip(self.levels, merged, strict=True)]
        features.append(self.smaller[0](features[-1]))
        features.append(self.smaller[1](functional.relu(features[-1])))
        return [self.classes(value) for value in features], [self.boxes(value) for value in features]


def head(channels: int, tower: int, outputs: int, bias: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(tower):
        layer = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    last = nn.Conv2d(channels, outputs, 3, padding=1)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(*layers, last)


def train(
    model: nn.Module, topology: Topology, options: argparse.Namespace, device: torch.device
) -> tuple[int, list[float]]:
    """Train for ``options.seconds``, on images that are drawn once each. Returns the number of steps and the last losses."""
    optimizer = training.new_optimizer(model, options)
    rng, anchors = np.random.default_rng(options.seed), all_anchors(topology).to(device)
    begun, step, losses, first = time.monotonic(), 0, [math.inf] * 2, math.inf
    while (done := (time.monotonic() - begun) / options.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = options.rate * training.rate(done)
        images, boxes, labels = training_batch(rng, options, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            classes, offsets = model(images)
        of_classes, of_boxes = loss(by_anchor(classes), by_anchor(offsets), anchors, boxes, labels)
        optimizer.zero_grad(set_to_none=True)
        (of_classes + of_boxes).backward()
        nn.utils.clip_grad_norm_(model.parameters(), MOST_GRADIENT)
        optimizer.step()
        step += 1
        if step == 1 or step % (100 if device.type == "cuda" else 10) == 0:
            losses = [of_classes.item(), of_boxes.item()]
            first = losses[0] if step == 1 else first
            if not math.isfinite(sum(losses)) or (done > HOPELESS and losses[0] > first):
                sys.exit(f"training fails at step {step}: losses of classes and boxes {losses}; lower --rate")
            print(f"step {step} {done:.0%} classes {losses[0]:.3f} boxes {losses[1]:.3f}", flush=True)
    return step, losses


def training_batch(
    rng: np.random.Generator, options: argparse.Namespace, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalized images, boxes [B, M, 4] in pixels, labels [B, M] (-1: no object)."""
    pictures = textured_objects.draw_pictures(rng, options.batch, options.classes)
    layers = tuple(scene.mapped(lambda a: torch.from_numpy(a).to(device)) for scene in pictures.layers)
    noise = torch.randn(options.batch, 3, options.size, options.size, device=device)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    images = (torch.round(textured_objects.render(torch, layers, noise)) / 255 - mean) / std
    present = np.arange(textured_objects.MOST) < pictures.counts[:, None]
    labels = torch.from_numpy(np.where(present, pictures.labels, -1)).to(device)
    boxes = torch.from_numpy(pictures.boxes * options.size).float().to(device)
    return images.contiguous(memory_format=torch.channels_last), boxes, labels


def all_anchors(topology: Topology) -> torch.Tensor:
    """[A, 4], level by level, as the file has them."""
    grid, tables = topology.image_size // 8, []
    for level in range(topology.detector.levels):
        tables.append(anchor_table(level, grid, topology.image_size))
        grid = math.ceil(grid / 2)
    return torch.from_numpy(np.concatenate(tables))


def by_anchor(heads: list[torch.Tensor]) -> torch.Tensor:
    """Head tensors [B, 9 * n, H, W] -> float32 [B, A, n], in the order of ``all_anchors``."""
    return torch.cat([h.float().flatten(2).unflatten(1, (9, -1)).permute(0, 3, 1, 2).flatten(1, 2) for h in heads], 1)


def loss(
    logits: torch.Tensor, offsets: torch.Tensor, anchors: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal loss of the classes and L1 loss of the boxes, each over the number of anchors that stand for an object."""
    overlap, owner = overlaps(boxes, labels, anchors).max(dim=1)
    positive, ignored = overlap >= POSITIVE, (overlap >= NEGATIVE) & (overlap < POSITIVE)
    wanted = torch.zeros_like(logits)
    wanted[positive, labels.gather(1, owner)[positive]] = 1
    crossed = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    chance = torch.sigmoid(logits)
    missed = torch.where(wanted > 0, 1 - chance, chance)
    focal = torch.where(wanted > 0, ALPHA, 1 - ALPHA) * missed**GAMMA * crossed
    count = positive.sum().clamp(min=1)
    of_classes = (focal * ~ignored[..., None]).sum() / count
    target = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    difference = (offsets - encoded(target, anchors)).abs().sum(-1)
    return of_classes, (difference * positive).sum() / count


def overlaps(boxes: torch.Tensor, labels: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Intersection over union [B, M, A]; -1 where there is no object. The best anchor of each object counts as matching."""
    low = torch.maximum(boxes[:, :, None, :2], anchors[:, :2])
    high = torch.minimum(boxes[:, :, None, 2:], anchors[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    sizes = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, anchors)]
    found = shared / (sizes[0][..., None] + sizes[1] - shared)
    best = found.argmax(-1, keepdim=True)
    found = found.scatter(-1, best, 1.0)
    return torch.where(labels[..., None] >= 0, found, -1.0)


def encoded(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Offsets of boxes [B, A, 4] from anchors [A, 4]: centers over the anchor's size, logarithms of sizes (torchvision's BoxCoder
    with weights 1)."""
    size, own = anchors[:, 2:] - anchors[:, :2], (boxes[..., 2:] - boxes[..., :2]).clamp(min=1)
    moved = (boxes[..., :2] + boxes[..., 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / size
    return torch.cat([moved, torch.log(own / size)], dim=-1)


def transplanted(model: nn.Module, topology: Topology) -> Model:
    """The package's own RetinaNet file with the trained weights, batch normalization folded into them."""
    onnx = model_from_seed(0, topology)
    constants, biases = onnx.graph.initializers, {}
    convolutions = [node for node in onnx.graph.nodes if node.op_type == "Conv"]
    weights = dict.fromkeys(node.inputs[1] for node in convolutions)
    for name, (weight, bias) in zip(weights, folded(model), strict=True):
        if constants[name].dims != tuple(weight.shape):
            raise ValueError(f"{name} is {constants[name].dims}, trained is {tuple(weight.shape)}")
        biases[name] = f"{name}_trained_bias"  # the random network's biases are one constant
        constants[name] = Tensor.from_numpy(name, weight.detach().numpy())
        constants[biases[name]] = Tensor.from_numpy(biases[name], bias.detach().numpy())
    for node in convolutions:
        node.inputs[2] = biases[node.inputs[1]]
    onnx.graph.prune()
    return onnx


def folded(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of every convolution, in the order in which they were made."""
    found = []
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if not isinstance(layer, nn.Conv2d):
            continue
        if layer.bias is not None:
            found.append((layer.weight, layer.bias))
            continue
        assert isinstance(after, nn.BatchNorm2d)
        assert after.running_var is not None
        assert after.running_mean is not None
        factor = after.weight / torch.sqrt(after.running_var + after.eps)
        found.append((layer.weight * factor[:, None, None, None], after.bias - after.running_mean * factor))
    return found


if __name__ == "__main__":
    main()
