"""Compares the layers of a prepared graph with the original's, part by part."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.arithmetic import reduced_values
from cmx4trt.graph.constants import fold_dequantized, nodes_before
from cmx4trt.graph.execution import own_arithmetic
from cmx4trt.graph.judge.alike import OLDEST_OPSET, computed_alike
from cmx4trt.graph.judge.correspondence import bends, channels_first, computed_name, correspondence
from cmx4trt.graph.judge.fragment import EXCESSES, write_fragment
from cmx4trt.graph.judge.judgement import LayerJudgement
from cmx4trt.graph.judge.reference import Reference, as_float32
from cmx4trt.graph.judge.values import type_of_image, value_shapes
from cmx4trt.graph.own_quantization import DEQUANTIZE, QUANTIZE
from cmx4trt.ir.model import DType, Graph, Model, Node
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PART_ELEMENTS = 2**25
"""Elements of the original's values that are held for comparisons at a time: 128 MB of float32."""
_WITH_BIAS = 3
"""Inputs of a Conv or Gemm with a bias."""
_KINDS = {DType.INT8: "i"}
_NO_LAYERS = {"Transpose", "Cast", "QuantizeLinear", "DequantizeLinear", "Flatten", "Reshape", "Identity"}


def judge_layers(
    graph: Model, original: Model, results: Mapping[str, str], image: Array, arithmetic: Model | None = None
) -> LayerJudgement:
    """Compare the layers of the prepared ``graph`` with those of ``original``, which is consumed.

    ``results``: names of the graph's results, and of what else bears another name, to those of the original's values;
    ``image`` [1, ...] is the original's input. ``arithmetic``: the graph's own, where it was made already. Raises ModelError
    where ONNX Runtime cannot run the original.
    """
    return _Judge(graph, original, results, arithmetic).run(image)


