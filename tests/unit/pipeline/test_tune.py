"""``cmx4trt tune``: from a published engine to a table in a file, and every reason why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt import backends
from cmx4trt.backends.facts import Tuning
from cmx4trt.cli import main
from cmx4trt.errors import ModelError, OutputError, UnsupportedError
from cmx4trt.pipeline.tune import tune_engine


@pytest.fixture
def engine(publish_small: Callable[..., Path], tmp_path: Path) -> Path:
    return publish_small(tmp_path / "engines")


@pytest.fixture
def tuned_graphs(stand_in: Callable[..., None]) -> list[str]:
    """The builder tensorrt-rtx measures here; the digests of the graphs that it is given."""
    graphs: list[str] = []

    def tune(graph: Any, request: Any, progress: Any) -> Tuning:
        graphs.append(graph().encoded.sha256())
        return Tuning("some_option", '{"measured": true}', (("measured on", "a GPU"),))

    stand_in("tensorrt-rtx", tune=tune)
    return graphs


def test_the_table_lies_beside_the_engine(engine: Path, tuned_graphs: list[str]) -> None:
    tuned = tune_engine(str(engine))
    assert tuned.path == str(engine.with_suffix(".kernels.json"))
    assert Path(tuned.path).read_text() == '{"measured": true}'
    assert tuned.option == "some_option"
    assert len(tuned_graphs) == 1


def test_the_command_says_where_the_table_is_and_how_it_is_used(
    engine: Path, tuned_graphs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "a table.json"
    assert main(["tune", str(engine), f"--save={table}"]) == 0
    printed = capsys.readouterr().out
    assert str(table) in printed
    assert "measured on" in printed
    assert f"with '--some_option={table}'" in printed
    assert table.exists()


def test_a_backend_without_a_choice_says_so(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedError, match="TensorRT-RTX has no alternative kernels"):
        tune_engine(str(engine))
    assert main(["tune", str(engine)]) == 10
    assert capsys.readouterr().err.count("\n") == 1
    assert not engine.with_suffix(".kernels.json").exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_measurement(
    engine: Path, tuned_graphs: list[str], tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="--save"):
        tune_engine(str(engine), save=str(tmp_path))
    assert tuned_graphs == []


def test_what_is_no_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        tune_engine(str(tmp_path / "none.plan"))


def test_every_backend_offers_the_door() -> None:
    assert all(callable(backend.tune) and callable(backend.measure) for backend in backends.all_backends())
