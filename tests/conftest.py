"""Fixtures that several test folders share."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from cmx4trt import backends, networks
from cmx4trt.backends.base import Backend, BuiltEngine
from cmx4trt.backends.hopper.lowering import FLAVOR, lower
from cmx4trt.backends.hopper.network import Network
from cmx4trt.base.progress import Silent
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.networks import model_from_seed, spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.pipeline import build as pipeline
from cmx4trt.pipeline.checked import CheckedGraph, checked_graph
from cmx4trt.pipeline.source import Source
from cmx4trt.quantize import quantize_network
from cmx4trt.requests.build import BuildRequest

REPOSITORY = Path(__file__).parents[1]


def pytest_configure() -> None:
    """What nohup or a shell's ``&`` had this process ignore is as in a terminal, here and in what tests start."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """Test data too large for the repository; absent on users' machines."""
    folder = Path(os.environ.get("CMX4TRT_SHARED", REPOSITORY.parent / "shared")) / "fixtures"
    if not folder.is_dir():
        pytest.skip(f"the shared fixtures are not here ({folder}); set CMX4TRT_SHARED")
    return folder


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts small file systems; needs root and the right to mount."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"tmpfs{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"cannot mount a tmpfs here: {result.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def tensorrt_rtx() -> str:
    """Skips where TensorRT-RTX is missing; gives its version."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'cmx4trt[rtx]')")
    from cmx4trt.backends.tensorrt.rtx import TensorRTRTXBuilder

    return TensorRTRTXBuilder().version()


