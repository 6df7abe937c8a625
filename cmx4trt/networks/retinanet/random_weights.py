"""RetinaNet with random weights, in the form of the file that MLPerf users have: one image in, post-processing inside.

Topology: torchvision's RetinaNet (models/detection/retinanet.py, anchor_utils.py) on ResNeXt-50 32x4d (arXiv:1611.05431,
table 1) with a feature pyramid (arXiv:1612.03144). Batch normalisation is part of the convolutions already.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil, log
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.spec import ModelSpec
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD
from cmx4trt.ir.model import DType, Graph, Model, ValueInfo
from cmx4trt.ir.writer import GraphWriter
from cmx4trt.networks.retinanet.spec import DETECTOR, EXPANSION, IMAGE_SIZE, Body, DetectorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET, IR_VERSION = 17, 8
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
ANCHOR_SCALES = (1.0, 2.0 ** (1 / 3), 2.0 ** (2 / 3))
SMALLEST_ANCHOR = 32
"""Side of P3's anchors in pixels, doubled from level to level (arXiv:1708.02002, section 4)."""

MEAN_REMOVED = 0.5
"""Share of each random filter's mean that is taken off. Without it all positions of a deep random network look alike, since
every filter passes on the offset that ReLU adds; taking off all of it (weight standardisation, arXiv:1903.10520) makes
rounding errors grow from layer to layer, unlike in a trained network: float16's reach a tenth of the signal."""
RESIDUAL_GAIN = 0.5
"""As in ``resnet50``: keeps activations near unit size without batch normalisation."""
CLASS_PRIOR = 0.01
"""Initial probability of every class (arXiv:1708.02002, section 4.1): the class head's bias is -log(99)."""
CLASS_GAIN, BOX_GAIN = 0.22, 0.3
"""Scales of the random class logits and box offsets, found by trial: about 10^3 pairs of seeded images pass the score threshold
and the boxes stay near their anchors."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Sizes of the network; the defaults are ResNeXt-50 32x4d FPN, tests use smaller ones."""

    image_size: int = IMAGE_SIZE
    body: Body = field(default_factory=Body)
    detector: DetectorSpec = DETECTOR

    def spec(self) -> ModelSpec:
        """The model data that go with these sizes."""
        detector = replace(self.detector, body=self.body)
        logits = detector.anchors_per_location * detector.classes * (self.image_size // 8) ** 2
        stem = self.body.stem * (self.image_size // 2) ** 2
        shape = (3, self.image_size, self.image_size)
        return ModelSpec("retinanet", "RetinaNet", shape, max(logits, stem), detector)


def model_from_seed(seed: int, topology: Topology | None = None) -> Model:
    """The network with uniform random weights of He variance (arXiv:1502.01852), part of each filter's mean taken off.

    ``images`` [1, 3, 800, 800] float32 in 0..1 -> ``boxes`` [n, 4] (x1, y1, x2, y2 in pixels), ``scores`` [n] float32,
    ``labels`` [n] int64. The same seed gives the same bytes with every numpy that keeps SFC64's stream (NEP 19).
    """
    return _RandomDetector(seed, topology or Topology()).model()


def anchor_table(level: int, grid: int, image_size: int) -> NDArray[Any]:
    """Anchors [grid * grid * 9, 4] float32 (x1, y1, x2, y2) of one level, positions outermost, as torchvision makes them."""
    import numpy as np

    side = SMALLEST_ANCHOR * 2**level
    scales = np.array([int(side * scale) for scale in ANCHOR_SCALES], np.float32)
    heights = np.sqrt(np.array(ANCHOR_RATIOS, np.float32))
    half_h = (heights[:, None] * scales).reshape(-1)
    half_w = ((np.float32(1) / heights)[:, None] * scales).reshape(-1)
    base = np.round(np.stack([-half_w, -half_h, half_w, half_h], axis=1) / np.float32(2))
    steps = np.arange(grid, dtype=np.float32) * np.float32(image_size // grid)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    shifts = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], axis=1)
    return (shifts[:, None, :] + base[None]).reshape(-1, 4).astype(np.float32)


class _RandomDetector:
    """Builds the graph layer by layer; each layer returns its result's name."""

    def __init__(self, seed: int, topology: Topology) -> None:
        import numpy as np

        self._np = np
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._sizes = topology.body
        self._image_size = topology.image_size
        self._detector = topology.detector
        image = ValueInfo("images", DType.FLOAT, (1, 3, topology.image_size, topology.image_size))
        results = [
            ValueInfo("boxes", DType.FLOAT, ("n", 4)),
            ValueInfo("scores", DType.FLOAT, ("n",)),
            ValueInfo("labels", DType.INT64, ("n",)),
        ]
        self._write = GraphWriter(Graph("retinanet_random", [], {}, [image], results), "")

    def model(self) -> Model:
        features = self._pyramid(self._backbone(self._normalised("images")))
        detector = self._detector
        anchors = detector.anchors_per_location
        class_head = self._head(anchors * detector.classes, CLASS_GAIN, -log((1 - CLASS_PRIOR) / CLASS_PRIOR))
        box_head = self._head(anchors * 4, BOX_GAIN, 0.0)
        sizes = self._grid_sizes()
        parts = []
        for level, feature in enumerate(features):
            logits, offsets = (self._run_head(feature, head) for head in (class_head, box_head))
            parts.append(self._level_candidates(level, sizes[level], logits, offsets))
        self._suppress([self._write.op("Concat", *column, axis=0) for column in zip(*parts, strict=True)])
        return Model(self._write.graph, {"": OPSET}, IR_VERSION)

    def _grid_sizes(self) -> list[int]:
        size, sizes = self._image_size // 8, []
        for _ in range(self._detector.levels):
            sizes.append(size)
            size = ceil(size / 2)
        return sizes

    def _normalised(self, images: str) -> str:
        mean, std = (self._np.array(v, self._np.float32).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        write = self._write
        return write.op("Div", write.op("Sub", images, write.constant(mean, "mean")), write.constant(std, "std"))

    def _backbone(self, image: str) -> list[str]:
        """C3, C4, C5."""
        sizes, stages = self._sizes, []
        value = self._relu(self._conv(image, 3, sizes.stem, 7, 2))
        value = self._write.op("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        channels = sizes.stem
        for stage, count in enumerate(sizes.blocks):
            width = sizes.width << stage
            for block in range(count):
                value = self._block(value, channels, width, 2 if stage and not block else 1)
                channels = width * EXPANSION
            stages.append(value)
        return stages[1:]

    def _block(self, value: str, channels: int, width: int, stride: int) -> str:
        branch = self._relu(self._conv(value, channels, width, 1))
        branch = self._relu(self._conv(branch, width, width, 3, stride, self._sizes.groups))
        branch = self._conv(branch, width, width * EXPANSION, 1, gain=RESIDUAL_GAIN)
        if channels != width * EXPANSION or stride != 1:
            value = self._conv(value, channels, width * EXPANSION, 1, stride)
        return self._relu(self._write.op("Add", branch, value))

    def _pyramid(self, stages: list[str]) -> list[str]:
        """P3 … P7 from C3 … C5; P6 is made of P5, P7 of P6 (torchvision's LastLevelP6P7)."""
        channels, write = self._sizes.pyramid, self._write
        widths = [(self._sizes.width << stage) * EXPANSION for stage in (1, 2, 3)]
        laterals = [self._conv(value, width, channels, 1) for value, width in zip(stages, widths, strict=True)]
        merged = [laterals[2]]
        scales = write.constant(self._np.array([1, 1, 2, 2], self._np.float32), "twice")
        for lateral in (laterals[1], laterals[0]):
            up = write.op(
                "Resize",
                merged[0],
                "",
                scales,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            merged.insert(0, write.op("Add", lateral, up))
        levels = [self._conv(value, channels, channels, 3) for value in merged]
        levels.append(self._conv(levels[-1], channels, channels, 3, 2))
        levels.append(self._conv(self._relu(levels[-1]), channels, channels, 3, 2))
        return levels

    def _head(self, outputs: int, gain: float, bias: float) -> list[list[str]]:
        """Names of [weight, bias] for every convolution of a head, used on all levels."""
        channels = self._sizes.pyramid
        tower = [self._weights(channels, channels, 3) for _ in range(self._sizes.tower)]
        return [*tower, self._weights(channels, outputs, 3, gain=gain, bias=bias)]

    def _run_head(self, value: str, head: list[list[str]]) -> str:
        for weights in head[:-1]:
            value = self._relu(self._write.op("Conv", value, *weights, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        return self._write.op("Conv", value, *head[-1], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def _conv(
        self, value: str, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, gain: float = 1.0
    ) -> str:
        weights = self._weights(inputs // groups, outputs, kernel, gain)
        return self._write.op(
            "Conv",
            value,
            *weights,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )

    def _weights(self, inputs: int, outputs: int, kernel: int, gain: float = 1.0, bias: float = 0.0) -> list[str]:
        np = self._np
        weight = self._random.random((outputs, inputs * kernel * kernel), dtype=np.float32)
        weight -= np.float32(0.5)
        weight -= np.float32(MEAN_REMOVED) * weight.mean(axis=1, keepdims=True)
        # A uniform variable of width 1 has variance 1/12; He's is 2 / fan-in.
        weight *= np.float32(gain * (24.0 / weight.shape[1]) ** 0.5)
        tensor = weight.reshape(outputs, inputs, kernel, kernel)
        return [
            self._write.constant(tensor, "weight"),
            self._write.constant(np.full(outputs, bias, np.float32), "bias"),
        ]

    def _relu(self, value: str) -> str:
        return self._write.op("Relu", value)

    def _level_candidates(self, level: int, grid: int, logits: str, offsets: str) -> tuple[str, str, str]:
        """Boxes [m, 4], scores [m] and labels [m] of the best pairs above the threshold; m <= candidates."""
        write, detector = self._write, self._detector
        scores = write.reshape(write.op("Sigmoid", self._by_position(logits, detector.classes)), -1)
        passing = write.op("NonZero", write.op("Greater", scores, write.number(detector.score_threshold)))
        passing = write.reshape(passing, -1)
        passing_scores = write.op("Gather", scores, passing)
        count = write.op("Min", write.op("Shape", passing), write.ints(detector.candidates))
        best, order = write.ops("TopK", passing_scores, count, names=("", ""), axis=-1)
        pair = write.op("Gather", passing, order)
        classes = write.integer(detector.classes)
        anchor = write.op("Div", pair, classes)
        table = write.constant(anchor_table(level, grid, self._image_size), f"anchors_{level}")
        boxes = self._decoded(
            write.op("Gather", write.reshape(self._by_position(offsets, 4), -1, 4), anchor),
            write.op("Gather", table, anchor),
        )
        return boxes, best, write.op("Mod", pair, classes)

    def _by_position(self, value: str, size: int) -> str:
        """[1, A * size, H, W] -> [H * W, A, size]."""
        split = self._write.reshape(value, self._detector.anchors_per_location, size, -1)
        return self._write.op("Transpose", split, perm=[2, 0, 1])

    def _decoded(self, offsets: str, anchors: str) -> str:
        """Boxes [m, 4] inside the image (torchvision's BoxCoder with weights 1, then clipping)."""
        write, half = self._write, self._write.number(0.5)

        def split(value: str) -> list[str]:
            return write.ops("Split", value, write.ints(2, 2), names=("", ""), axis=1)

        (low, high), (move, grow) = split(anchors), split(offsets)
        size = write.op("Sub", high, low)
        centre = write.op("Add", low, write.op("Mul", size, half))
        centre = write.op("Add", write.op("Mul", move, size), centre)
        grow = write.op("Min", grow, write.number(self._detector.max_log_ratio))
        reach = write.op("Mul", write.op("Mul", write.op("Exp", grow), size), half)
        corners = write.op("Concat", write.op("Sub", centre, reach), write.op("Add", centre, reach), axis=1)
        return write.op("Clip", corners, write.number(0.0), write.number(self._image_size))

    def _suppress(self, candidates: list[str]) -> None:
        """Greedy suppression within each class, by moving the classes' boxes apart (torchvision's batched_nms)."""
        write, detector = self._write, self._detector
        boxes, scores, labels = candidates
        with_zero = write.op(
            "Concat", write.reshape(boxes, -1), write.constant(self._np.zeros(1, self._np.float32)), axis=0
        )
        step = write.op("Add", write.op("ReduceMax", with_zero, keepdims=0), write.number(1.0))
        shift = write.op("Mul", write.cast(labels, DType.FLOAT), step)
        moved = write.op("Add", boxes, write.op("Unsqueeze", shift, write.ints(1)))
        kept = write.op(
            "NonMaxSuppression",
            write.op("Unsqueeze", moved, write.ints(0)),
            write.op("Unsqueeze", scores, write.ints(0, 1)),
            write.integer(detector.candidates * detector.levels),
            write.number(detector.iou_threshold),
        )
        index = write.reshape(write.op("Slice", kept, write.ints(2), write.ints(3), write.ints(1)), -1)
        index = write.op("Slice", index, write.ints(0), write.ints(detector.detections))
        for source, result in zip(candidates, ("boxes", "scores", "labels"), strict=True):
            write.op("Gather", source, index, name=result)
