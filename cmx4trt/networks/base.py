"""What a network is: the one interface between this package and what it builds engines of.

A ``Network`` is what ``--network`` names: facts as data, light to import, and doors to the code behind it: a generator of random
weights, the import from ONNX, the outputs, the comparison with the original, ground truth and accuracy. All else asks the
registry in ``cmx4trt.networks``. docs/how-to/network.md shows how to add one. Standard library only at import.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.base.frozen import Frozen, field
from cmx4trt.base.options import Option, OwnOptions, options_of
from cmx4trt.errors import ModelError, RequestError, UnsupportedError
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD, RGB, InputForm

if TYPE_CHECKING:
    from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.images.lists import ListedImage, Truth
    from cmx4trt.ir.model import Graph, Model
    from cmx4trt.ir.onnx_file import EncodedGraph
    from cmx4trt.sessions.base import Session

Outputs = Mapping[str, Any]
"""Name -> array [N, ...] of a batch."""
OriginalMessage = Callable[[str], "EncodedGraph"]
"""Gives the original model, byte for byte as it was read, with one value among its outputs."""


class Verification(Protocol):
    """A verdict with what was measured."""

    @property
    def verdict(self) -> str:
        """PASSED where both agree, FAILED where they do not, SKIPPED where what was measured cannot tell."""

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""

    def sentence(self) -> str:
        """In words."""


class QuantizedFile(Protocol):
    """A file that was quantized before it came here, run as the graph that is made of it: on images [1, C, H, W] as that takes
    them, with its raw results under that graph's names."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The graph's input."""

    @property
    def consistent(self) -> bool:
        """Whether, as far as was compared, the file's results are those that its raw results lead to."""

    def input_dtype(self, name: str) -> str:
        """The numpy name of what images are given in."""

    def run(self, feeds: Outputs) -> Outputs:
        """The raw results of one image."""


class Responder(Protocol):
    """Answers the samples of one batch to LoadGen, in the bytes that MLPerf's accuracy scripts read; belongs to one thread.

    LoadGen copies the bytes before ``QuerySamplesComplete`` returns, so response objects and buffers are made once and used for
    every batch: setting an id costs a fifth of making an object (benchmarks/harness.py).
    """

    def complete(self, ids: list[int], indices: Sequence[int], outputs: Outputs) -> None:
        """Tell LoadGen the answers of the samples ``indices``; ``outputs`` may hold more rows than that (padding)."""


ResponderFactory = Callable[[Any, int], Responder]
"""Makes a responder of a LoadGen module and the largest batch; called once for each thread."""
Answers = Callable[[Sequence[str]], ResponderFactory]
"""Says how the outputs with these names, which a session has, become answers. Raises UnsupportedError where they cannot."""


class AccuracyTarget(Frozen):
    """MLPerf's: ``reference`` is the float32 model's in percent, ``share`` what a submission must reach of it, both on a
    validation set of ``images`` images."""

    reference: float
    images: int
    share: float = 0.99

    @property
    def least(self) -> float:
        """What must be reached, in percent."""
        return self.reference * self.share


class Results(Frozen):
    """What a graph's results are, so that two runs of it can be compared.

    ``values``: raw results, compared by their signal-to-noise ratio; ``kind``: what they mean ('classes'); ``count_agreeing``:
    of two runs' outputs, how many results the two share, and how many the first has. ``priors``: what a raw result is without
    its image, [C] for each channel; ``from_values``: whether ``count_agreeing`` needs no more than ``values``; ``follow``:
    whether what a run's outputs mean is what its raw results lead to; ``answer_alike``: whether two graphs make the same of the
    same raw results, whatever the weights find.
    """

    values: tuple[str, ...]
    kind: str
    count_agreeing: Callable[[Outputs, Outputs], tuple[int, int]]
    priors: Mapping[str, Any] = field(default_factory=dict)
    from_values: bool = False
    follow: Callable[[Outputs], bool] | None = None
    answer_alike: Callable[[PreparedGraph, PreparedGraph], bool] | None = None