@pytest.fixture(scope="session")
def block_of_page() -> Callable[[str, str], str]:
    """Gives the commands of a document (a path below the clone) that it marks as executed by a test (file::name)."""

    def find(page: str, test: str) -> str:
        mark = re.escape(f"<!-- executed by {test} -->")
        found = re.search(rf"{mark}\n```bash\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.S)
        assert found, f"{page} has no block marked as executed by {test}"
        return found[1]

    return find


@pytest.fixture
def labelled_images(tmp_path: Path) -> Path:
    """A folder of three preprocessed images [3, 224, 224] float32 with their labels."""
    return write_labelled_images(tmp_path / "images", 224)


def write_labelled_images(folder: Path, size: int) -> Path:
    folder.mkdir()
    for number in range(3):
        np.save(folder / f"val_{number}.JPEG.npy", np.full((3, size, size), number, np.float32))
    (folder / "val_map.txt").write_text("val_0.JPEG 1\nval_1.JPEG 2\nval_2.JPEG 3\n")
    return folder


@pytest.fixture
def engines(published: Path, tmp_path: Path) -> Path:
    """The engine that the tests' framework has ``published``, in a folder of its own for the logs."""
    shutil.copytree(published, tmp_path / "engines", copy_function=shutil.copy2)
    return tmp_path / "engines"


@pytest.fixture(scope="session")
def processes_that_name() -> Callable[[Path], list[str]]:
    """Finds the command lines of running processes that hold a path."""

    def find(path: Path) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # gone meanwhile
                words = (entry / "cmdline").read_text(errors="replace") if entry.name.isdigit() else ""
                found += [words] if str(path) in words else []
        return found

    return find


T = TypeVar("T", Backend, networks.base.Network)


def with_members(original: T, **members: Any) -> T:
    """A copy of a backend or a network with ``members`` (builder, open_session, …) of the test's; functions get no ``self``."""
    changed = copy.copy(original)
    vars(changed).update(members)
    return changed


@pytest.fixture
def stand_in() -> Iterator[Callable[..., None]]:
    """Puts a backend or a network into the registry until the test ends.

    ``stand_in(name, builder=…)``: the registered one with these members; ``stand_in(Hopper(…))``: this one.
    """
    with ExitStack() as stack:

        def put(what: str | Backend, **members: Any) -> None:
            if not isinstance(what, str):
                stack.enter_context(backends.registered(what))
            elif what in backends.names():
                stack.enter_context(backends.registered(with_members(backends.backend_of(what), **members)))
            else:
                stack.enter_context(networks.registered(with_members(networks.network_of(what), **members)))

        yield put


@pytest.fixture
def small_resnet50(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a small classifier, which is ResNet-50 as long as the test lasts (tests/data/small_resnet50.py)."""
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "data")
    path = tmp_path_factory.mktemp("small") / "resnet50.onnx"
    found = import_module("small_resnet50").NETWORKS
    path.write_bytes(encode_model(found[0].model_from_seed(7), None).message)
    with networks.registered(*found):
        yield path


@pytest.fixture(scope="session")
def small_environment() -> dict[str, str]:
    """Makes it ResNet-50 in other processes."""
    return {"CMX4TRT_NETWORKS": "small_resnet50", "PYTHONPATH": str(REPOSITORY / "tests" / "data")}


@pytest.fixture
def labelled_small_images(tmp_path: Path) -> Path:
    """A folder of three preprocessed images [3, 32, 32] float32 with their labels."""
    return write_labelled_images(tmp_path / "images", 32)


class SmallBuilder:
    """Gives an engine of a few bytes at once; the manifest around it is real."""

    name = "tensorrt-rtx"
    version_text = "1.2.3"

    def version(self) -> str:
        return self.version_text

    def resolve(self, request: BuildRequest) -> Mapping[str, Any]:
        return {}

    def identity(self, request: BuildRequest) -> Mapping[str, str]:
        return {"name": request.builder, "version": self.version()}

    def build(self, graph: Any, request: BuildRequest, progress: Any, stopped: Callable[[], bool]) -> BuiltEngine:
        return BuiltEngine(b"an engine of 22 bytes\n", {"network_layers": 7}, ("a warning", "a warning"))


def backends_with(builder: SmallBuilder) -> list[Backend]:
    """All that are registered, building with ``builder``."""
    return [with_members(backend, builder=lambda: builder, load=lambda: None) for backend in backends.all_backends()]


@pytest.fixture
def small_builder() -> Iterator[SmallBuilder]:
    """Builds take no library and no time."""
    builder = SmallBuilder()
    with backends.registered(*backends_with(builder)):
        yield builder


class GraphsMadeOnce:
    """Makes what a build prepares and verifies: the same for requests that differ in no more than their places."""

    def __init__(self) -> None:
        self._made: dict[str, CheckedGraph] = {}

    def make(self, request: BuildRequest, source: Source, *others: Any) -> CheckedGraph:
        places = {"output_dir": "", "model": None, "wait": 0, "report": False}
        key = f"{source.part()} {request.changed(places)}"
        if key not in self._made:  # only the last: a graph takes 100 MB
            self._made = {key: checked_graph(request, source, *others)}
        return self._made[key]


@pytest.fixture(scope="session")
def publish_small() -> Callable[..., Path]:
    """Publishes an engine of a few bytes in a folder, without a report; gives its path."""

    graphs = GraphsMadeOnce()

    def publish(folder: Path, **values: object) -> Path:
        with backends.registered(*backends_with(SmallBuilder())):
            given = {"random_weights": 1, "report": False, "output_dir": str(folder), **values}
            result, _ = pipeline.build_with_graph(BuildRequest.from_values(given), make_graph=graphs.make)
            return Path(result.engine)

    return publish


@dataclass(frozen=True)
class HopperNetwork:
    """A network lowered for the builder hopper, with the Q/DQ graph that it was lowered from."""

    prepared: PreparedGraph
    network: Network


@pytest.fixture(scope="session")
def lowered_for_hopper(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., HopperNetwork]:
    """Quantizes a ResNet-50 (consumed) with the ranges of two random images, or as ``options`` ask, and lowers it."""

    def make(model: Model, **options: object) -> HopperNetwork:
        values = {"calibration_data": "random", "calibration_count": 2, "calibration_method": "minmax"}
        request = BuildRequest.from_values({"random_weights": 0, "precision": "int8", **values, **options})
        network = network_from_model(model, spec_of("resnet50"), request)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("ranges")))
            quantize_network(network, request, Silent(), FLAVOR)
        prepared = prepared_from_network(network, request, FLAVOR.rest)
        return HopperNetwork(prepared, lower(prepared.model))

    return make


@pytest.fixture(scope="session")
def hopper_resnet50(lowered_for_hopper: Callable[..., HopperNetwork]) -> HopperNetwork:
    """ResNet-50 with random weights and 1001 classes, made in about three seconds."""
    return lowered_for_hopper(model_from_seed("resnet50", 0))


@pytest.fixture
def model_from_text() -> Callable[[str], Model]:
    """A model from ONNX's textual syntax."""
    import onnx.parser

    def parse(text: str) -> Model:
        header = text if text.lstrip().startswith("<") else f'<ir_version: 8, opset_import: ["" : 17]> {text}'
        return decode_model(onnx.parser.parse_model(header).SerializeToString())

    return parse


@pytest.fixture(scope="session")
def _resnet50_message() -> bytes:
    return encode_model(model_from_seed("resnet50", 7), None).message


@pytest.fixture
def resnet50_model(_resnet50_message: bytes) -> Model:
    """ResNet-50 as the generator draws it (opset 13, 1001 classes), to be edited at will."""
    return decode_model(_resnet50_message)


@pytest.fixture(scope="session")
def resnet50_file(_resnet50_message: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file; not to be changed."""
    path = tmp_path_factory.mktemp("model") / "resnet50.onnx"
    path.write_bytes(_resnet50_message)
    return path


@pytest.fixture
def mlperf_like(resnet50_model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """ResNet-50 written as the MLPerf file writes it: ``build(opset=11, batch=1, batch_norm=True)``."""
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "data")
    return partial(import_module("mlperf_file").written_as_mlperfs, resnet50_model)
