"""Judges a prepared graph layer by layer: each is fed with what the original has in its place, and must give what the original
gives there in the same arithmetic, up to a bound that follows from rounding alone.

So a wrong layer is found whatever the weights behind it make of it, and a right one is never refused because they amplify
roundings. docs/decisions/060-faithful-arithmetic.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, prod
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.arithmetic import faithful, is_reduced, reduced_values
from cmx4trt.graph.constants import fold_dequantized, nodes_before
from cmx4trt.graph.judge.correspondence import bends, channels_first, computed_name, correspondence
from cmx4trt.graph.judge.fragment import EXCESSES, SUMS, write_fragment
from cmx4trt.graph.judge.reference import Reference, as_float32
from cmx4trt.graph.shapes import Shape, output_shape
from cmx4trt.ir.model import DType, Graph, Model, Node
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PART_ELEMENTS = 2**25
"""Elements of the original's values that are compared at a time: 128 MB of float32."""
_WITH_BIAS = 3
"""Inputs of a Conv or Gemm with a bias."""
_KINDS = {DType.INT8: "i"}
_TYPES = {DType.FLOAT: "float32", DType.FLOAT16: "float16", DType.BFLOAT16: "bfloat16", DType.INT8: "int8"}


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A tensor with elements that are no finite numbers: how many of how many, and whether they are infinite (or NaN)."""

    layer: str
    dtype: str
    count: int
    size: int
    infinite: bool

    def sentence(self) -> str:
        """What happens where, and what helps."""
        found = f"{self.count:,} of {self.size:,} values"
        if self.dtype == "float32":
            return (
                f"{found} of the original model at {self.layer} are {'infinite' if self.infinite else 'not a number'}"
            )
        if not self.infinite:
            return f"{found} at {self.layer} are not a number"
        other = "fp32" if self.dtype == "bfloat16" else "bf16 or fp32"
        return f"{self.layer} overflows {self.dtype}: {found}; build with --precision={other}"


@dataclass(frozen=True, slots=True)
class LayerJudgement:
    """What was found over ``images`` images.

    ``layers``: how many there are; ``judged``: how many of them were compared; ``excess``: the largest error over its bound,
    which ``worst`` has; ``failed``: how many are above 1, ``first`` the first of them, and
    ``unlike`` what it is, where that is no matter of figures. ``results``: what the original gives in
    the engine's arithmetic, by the names of its results.
    """

    images: int
    layers: int
    judged: int
    worst: str
    excess: float
    failed: int
    first: str
    first_excess: float
    non_finite: NonFinite | None = None
    unlike: str = ""
    results: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)

    @property
    def passed(self) -> bool:
        """Whether every layer that was compared is within its bound, and finite."""
        return self.failed == 0 and self.non_finite is None

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        return {
            "images": self.images,
            "layers": self.layers,
            "judged": self.judged,
            "worst": self.worst,
            "error_over_bound": self.excess if isfinite(self.excess) else None,
            "failed": self.failed,
        }

    def sentence(self) -> str:
        """The measurement in words."""
        if self.non_finite is not None:
            return self.non_finite.sentence()
        if self.failed:
            more = f", and {self.failed - 1} more" if self.failed > 1 else ""
            if self.unlike:
                return f"{self.first} {self.unlike}{more}"
            return (
                f"{self.first} differs from the original by {self.first_excess:.3g} times what rounding explains{more}"
            )
        return (
            f"all of {self.judged} layers as the original's (largest error {self.excess:.2g} of what rounding explains)"
        )


def judge_layers(graph: Model, original: Model, results: Mapping[str, str], images: Array) -> LayerJudgement:
    """Compare the layers of the prepared ``graph`` with those of ``original``, which is consumed.

    ``results``: names of the graph's results, and of what else bears another name, to those of the original's values;
    ``images`` [N, ...] are the original's input. One image is used where more would take too much memory. Raises ModelError
    where ONNX Runtime cannot run the original.
    """
    return _Judge(graph, original, results).run(images)


class _Judge:
    def __init__(self, graph: Model, original: Model, results: Mapping[str, str]) -> None:
        self._prepared = graph
        self._body = faithful(graph) if is_reduced(graph) else graph.copy()
        fold_dequantized(self._body.graph)
        original = as_float32(original)
        self._pairs = correspondence(graph.graph, original.graph, results)
        self._image = original.graph.inputs[0].name
        reduced = self._reduced = reduced_values(graph.graph)
        self._types = {name: reduced.get(name, DType.FLOAT) for name in self._pairs}
        self._types.update(_type_of_image(graph.graph, reduced))
        self._shapes = _shapes(graph.graph)
        self._ends = {theirs: computed_name(graph.graph, own) for own, theirs in results.items()}
        self._reference = Reference(original, {theirs: self._types[own] for own, theirs in self._pairs.items()})
        self._unlike: dict[str, str] = {}
        self._same = self._share_weights()
        self._own_producers = self._body.graph.producers()

    def _share_weights(self) -> set[str]:
        """The products whose constants are the original's but for rounding; the original gets the rounded ones."""
        constants, same = self._body.graph.initializers, set()
        for node in self._prepared.graph.nodes:
            name = node.outputs[0]
            if node.op_type not in ("Conv", "Gemm") or name not in self._pairs:
                continue
            weights = [constants[n] for n in node.inputs[1:] if n in constants]
            if self._reference.use_weights(self._pairs[name], weights, self._types[name]):
                same.add(name)
            elif len(node.inputs) < _WITH_BIAS and self._reference.has_bias(self._pairs[name], node.op_type):
                self._unlike[name] = "has no bias, the original's has one"
        return same

    def run(self, images: Array) -> LayerJudgement:
        """Part by part."""
        judged = [name for name in self._pairs if name != self._prepared.graph.inputs[0].name]
        total = sum(self._size(name) for name in judged)
        images = images[: max(1, min(len(images), PART_ELEMENTS // max(total, 1)))]
        parts = self._parts(judged, len(images))
        found: dict[str, float] = {}
        bad: NonFinite | None = None
        kept: dict[str, Array] = {}
        for number, part in enumerate(parts):
            later = {name for other in parts[number + 1 :] for name in other.needs}
            values = self._values_of(part, later, {self._image: images})
            excesses, sums = self._run_part(part, values)
            found.update({name: excesses[name] for name in part.judged if name in excesses})
            bad = bad or next(
                (self._non_finite(name, values[name]) for name, s in sums.items() if not isfinite(s)), None
            )
            kept.update({theirs: values[own] for theirs, own in self._ends.items() if own in part.judged})
        return self._judgement(found, bad, len(images), kept)

    def _parts(self, judged: Sequence[str], images: int) -> list[_Part]:
        """The layers in order, as many at a time as PART_ELEMENTS allows."""
        groups: list[list[str]] = [[]]
        size = 0
        for name in judged:
            size += self._size(name) * images
            if size > PART_ELEMENTS and groups[-1]:
                groups.append([])
                size = self._size(name) * images
            groups[-1].append(name)
        return [self._part(group, judged) for group in groups if group]

    def _part(self, judged: Sequence[str], every: Sequence[str]) -> _Part:
        nodes = nodes_before(self._body.graph, judged, self._pairs.keys() - set(judged))
        fed = {*judged, *(name for node in nodes for name in node.inputs if name in self._pairs)}
        theirs = [self._pairs[name] for name in self._pairs if name in fed]
        before = [self._pairs[name] for name in every[: every.index(judged[0])]]
        return _Part(judged, nodes, fed, self._reference.reads(theirs, before) | (set(theirs) & set(before)))

    def _values_of(self, part: _Part, later: Collection[str], images: dict[str, Array]) -> dict[str, Array]:
        """The original's values that the part is fed with; without those whose shape is another than the prepared graph's."""
        found = self._reference.run([self._pairs[name] for name in part.fed], later, images)
        values = {name: channels_first(name, found[self._pairs[name]]) for name in part.fed}
        for name, array in values.items():
            if self._is_misshapen(name, array):
                self._unlike[name] = "gives another shape than the original"
        fitting = {name: array for name, array in values.items() if self._fits(name, array)}
        self._compare_operators([name for name in part.judged if name in fitting], fitting)
        return fitting

    def _compare_operators(self, judged: Sequence[str], known: Collection[str]) -> None:
        """A ReLU whose input is hardly ever negative can be missing without effect on an image; it is missing all the same."""
        theirs = {self._pairs[name] for name in known}
        for name in judged:
            own = bends(self._own_producers, name, known)
            wanted = bends(self._reference.producers, self._pairs[name], theirs)
            if own != wanted:
                self._unlike[name] = f"is computed with {_listed(own)}, the original's with {_listed(wanted)}"

    def _is_misshapen(self, name: str, array: Array) -> bool:
        """Whether the original's value of this name has another shape though the same operator gives it: a wrong stride, say."""
        own, theirs = self._prepared.graph.producers().get(name), self._reference.producers.get(self._pairs[name])
        return not self._fits(name, array) and own is not None and theirs is not None and own.op_type == theirs.op_type

    def _fits(self, name: str, array: Array) -> bool:
        kind = _KINDS.get(self._types[name], "f")
        return array.dtype.kind == kind and array.shape[1:] == tuple(self._shapes.get(name, array.shape)[1:])

    def _run_part(self, part: _Part, values: Mapping[str, Array]) -> tuple[dict[str, float], dict[str, float]]:
        """Of each layer that could be compared: the largest error over its bound, and the sum of its elements."""
        from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

        fed = {name: self._types[name] for name in self._pairs if name in values}
        judged = [name for name in part.judged if name in values]
        fragment = write_fragment(self._body, part.nodes, fed, judged, self._same, self._reduced)
        unlike = {name: inf for name in part.judged if name in self._unlike}
        if not fragment.values:
            return unlike, {}
        session = OnnxRuntimeSession.from_graph(encode_model(fragment.model))
        outputs = session.run({name: values[name] for name in session.inputs})
        excesses, sums = (dict(zip(fragment.values, map(float, outputs[n]), strict=True)) for n in (EXCESSES, SUMS))
        return {**excesses, **unlike}, sums

    def _non_finite(self, name: str, value: Array) -> NonFinite:
        import numpy as np

        dtype = _TYPES[self._types[name]]
        count = int(value.size - np.isfinite(value).sum())
        infinite = bool(np.isinf(value).any())
        return NonFinite(self._label(name), dtype, count, value.size, infinite)

    def _label(self, name: str) -> str:
        return self._prepared.graph.producers()[name].label()

    def _size(self, name: str) -> int:
        return prod(self._shapes.get(name, (0,)))

    def _judgement(
        self, found: Mapping[str, float], bad: NonFinite | None, images: int, results: Mapping[str, Array]
    ) -> LayerJudgement:
        wrong = [name for name, excess in found.items() if not excess <= 1]
        producers = self._prepared.graph.producers()
        worst = max(found, key=lambda name: found[name], default="")
        body = nodes_before(self._prepared.graph, list(self._ends.values()))
        return LayerJudgement(
            images=images,
            layers=sum(node.op_type not in _NO_LAYERS for node in body),
            judged=sum(producers[name].op_type not in _NO_LAYERS for name in found),
            worst=self._label(worst) if worst else "",
            excess=found.get(worst, 0.0),
            failed=len(wrong),
            first=self._label(wrong[0]) if wrong else "",
            first_excess=found[wrong[0]] if wrong else 0.0,
            non_finite=bad,
            unlike=self._unlike.get(wrong[0], "") if wrong else "",
            results=results,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Values to judge, the nodes that compute them from those ``fed``, and what of the original's earlier values it ``needs``."""

    judged: Sequence[str]
    nodes: list[Node]
    fed: Collection[str]
    needs: Collection[str]


_NO_LAYERS = {"Transpose", "Cast", "QuantizeLinear", "DequantizeLinear", "Flatten", "Reshape", "Identity"}


def _listed(operators: Sequence[str]) -> str:
    return " and ".join(operators) or "no activation"


def _type_of_image(graph: Graph, reduced: Mapping[str, DType]) -> dict[str, DType]:
    """The type that the graph's input has as soon as it is read."""
    name = graph.inputs[0].name
    if graph.inputs[0].dtype is DType.INT8:
        return {name: DType.INT8}
    readers = graph.consumers().get(name, [])
    types = {reduced.get(node.outputs[0]) for node in readers}
    found = types.pop() if len(types) == 1 and all(node.op_type == "Cast" for node in readers) else None
    return {name: found} if found else {}


def _shapes(graph: Graph) -> dict[str, Shape]:
    """The shapes of values for one image, as far as they follow from the input's."""
    found: dict[str, Shape] = {name: tensor.dims for name, tensor in graph.initializers.items()}
    for info in graph.inputs:
        found[info.name] = (1, *(size for size in (info.dims or ())[1:] if isinstance(size, int)))
    for node in graph.nodes:
        shape = output_shape(node, [found.get(name) for name in node.inputs], graph.initializers)
        if shape is not None:
            found[node.outputs[0]] = shape
    return {name: shape for name, shape in found.items() if name not in graph.initializers}
