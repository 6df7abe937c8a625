"""Suppression by fixpoint against plain greedy suppression: equal, or marked inexact and finished exactly on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cmx4trt.ir.model import DType, Graph, Model, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.ir.writer import GraphWriter
from cmx4trt.networks.retinanet.details import Detector, Level, Normalization
from cmx4trt.networks.retinanet.detections import finish_detections
from cmx4trt.networks.retinanet.nms import MAX_TOP_K, write_sorted, write_suppression
from cmx4trt.networks.retinanet.spec import DETECTOR, DetectorSpec
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

SMALL, BLOCK = 40, 8
PLENTY = replace(DETECTOR, detections=100_000)
"""No limit on detections, to see every decision."""


def greedy(rows: np.ndarray, offset: bool, threshold: float = 0.05) -> list[int]:
    """What exported files do: torchvision moves classes apart, ONNX's NonMaxSuppression compares quotients, best first."""
    valid = np.flatnonzero(rows[:, 4] > np.float32(threshold))
    boxes, labels = rows[valid, :4], rows[valid, 5]
    if offset and len(valid):
        boxes = boxes + (labels * (boxes.max() + np.float32(1)))[:, None]
    kept: list[int] = []
    for i in range(len(valid)):
        others = [k for k in kept if offset or labels[k] == labels[i]]
        if not others or not _overlaps(boxes[i], boxes[others]):
            kept.append(i)
    return valid[kept].tolist()


def _overlaps(box: np.ndarray, others: np.ndarray) -> bool:
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    touching = (width > 0) & (height > 0)
    shared = (width * height)[touching]
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = ((others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1]))[touching]
    return bool((shared / (areas + area - shared) > np.float32(0.5)).any())


def suppression(spec: DetectorSpec, offset: bool) -> Callable[[np.ndarray], tuple[list[list[int]], list[bool]]]:
    """Runs the graph on candidates [N, T, 6]: the kept places of every image, and whether it is marked."""
    total = spec.candidates
    spec = replace(spec, classes=total, anchors_per_location=1)
    level = Level(1, 1, np.zeros((1, 4), np.float32))
    detector = Detector(spec, 800, 800, (level,), Normalization((0.0,) * 3, (1.0,) * 3), (), ())
    assert detector.candidates == total
    graph = Graph("nms", [], {}, [ValueInfo("rows", DType.FLOAT, ("N", total, 6))], [])
    found = write_suppression(GraphWriter(graph, ""), detector, "rows", offset)
    graph.outputs = [
        ValueInfo(found.ranks, DType.FLOAT, ("N", total)),
        ValueInfo(found.unsettled, DType.FLOAT, ("N",)),
    ]
    message = encode_model(Model(graph, {"": 19}, 9), None).message
    onnx.checker.check_model(onnx.load_model_from_string(message), full_check=True)
    session = OnnxRuntimeSession.from_bytes(message)

    def run(rows: np.ndarray) -> tuple[list[list[int]], list[bool]]:
        results = session.run({"rows": rows})
        ranks, unsettled = results[found.ranks], results[found.unsettled]
        kept = [np.flatnonzero(image).tolist() for image in ranks]
        for image, places in zip(ranks, kept, strict=True):
            assert image[places].tolist() == [total - place for place in places]
        return kept, [bool(value) for value in unsettled]

    return run


