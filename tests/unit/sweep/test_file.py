"""The sweep file: what it means, and that every mistake is told with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from cmx4trt.errors import RequestError
from cmx4trt.sweep.cells import equal_cells
from cmx4trt.sweep.example import EXAMPLE
from cmx4trt.sweep.run import Sweep, plan_rows
from cmx4trt.sweep.schema import schema_of_sweeps
from cmx4trt.sweep.tasks import BUILD, MEASURE

SweepOf = Callable[[str], Sweep]
SEED = "defaults: {random_weights: 0}\n"


def test_the_matrix_without_exclusions_then_what_is_included(sweep_of: SweepOf) -> None:
    sweep = sweep_of(
        SEED + "matrix:\n  precision: [fp16, fp32]\n  batch_size: [1, 4]\n"
        "exclude: [{precision: fp32, batch_size: 4}]\ninclude: [{batch_size: 8, precision: bf16}]\n"
    )
    shown = [(cell.request.precision, cell.request.batch_size) for cell in sweep.cells]
    assert shown == [("fp16", 1), ("fp16", 4), ("fp32", 1), ("bf16", 8)]
    assert [cell.name for cell in sweep.cells][::3] == ["precision=fp16, batch_size=1", "batch_size=8, precision=bf16"]
    assert [task.kind for task in sweep.tasks()] == [BUILD, MEASURE] * 4


def test_one_engine_is_built_for_all_that_is_measured_of_it(sweep_of: SweepOf) -> None:
    sweep = sweep_of(SEED + "matrix: {bench.scenario: [Offline, Server, SingleStream, MultiStream]}\n")
    assert [task.kind for task in sweep.tasks()] == [BUILD, *[MEASURE] * 4]
    assert [cell.scenario for cell in sweep.cells] == ["Offline", "Server", "SingleStream", "MultiStream"]


def test_equal_requests_run_once_however_they_are_written(sweep_of: SweepOf, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.onnx").write_bytes(b"equal")
    sweep = sweep_of(
        "include:\n  - {model: a.onnx}\n  - {model: b.onnx, workspace_size: 4GiB}\n"
        "  - {model: a.onnx, workspace_size: 4096MiB, builder: tensorrt-rtx}\n  - {model: a.onnx, copy_streams: 2}\n"
    )
    assert equal_cells(sweep.cells) == 2
    assert len({cell.build for cell in sweep.cells}) == 2


def test_defaults_give_way_and_bench_can_be_left_out(sweep_of: SweepOf) -> None:
    sweep = sweep_of(
        "defaults: {random_weights: 0, batch_size: 2, bench: {count: 8, scenario: Server}}\n"
        "include: [{batch_size: 4}, {bench: no}, {bench.count: 9}]\n"
    )
    assert [cell.request.batch_size for cell in sweep.cells] == [4, 2, 2]
    assert sweep.cells[0].evaluations == {"bench": {"count": 8, "scenario": "Server"}}
    assert (sweep.cells[1].evaluations, sweep.cells[1].measure) == ({}, "")
    assert sweep.cells[2].evaluations["bench"]["count"] == 9


def test_a_gpu_is_named_in_any_way(sweep_of: SweepOf) -> None:
    sweep = sweep_of(SEED + "matrix: {gpu: [H100, sm89, '8.6', my-gpus]}\n")
    assert [cell.gpu for cell in sweep.cells] == ["sm90", "sm89", "sm86", "my-gpus"]


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)
MISTAKES = [
    ("matrix: {precision: [fp16}\n", 1, "this is not YAML"),
    ("matrx: {}\n", 1, "'matrx' is not part of a sweep; did you mean 'matrix'"),
    ("- a\n", 1, "a sweep is a list, expected a mapping"),
    ("", 1, "there are no cells"),
    ("matrix:\n  batch_sise: [1]\n", 2, "'batch_sise' is not part of matrix; did you mean 'batch_size'"),
    ("matrix:\n  batch_size: []\n", 2, "batch_size has no values"),
    ("matrix:\n  batch_size:\n    - 1\n    - many\n", 4, "batch_size is 'many', expected"),
    ("matrix:\n  batch_size: [1]\n  batch_size: [2]\n", 3, "'batch_size' is given twice"),
    ("defaults:\n  bench: {cout: 3}\n", 2, "'cout' is not part of bench; did you mean 'count'"),
    ("defaults:\n  accuracy: yes\n", 2, "accuracy is 'True', expected a mapping"),
    (
        SEED + "matrix: {batch_size: [1, 2]}\nexclude:\n  - {batch_size: 3}\n",
        4,
        "batch_size=3, which is not in the matrix",
    ),
    (SEED + "matrix:\n  builder: [tensorrt-rtx, hopper]\n", 2, "cell builder=hopper: .*, or exclude this cell"),
    (SEED + "include:\n  - {batch_size: 4}\n  - {device: cuda, builder: tensorrt}\n", 4, "'gpu' does not say on which"),
    ("include:\n  - {batch_size: 4}\n", 2, "no model: give --model"),
    ("include:\n  - {model: none.onnx}\n", 2, "none.onnx does not exist"),
    (SEED + "include: [{bench.target_qps: 3, bench.scenario: SingleStream}]\n", 2, "target_qps has no effect"),
    (SEED + "include: [{}]\ntasks: {cores: 0}\n", 3, "cores is '?0'?, expected"),
    (SEED + "include: [{}]\nslurm:\n  cluster: pbs\n", 4, "cluster is 'pbs', expected"),
    (SEED + "include: [{}]\nslurm:\n  gpus:\n    sm90: {constrain: x}\n", 5, "did you mean 'constraint'"),
    (SEED + "include: [{}]\nslurm:\n  gpus:\n    'sm90 <': {}\n", 5, "gpu is 'sm90 <', expected a compute capability"),
    ("defaults: &a\n  bench: *a\n", 1, "contains itself"),
    (BOMB, None, "contains itself"),
]


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES, ids=[str(number) for number in range(len(MISTAKES))])
def test_a_mistake_is_told_with_its_line(
    sweep_of: SweepOf, tmp_path: Path, text: str, line: int | None, words: str
) -> None:
    with pytest.raises(Exception, match=words) as caught:
        sweep_of(text)
    assert str(caught.value).startswith(f"{tmp_path}/s.yaml:{line or ''}")


def test_too_many_cells_are_refused_before_they_are_made(sweep_of: SweepOf) -> None:
    numbers = f"[{', '.join(map(str, range(1, 17)))}]"
    axes = "".join(f"  {name}: {numbers}\n" for name in ("copy_streams", "batch_size", "random_weights", "bench.count"))
    with pytest.raises(RequestError, match=r"these are 131,072 cells, expected at most 100,000"):
        sweep_of(f"matrix:\n{axes}  precision: [fp16, fp32]\n")


def test_the_example_is_one(sweep_of: SweepOf) -> None:
    sweep = sweep_of(EXAMPLE)
    assert len(sweep.cells) == 7
    assert [done for _, done, _ in plan_rows(sweep)][:2] == ["build, measure", "same engine as above, measure"]


def test_the_schema_takes_what_the_command_takes() -> None:
    schema = schema_of_sweeps()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(yaml.safe_load(EXAMPLE))
    validator.validate(
        yaml.safe_load(EXAMPLE.replace("  # - {", "  - {").replace("# slurm:", "slurm:").replace("#   ", "  "))
    )
    for wrong in ({"matrx": {}}, {"matrix": {"precision": ["fp8"]}}, {"include": [{"bench": {"cout": 1}}]}):
        assert not validator.is_valid(wrong), wrong