class Network(ABC):
    """A network with all that only it knows.

    - ``spec``: name, title, sizes; ``metric``: of its accuracy; ``accuracy``: MLPerf's target, if there is one
    - ``own_options``: the class that declares options which mean nothing with another network, and are refused there
    - ``mean``, ``std``: for pixels 0..1; ``stored_as_pixels``: whether files may hold pixels that are not yet normalized
    - ``label_file``: where a folder of preprocessed images holds the ground truth
    - ``int8_images``: on how many images INT8 is measured, a few seconds on two cores
    """

    spec: ModelSpec
    metric: str
    label_file: str
    accuracy: AccuracyTarget | None = None
    own_options: type[OwnOptions] | None = None
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD
    stored_as_pixels: bool = False
    int8_images: int = 16

    @property
    def name(self) -> str:
        """What ``--network`` takes."""
        return self.spec.name

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that it owns."""
        return options_of(self.own_options, self.name) if self.own_options else ()

    def with_spec(self, spec: ModelSpec) -> Network:
        """The same network in other sizes."""
        import copy

        changed = copy.copy(self)
        changed.spec = spec
        return changed

    def of_engine(self, notes: Mapping[str, Any]) -> Network:
        """The same network as an engine has it; ``notes``: of the engine's graph, from the manifest."""
        return self

    def check_request(self, request: GraphOptions) -> None:
        """Refuse combinations of options that only this network knows to be impossible. Raises RequestError."""
        return

    def model_from_seed(self, seed: int) -> Model:
        """The exact topology with random weights drawn from ``seed``; nothing is read from a file. Raises RequestError."""
        raise RequestError(f"{self.spec.title} has no generator of random weights; give its file with --model")

    def load(self) -> None:
        """Import the modules of ``import_model``. Called while the model's file is read."""
        return

    @abstractmethod
    def import_model(self, model: Model, options: GraphOptions) -> CanonicalGraph:
        """The canonical graph of a file's ``model``, which is consumed. Raises ModelError on another network."""

    def gives_raw_results(self, options: GraphOptions) -> bool:
        """Whether the canonical graph's outputs are the engine's, in the type that ``output_dtype`` asks for."""
        return True

    @abstractmethod
    def attach_outputs(self, graph: CanonicalGraph, options: GraphOptions) -> None:
        """Append what makes an engine's outputs of the raw results, and declare them."""

    @abstractmethod
    def compare(
        self, graph: PreparedGraph, original: OriginalMessage, options: GraphOptions, engine: Session | None = None
    ) -> Verification:
        """Compare the prepared graph with the original model in ONNX Runtime on the CPU, on seeded inputs.

        ``engine``, where given, runs in place of the graph it was built from.
        """

    def open_quantized_file(
        self, graph: PreparedGraph, original: OriginalMessage, options: GraphOptions
    ) -> QuantizedFile:
        """The quantized file that ``graph`` was made of. Raises UnsupportedError where there is no comparison with such files."""
        raise UnsupportedError(
            f"{self.spec.title} has no comparison with a quantized file; build with --verify=no, or give the float model"
        )

    @abstractmethod
    def results(self, graph: PreparedGraph, options: GraphOptions) -> Results:
        """What to compare of two runs of the graph in different precisions."""

    def names_in_caches(self, graph: Graph) -> Mapping[str, str]:
        """Tensor of a canonical ``graph`` -> its name in NVIDIA's calibration caches; empty where none are known."""
        return {}

    def input_form(self, notes: Mapping[str, Any], scale: float | None, options: GraphOptions) -> InputForm:
        """What an engine takes. ``notes``: of its graph, from the manifest; ``scale``: of an int8 input."""
        return InputForm(self.mean, self.std, scale, self.stored_as_pixels)

    @abstractmethod
    def answers(self, declared: Sequence[Mapping[str, Any]], options: GraphOptions) -> Answers:
        """How an engine whose manifest declares these outputs (name, shape) answers LoadGen."""

    @abstractmethod
    def listed_images(self, path: str, names: Sequence[str]) -> list[ListedImage]:
        """The images of the ground truth at ``path``, in its order; ``names``: of the images there are. Raises DataError."""

    def check_measurable(self) -> None:
        """Refuse, before a run, to measure accuracy without the software for it. Raises MissingSoftwareError."""
        return

    @abstractmethod
    def accuracy_of_answers(self, answers: Mapping[int, bytes], truth: Truth) -> float | None:
        """``metric`` in percent of what was answered for each sample; None where there is nothing to measure against.

        Raises DataError for answers of another kind.
        """

    def unanswerable(self, outputs: Sequence[str]) -> UnsupportedError:
        """The error for outputs that no accuracy script can be served from."""
        return UnsupportedError(
            f"an engine of {self.spec.title} with the outputs {', '.join(outputs)} has no classes or detections, which "
            "LoadGen's accuracy log needs; build it with the default outputs"
        )


def wrong_model(spec: ModelSpec, found: str, need: str) -> ModelError:
    """The error for a file of another network than ``spec``'s."""
    return ModelError(f"the model is not {spec.title}: found {found}, need {need}; give the right file or --network")


def unusable_file(spec: ModelSpec, found: str, need: str) -> ModelError:
    """The error for a file that may well be ``spec``'s network, but in a form that cannot be built."""
    return ModelError(f"the file of {spec.title} cannot be built: found {found}, need {need}; export the model again")