def by_score(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    return np.column_stack([boxes, scores, labels])[order].astype(np.float32)


def spread_scores(count: int) -> np.ndarray:
    return np.linspace(0.99, 0.06, count, dtype=np.float32)


def random_boxes(seed: int, count: int, span: float, size: float, classes: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    low = random.uniform(0, span, (count, 2))
    boxes = np.concatenate([low, low + random.uniform(0, size, (count, 2))], axis=1)
    return by_score(boxes, random.uniform(0.0, 1.0, count), random.integers(0, classes, count))


def ramp(count: int) -> np.ndarray:
    """Scores fall with x: every box suppresses its right neighbours, which suppress theirs."""
    random = np.random.default_rng(0)
    low = np.column_stack([np.sort(random.uniform(0, 700, count)), random.uniform(0, 40, count)])
    return by_score(np.concatenate([low, low + 40], axis=1), spread_scores(count), np.zeros(count))


def chain(count: int, step: float = 0.3) -> np.ndarray:
    """Each box overlaps only its neighbours above the limit: suppression alternates along the whole chain."""
    low = np.arange(count) * step
    boxes = np.column_stack([low, np.zeros(count), low + 1, np.ones(count)])
    return by_score(boxes, spread_scores(count), np.zeros(count))


def identical(count: int) -> np.ndarray:
    return by_score(np.tile([10.0, 10.0, 50.0, 60.0], (count, 1)), np.full(count, 0.5), np.arange(count) % 2)


def without_area(count: int) -> np.ndarray:
    rows = random_boxes(4, count, 60, 30, 3)
    rows[::2, 2] = rows[::2, 0]
    rows[1::4, :4] = rows[1, :4]
    return rows


def clusters(count: int) -> np.ndarray:
    random = np.random.default_rng(8)
    centres = random.uniform(50, 700, (50, 2)).repeat(count // 50, axis=0) + random.normal(0, 4, (count, 2))
    sizes = random.uniform(30, 60, (count, 2)) / 2
    boxes = np.clip(np.concatenate([centres - sizes, centres + sizes], axis=1), 0, 800)
    return by_score(boxes, random.uniform(0.04, 1, count), random.integers(0, 264, count) // 40)


FULL = 5000
ADVERSARIAL: dict[str, Callable[[], np.ndarray]] = {
    "sparse": lambda: random_boxes(0, FULL, 780, 20, 264),
    "dense": lambda: random_boxes(1, FULL, 50, 50, 1),
    "clusters": lambda: clusters(FULL),
    "identical": lambda: identical(FULL),
    "without area": lambda: without_area(FULL),
    "ramp": lambda: ramp(FULL),
    "chain": lambda: chain(FULL),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("offset", "names"),
    [(True, ("sparse", "without area", "chain")), (False, tuple(ADVERSARIAL))],
    ids=["offset", "plain"],
)
def test_adversarial_boxes(offset: bool, names: tuple[str, ...]) -> None:
    """With the sizes of the real model: five blocks of a thousand, sixteen steps."""
    run = suppression(replace(DETECTOR, candidates=FULL), offset)
    marked = {}
    for name in names:
        rows = ADVERSARIAL[name]()
        (kept,), (inexact,) = run(rows[None])
        wanted = greedy(rows, offset)
        marked[name] = inexact
        assert inexact or kept == wanted, name
        finished = finish_detections(rows, PLENTY, offset)
        np.testing.assert_array_equal(finished.boxes, rows[wanted, :4], err_msg=name)
        np.testing.assert_array_equal(finished.scores, rows[wanted, 4], err_msg=name)
    # The marks are worth their cost: what real and random boxes look like settles.
    assert [name for name, inexact in marked.items() if inexact] == [
        name for name in ("ramp", "chain") if name in names
    ]


@pytest.fixture(scope="module", params=[True, False], ids=["offset", "plain"])
def offset(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def few_steps(offset: bool) -> Callable[[np.ndarray], tuple[list[list[int]], list[bool]]]:
    return suppression(replace(DETECTOR, candidates=SMALL, nms_block=BLOCK, nms_iterations=2), offset)


@pytest.fixture(scope="module")
def enough_steps(offset: bool) -> Callable[[np.ndarray], tuple[list[list[int]], list[bool]]]:
    """A chain inside a block is at most BLOCK long; one step more proves it."""
    return suppression(replace(DETECTOR, candidates=SMALL, nms_block=BLOCK, nms_iterations=BLOCK + 1), offset)


@st.composite
def any_rows(draw: st.DrawFn) -> np.ndarray:
    """Boxes on a coarse grid (overlaps of exactly one half, no area, equality are common), few scores and labels."""
    cells = draw(arrays.arrays(np.int8, (SMALL, 4), elements=st.integers(0, 8)))
    low, size = cells[:, :2].astype(np.float32), cells[:, 2:].astype(np.float32)
    unit = np.float32(draw(st.sampled_from([1.0, 0.1, 99.7])))
    scores = draw(
        arrays.arrays(np.float32, SMALL, elements=st.sampled_from(np.float32([0.01, 0.05, 0.3, 0.5, 0.9]).tolist()))
    )
    labels = draw(arrays.arrays(np.int8, SMALL, elements=st.integers(0, 2)))
    return by_score(np.concatenate([low, low + size], axis=1) * unit, scores, labels)


@settings(max_examples=150, deadline=None)
@given(rows=any_rows())
def test_equal_to_greedy_or_marked(
    few_steps: Callable[..., tuple[list[list[int]], list[bool]]],
    enough_steps: Callable[..., tuple[list[list[int]], list[bool]]],
    offset: bool,
    rows: np.ndarray,
) -> None:
    wanted = greedy(rows, offset)
    (kept,), (inexact,) = few_steps(rows[None])
    assert inexact or kept == wanted
    assert enough_steps(rows[None]) == ([wanted], [False])
    finished = finish_detections(rows, PLENTY, offset)
    np.testing.assert_array_equal(finished.boxes, rows[wanted, :4])
    np.testing.assert_array_equal(finished.labels, rows[wanted, 5].astype(np.int32))


def test_every_image_of_a_batch_is_judged_alone(few_steps: Callable[..., tuple[list[list[int]], list[bool]]]) -> None:
    images = np.stack([chain(SMALL), random_boxes(3, SMALL, 700, 20, 2), chain(SMALL)])
    kept, inexact = few_steps(images)
    assert inexact == [True, False, True]
    for image, places in zip(images, kept, strict=True):
        assert ([places], [few_steps(image[None])[1][0]]) == few_steps(image[None])


def test_nothing_above_the_threshold(few_steps: Callable[..., tuple[list[list[int]], list[bool]]]) -> None:
    rows = random_boxes(3, SMALL, 70, 20, 2)
    rows[:, 4] = 0.05
    assert few_steps(rows[None]) == ([[]], [False])


def test_a_chain_takes_as_many_steps_as_it_is_long() -> None:
    for steps, settled in ((14, False), (20, True)):
        run = suppression(replace(DETECTOR, candidates=20, nms_block=20, nms_iterations=steps), True)
        kept, inexact = run(chain(20)[None])
        assert inexact == [not settled]
        assert (kept == [greedy(chain(20), True)]) is settled


@settings(max_examples=40, deadline=None)
@given(
    scores=arrays.arrays(np.float32, (2, 30), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
)
def test_sorting_in_parts_loses_no_row(sorter: OnnxRuntimeSession, scores: np.ndarray) -> None:
    rows = np.arange(2 * 30 * 6, dtype=np.float32).reshape(2, 30, 6)
    result = sorter.run({"rows": rows, "scores": scores})["sorted"]
    for image in range(2):
        places = ((result[image, :, 0] - rows[image, 0, 0]) / 6).astype(int)
        assert sorted(places) == list(range(30))
        np.testing.assert_array_equal(scores[image, places], -np.sort(-scores[image]))
        np.testing.assert_array_equal(result[image], rows[image, places])


@pytest.fixture(scope="module")
def sorter() -> OnnxRuntimeSession:
    inputs = [ValueInfo("rows", DType.FLOAT, ("N", 30, 6)), ValueInfo("scores", DType.FLOAT, ("N", 30))]
    graph = Graph("sort", [], {}, inputs, [ValueInfo("sorted", DType.FLOAT, ("N", 30, 6))])
    write_sorted(GraphWriter(graph, ""), "rows", "scores", 30, "sorted", most=13)
    assert [node.op_type for node in graph.nodes].count("TopK") == 3
    return OnnxRuntimeSession.from_graph(encode_model(Model(graph, {"": 19}, 9)))


def test_the_limit_is_tensorrts() -> None:
    assert MAX_TOP_K == 3840
