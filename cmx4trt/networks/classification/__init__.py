"""What classifiers share: outputs, comparison, classes as answers, labels, top-1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD, InputForm
from cmx4trt.networks.base import Answers, Network, Outputs, ResponderFactory, Results, Verification

if TYPE_CHECKING:
    from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.images.lists import ListedImage, Truth
    from cmx4trt.networks.base import OriginalMessage, QuantizedFile
    from cmx4trt.sessions.base import Session


class Classifier(Network):
    """A network whose result is a class. A subclass has ``spec``, ``classes`` and ``import_model``.

    ``classes``: how many count; logits before those stand for a background, which is no class of the data set.
    """

    classes: int
    metric = "top-1"
    label_file = "val_map.txt"

    def of_engine(self, notes: Mapping[str, Any]) -> Network:
        """With the number of classes of the file that the engine was built from, where it is another data set's."""
        count = int(notes.get("classes", self.classes))
        if count in (self.classes, self.classes + 1):  # the one more is a background class
            return self
        import copy

        changed = copy.copy(self)
        changed.classes = count
        return changed

    def attach_outputs(self, graph: CanonicalGraph, options: GraphOptions) -> None:
        """The class beside the logits."""
        from cmx4trt.networks.classification.outputs import attach_class

        attach_class(graph)

    def compare(
        self, graph: PreparedGraph, original: OriginalMessage, options: GraphOptions, engine: Session | None = None
    ) -> Verification:
        """Layers, logits and classes."""
        from cmx4trt.networks.classification.comparison import verify_classifier

        forms = (InputForm(self.mean, self.std), InputForm(IMAGENET_MEAN, IMAGENET_STD))
        return verify_classifier(graph, original, forms, engine)

    def open_quantized_file(
        self, graph: PreparedGraph, original: OriginalMessage, options: GraphOptions
    ) -> QuantizedFile:
        """Logits and class."""
        from cmx4trt.networks.classification.quantized_file import QuantizedClassifier

        return QuantizedClassifier(graph, original)

    def results(self, graph: PreparedGraph, options: GraphOptions) -> Results:
        """The logits, and the classes."""
        return CLASS_RESULTS

    def answers(self, declared: Sequence[Mapping[str, Any]], options: GraphOptions) -> Answers:
        """One class for each sample; where no logits are declared (NVIDIA's engines), none stands for a background."""
        logits = next((int(output["shape"][1]) for output in declared if output["name"] == "logits"), self.classes)
        background = max(0, logits - self.classes)

        def factory(outputs: Sequence[str]) -> ResponderFactory:
            from cmx4trt.networks.classification.responses import CLASS_OUTPUTS, ClassResponder

            output = next((name for name in CLASS_OUTPUTS if name in outputs), None)
            if output is None:
                raise self.unanswerable(outputs)
            return lambda lg, size: ClassResponder(lg, size, output, background)

        return factory

    def listed_images(self, path: str, names: Sequence[str]) -> list[ListedImage]:
        """Names with classes, or classes alone."""
        from cmx4trt.networks.classification.labels import images_of_class_list

        return images_of_class_list(path, names, self.classes)

    def accuracy_of_answers(self, answers: Mapping[int, bytes], truth: Truth) -> float | None:
        """Top-1."""
        from cmx4trt.networks.classification.accuracy import top1_of_answers

        return top1_of_answers(answers, truth.labels)


def _count_equal_classes(expected: Outputs, found: Outputs) -> tuple[int, int]:
    """A class whose expected logit is as large as the best one's is as good: in a file of integers there are ties. A wrong engine
    may give a number that is no class."""
    import numpy as np

    logits, classes = expected["logits"], found["class"]
    is_class = (classes >= 0) & (classes < logits.shape[1])
    chosen = logits[np.arange(len(classes)), np.where(is_class, classes, 0)]
    return int((is_class & (chosen == logits.max(axis=1))).sum()), len(classes)


def _class_is_largest(outputs: Outputs) -> bool:
    return bool((outputs["logits"].argmax(axis=1) == outputs["class"]).all())


CLASS_RESULTS = Results(("logits",), "classes", _count_equal_classes, follow=_class_is_largest)