class _Judge:
    def __init__(self, graph: Model, original: Model, results: Mapping[str, str], arithmetic: Model | None) -> None:
        self._prepared = graph
        self._own = graph.graph.producers()
        self._body = (arithmetic or own_arithmetic(graph)).copy()
        fold_dequantized(self._body.graph)
        original = as_float32(original)
        self._pairs = correspondence(graph.graph, original.graph, results)
        self._image = original.graph.inputs[0].name
        reduced = self._reduced = reduced_values(graph.graph)
        self._types = {name: reduced.get(name, DType.FLOAT) for name in self._pairs}
        self._types.update(type_of_image(graph.graph, reduced))
        self._read_as = self._with_rounded_image()
        self._shapes = value_shapes(graph.graph)
        self._ends = {theirs: computed_name(graph.graph, own) for own, theirs in results.items()}
        oldest = min(graph.opset, original.opset)
        self._reference = Reference(original, {theirs: self._types[own] for own, theirs in self._pairs.items()})
        self._unlike: dict[str, str] = {}
        self._same = self._share_weights()
        known = self._pairs if oldest >= OLDEST_OPSET else {}
        constants = graph.graph.initializers
        self._alike = {name for name in known if self._is_alike(name, self._same, self._read_as, constants)}
        self._dequantized = self._with_dequantized()
        self._reweighted = {name for name in known if self._is_reweighted(name)}
        self._own_producers = self._body.graph.producers()

    def _with_rounded_image(self) -> dict[str, str]:
        """The pairs, and the image in the type that the original's is rounded to, too."""
        image = self._prepared.graph.inputs[0].name
        casts = [node for node in self._prepared.graph.nodes if node.op_type == "Cast" and node.inputs == [image]]
        rounded = {node.outputs[0]: self._pairs[image] for node in casts if node.attributes["to"] == self._types[image]}
        return {**self._pairs, **rounded}

    def _with_dequantized(self) -> dict[str, str]:
        """What both quantize, by whatever scale, as it is read behind that: who reads it stands in the same place."""
        theirs = {value: read for read, value in _dequantized(self._reference.graph, self._reference.producers)}
        own = _dequantized(self._prepared.graph, self._own)
        return {read: theirs[self._pairs[value]] for read, value in own if self._pairs.get(value) in theirs}

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

    def _is_reweighted(self, name: str) -> bool:
        """Whether the graph convolves as the original does, but with other weights: which an image may not show."""
        own = self._own.get(name)
        if own is None or own.op_type != "Conv" or name in self._same or name in self._alike:
            return False
        constants = self._body.graph.initializers
        if not self._is_alike(name, {name}, self._read_as | self._dequantized, constants):
            return False
        return self._reference.has_other_weights(self._pairs[name], constants.get(own.inputs[1]))

    def _is_alike(
        self, name: str, same: Collection[str], read_as: Mapping[str, str], constants: Collection[str]
    ) -> bool:
        """Whether the graph computes this value as the original does, operator, numbers and all."""
        own, theirs = self._own.get(name), self._reference.producers.get(self._pairs[name])
        if own is None or theirs is None or name in self._unlike:
            return False
        return computed_alike(own, theirs, read_as, constants, name in same, self._reference.rounded_inputs)

    def run(self, image: Array) -> LayerJudgement:
        """Part by part."""
        judged = [name for name in self._pairs if name != self._prepared.graph.inputs[0].name]
        parts = self._parts(judged)
        found: dict[str, float] = {}
        kept: dict[str, Array] = {}
        for number, part in enumerate(parts):
            later = {name for other in parts[number + 1 :] for name in other.needs}
            values = self._values_of(part, later, {self._image: image})
            excesses = self._run_part(part, values)
            found.update({name: excesses[name] for name in part.judged if name in excesses})
            kept.update({theirs: values[own].copy() for theirs, own in self._ends.items() if own in part.judged})
        return self._judgement(found, kept)

    def _parts(self, judged: Sequence[str]) -> list[_Part]:
        """The layers in order, as many at a time as PART_ELEMENTS allows."""
        groups: list[list[str]] = [[]]
        size = 0
        for name in judged:
            held = 0 if name in self._alike else self._held(name)
            size += held
            if size > PART_ELEMENTS and groups[-1]:
                groups.append([])
                size = held
            groups[-1].append(name)
        return [self._part(group, judged) for group in groups if group]

    def _held(self, name: str) -> int:
        """Elements of the original's values that comparing this one takes: itself, and what it is computed from."""
        nodes = nodes_before(self._body.graph, [name], self._pairs.keys() - {name})
        return sum(map(self._size, {name, *(n for node in nodes for n in node.inputs if n in self._pairs)}))

    def _part(self, judged: Sequence[str], every: Sequence[str]) -> _Part:
        compared = [name for name in judged if name not in self._alike]
        nodes = nodes_before(self._body.graph, compared, self._pairs.keys() - set(compared))
        fed = {*compared, *(name for node in nodes for name in node.inputs if name in self._pairs)}
        fed |= set(judged) & set(self._ends.values())
        theirs = [self._pairs[name] for name in self._pairs if name in fed or name in judged]
        before = [self._pairs[name] for name in every[: every.index(judged[0])]]
        return _Part(judged, compared, nodes, fed, self._reference.reads(theirs, before) | (set(theirs) & set(before)))

    def _values_of(self, part: _Part, later: set[str], image: dict[str, Array]) -> dict[str, Array]:
        """The original's values that the part is fed with, without those whose shape is another than the prepared graph's."""
        alike = {name: self._pairs[name] for name in part.judged if name in self._alike}
        wanted = {*(self._pairs[n] for n in part.fed), *(later & {self._pairs[n] for n in part.judged})}
        elements = sum(self._size(name) for name in part.judged)
        found, measured = self._reference.run(sorted(wanted), later, list(alike.values()), image, elements)
        values = {name: channels_first(name, found[self._pairs[name]]) for name in part.fed}
        shapes = {name: measured[theirs] for name, theirs in alike.items()}
        shapes |= {name: array.shape for name, array in values.items()}
        for name, shape in shapes.items():
            if self._is_misshapen(name, shape):
                self._unlike[name] = "gives another shape than the original"
        fitting = {name: array for name, array in values.items() if self._fits(name, array)}
        self._compare_operators([name for name in part.compared if name in fitting])
        return fitting

    def _compare_operators(self, judged: Sequence[str]) -> None:
        """A ReLU whose input is hardly ever negative can be missing without effect on an image; it is missing all the same."""
        theirs = set(self._pairs.values())
        for name in judged:
            own = bends(self._own_producers, name, self._pairs)
            wanted = bends(self._reference.producers, self._pairs[name], theirs)
            if own != wanted:
                self._unlike[name] = f"is computed with {_listed(own)}, the original's with {_listed(wanted)}"

    def _is_misshapen(self, name: str, shape: Sequence[int]) -> bool:
        """Whether the original's value of this name has another shape though the same operator gives it: a wrong stride, say."""
        own, theirs = self._own.get(name), self._reference.producers.get(self._pairs[name])
        same = own is not None and theirs is not None and own.op_type == theirs.op_type
        return same and not self._has_shape(name, shape)

    def _has_shape(self, name: str, shape: Sequence[int]) -> bool:
        return tuple(shape[1:]) == tuple(self._shapes.get(name, tuple(shape))[1:])

    def _fits(self, name: str, array: Array) -> bool:
        return array.dtype.kind == _KINDS.get(self._types[name], "f") and self._has_shape(name, array.shape)

    def _run_part(self, part: _Part, values: Mapping[str, Array]) -> dict[str, float]:
        """Of each layer that could be compared: the largest error over its bound."""
        from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

        fed = {name: self._types[name] for name in self._pairs if name in values}
        compared = [name for name in part.compared if name in values]
        known = dict.fromkeys((name for name in part.judged if name in self._alike), 0.0)
        known.update({name: inf for name in part.judged if name in self._unlike})
        if not part.compared:
            return known
        fragment = write_fragment(self._body, part.nodes, fed, compared, self._same, self._reduced)
        unknown = set(compared) & set(self._ends.values()) - set(fragment.values)
        known.update(dict.fromkeys(unknown, inf))
        self._unlike.update({name: self._foreign(name) for name in unknown - self._unlike.keys()})
        if not fragment.values:
            return known
        session = OnnxRuntimeSession.from_graph(encode_model(fragment.model), as_written=True)
        outputs = session.run({name: values[name] for name in session.inputs})
        excesses = dict(zip(fragment.values, map(float, outputs[EXCESSES]), strict=True))
        for name in self._reweighted & excesses.keys() - known.keys():
            if excesses[name] <= 1:
                excesses[name] = inf
                self._unlike[name] = "multiplies by other weights than the original"
        return {**excesses, **known}

    def _foreign(self, name: str) -> str:
        """Of a result that cannot be compared: what computes it."""
        nodes = nodes_before(self._body.graph, [name], self._pairs.keys() - {name})
        operators = dict.fromkeys(node.op_type for node in nodes if node.op_type not in ("Cast", "Constant"))
        return f"cannot be compared with the original's: it is computed with {', '.join(operators)}"

    def _size(self, name: str) -> int:
        return prod(self._shapes.get(name, (0,)))

    def _judgement(self, found: Mapping[str, float], results: Mapping[str, Array]) -> LayerJudgement:
        wrong = [name for name, excess in found.items() if not excess <= 1]
        worst = max(found, key=lambda name: found[name], default="")
        body = nodes_before(self._prepared.graph, list(self._ends.values()))
        return LayerJudgement(
            images=1,
            layers=sum(node.op_type not in _NO_LAYERS for node in body),
            judged=sum(self._own[name].op_type not in _NO_LAYERS for name in found),
            worst=self._own[worst].label() if worst else "",
            excess=found.get(worst, 0.0),
            failed=len(wrong),
            first=self._own[wrong[0]].label() if wrong else "",
            first_excess=found[wrong[0]] if wrong else 0.0,
            unlike=self._unlike.get(wrong[0], "") if wrong else "",
            results=results,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Values to judge, which of them are ``compared`` by computing them, the nodes that do so from those ``fed``, and what of the
    original's earlier values it ``needs``."""

    judged: Sequence[str]
    compared: Sequence[str]
    nodes: list[Node]
    fed: Collection[str]
    needs: Collection[str]


def _listed(operators: Sequence[str]) -> str:
    return " and ".join(operators) or "no activation"


def _dequantized(graph: Graph, producers: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    """Results of DequantizeLinear, with the values that were quantized, or with the integers where these are given."""
    for node in graph.nodes:
        if node.op_type == DEQUANTIZE:
            before = producers.get(node.inputs[0])
            yield (
                node.outputs[0],
                before.inputs[0] if before is not None and before.op_type == QUANTIZE else node.inputs[0],
            )
