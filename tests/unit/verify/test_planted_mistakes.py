"""The matrix of benchmarks/mistakes.py, reduced: one small detector, float16, every mistake; and what it says of gaps."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from cmx4trt.ir.onnx_file import encode_model

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SEED = 1
PLACELESS = {"bias forgotten", "stride in the wrong convolution"}
"""A detector this small may have no place for them."""


@pytest.fixture(scope="module")
def mistakes() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module("mistakes")


@pytest.mark.slow
def test_what_is_right_passes_and_every_mistake_is_refused(mistakes: ModuleType) -> None:
    planted = import_module("planted")
    model, topology = planted.small_detector(SEED)
    message = encode_model(model, None).message
    one, request = mistakes.prepared(model, topology.spec(), "fp16")
    for case in [mistakes.RIGHT, *planted.MISTAKES]:
        graph = mistakes.with_mistake(one.graph, case, str(SEED))
        if graph is None:
            assert case in PLACELESS
            continue
        verdict, sentence = mistakes.judged(one, graph, message, request)
        assert verdict == ("passed" if case == mistakes.RIGHT else "failed"), f"{case}: {sentence}"
        assert "\n" not in sentence


def row(mistake: str, verdict: str, sentence: str = "", network: str = "A") -> dict[str, str]:
    return {
        "network": network,
        "origin": "drawn",
        "precision": "fp16",
        "mistake": mistake,
        "verdict": verdict,
        "sentence": sentence,
    }


def report(mistakes: ModuleType, rows: list[dict[str, str]], expected: int) -> str:
    found = mistakes.mistake_tables.report(rows, ["fp16"], ["nothing", "weights x2"], expected, {"T": ["torch"]})
    assert isinstance(found, str)
    return found


def test_a_table_says_what_it_lacks(mistakes: ModuleType) -> None:
    found = report(mistakes, [row("nothing", "passed"), row("weights x2", "failed")], 4)
    assert "Incomplete: 2 of 4 results are missing" in found
    assert "Left out: T (not installed: torch)" in found
    assert "1 networks, 2 results, 0 of them wrong" in found
    assert "Incomplete" not in report(mistakes, [row("nothing", "passed"), row("weights x2", "failed")], 2)


def test_a_table_names_what_was_judged_wrongly(mistakes: ModuleType) -> None:
    found = report(mistakes, [row("nothing", "failed", "why"), row("weights x2", "skipped")], 2)
    assert "2 of them wrong" in found
    assert "| **right graphs, passed** | 0 of 1 |" in found
    assert "| weights x2, refused | 0 of 1 (1 without a verdict) |" in found
    assert "Wrong: A, fp16, nothing: failed: why" in found


def test_an_overflow_is_set_aside(mistakes: ModuleType) -> None:
    right = row("nothing", "failed", "Conv 'c' overflows float16: 3 of 9 values")
    found = report(mistakes, [right, row("weights x2", "failed")], 2)
    assert "0 of them wrong" in found
    assert "Not counted: A in fp16" in found


@pytest.mark.slow
def test_processes_beside_each_other_go_on_where_a_run_was_cut_off(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    command = [sys.executable, str(BENCHMARKS / "mistakes.py"), "--out", str(out), "--processes", "2", "--no_torch"]
    command += ["--resnets", "0", "--detectors", "1", "--precisions", "fp32,bf16", "--only", "RetinaNet 0"]
    first = subprocess.run([*command, "--seconds", "0"], capture_output=True, text=True, check=False)
    assert first.returncode == 1
    assert "Incomplete: 30 of 30" in first.stdout
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    lines = out.read_text().splitlines()
    assert len({(r["precision"], r["mistake"]) for r in map(json.loads, lines)}) == len(lines) == 30
    out.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    third = subprocess.run(command, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    assert len(out.read_text().splitlines()) == 30
