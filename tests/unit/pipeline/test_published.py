"""One process reads an engine once, and prepares and compares its graph once, however much is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.errors import ModelError
from cmx4trt.networks import registered
from cmx4trt.networks.resnet50 import ResNet50
from cmx4trt.pipeline.build import build_with_graph
from cmx4trt.pipeline.evaluate import bench, verify
from cmx4trt.pipeline.published import EngineAtHand
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import EvaluationOptions

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
ON_GRAPH = EvaluationOptions(execute="graph")


class Counted(ResNet50):
    """Says when it is imported and compared."""

    calls: ClassVar[list[str]] = []

    def import_model(self, *arguments: Any) -> Any:
        self.calls.append("import")
        return super().import_model(*arguments)

    def compare(self, *arguments: Any) -> Any:
        self.calls.append("compare")
        return super().compare(*arguments)


@pytest.fixture
def calls() -> Any:
    Counted.calls.clear()
    with registered(Counted()):
        yield Counted.calls


def ask_everything(at_hand: EngineAtHand, logs: Path) -> None:
    assert verify(at_hand, ON_GRAPH, Silent()).exports["AGREES"] == "yes"
    short = EvaluationOptions(execute="graph", mode="accuracy", count=2, log_dir=str(logs))
    assert bench(at_hand, short, Silent()).exports["EXECUTED"] == "graph"
    assert verify(at_hand, ON_GRAPH, Silent()).exports["AGREES"] == "yes"


def test_a_build_that_is_verified_and_benched_prepares_once_and_compares_once(
    tensorrt_rtx: str, tmp_path: Path, calls: list[str]
) -> None:
    values = {"random_weights": 3, "batch_size": 2, "report": False, "output_dir": tmp_path / "out"}
    result, graph = build_with_graph(BuildRequest.from_values(values))
    ask_everything(EngineAtHand(result.engine, Silent(), graph), tmp_path / "logs")
    assert calls == ["import", "compare"]


def test_a_published_engine_is_read_once_and_prepared_once(copied: Path, tmp_path: Path, calls: list[str]) -> None:
    at_hand = EngineAtHand(str(copied), Silent())
    assert verify(at_hand, ON_GRAPH, Silent()).exports["AGREES"] == "yes"
    copied.write_bytes(b"whatever is there now is not read again")
    ask_everything(at_hand, tmp_path / "logs")
    assert calls == ["import", "compare"]


def test_a_moved_source_is_prepared_from_where_it_is(engine: Path, tmp_path: Path) -> None:
    at_hand = EngineAtHand(str(engine), Silent())
    here = at_hand.subject(None, None)
    moved = at_hand.subject("resnet50", str(tmp_path / "moved.onnx"))
    assert moved.engine.request.model == str(tmp_path / "moved.onnx")
    assert moved.engine.data is here.engine.data
    assert at_hand.subject(None, None).engine.request == here.engine.request
    with pytest.raises(ModelError, match="is an engine of resnet50, expected one of retinanet"):
        at_hand.subject("retinanet", None)
