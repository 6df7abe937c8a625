"""``cmx4trt prepare``: what it writes is what the builder is given."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from cmx4trt.cli import main
from cmx4trt.ir.onnx_file import decode_model, encode_model, read_bytes
from cmx4trt.pipeline.build import build
from cmx4trt.requests.build import BuildRequest

WEIGHTS = "--random_weights=3"


def test_the_file_is_the_builders_graph(tensorrt_rtx: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "graph.onnx"
    assert main(["prepare", WEIGHTS, "--precision=fp16", "--output_dtype=fp16", f"--save={path}"]) == 0
    printed = capsys.readouterr().out
    assert "input ['N', 3, 224, 224]" in printed
    onnx.checker.check_model(str(path))
    found = decode_model(read_bytes(str(path)))
    assert encode_model(found).sha256() in printed
    values = {
        "random_weights": 3,
        "precision": "fp16",
        "output_dtype": "fp16",
        "verify": False,
        "output_dir": str(tmp_path),
    }
    manifest = build(BuildRequest.from_values(values)).manifest
    assert manifest.graph.sha256 in printed
    again = tmp_path / "again.onnx"
    flags = [WEIGHTS, "--output_dtype=fp16", "--verify=no", f"--output_dir={tmp_path}", f"--save_graph={again}"]
    assert main(["build", *flags]) == 0  # the published engine's; its graph is prepared once more
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([WEIGHTS], 2, "no file to write the graph to; give --save=FILE.onnx"),
        ([WEIGHTS, "--save=/nowhere/graph.onnx"], 4, "--save"),
        ([WEIGHTS, "--device=cuda", "--save=graph.onnx"], 10, "builds from a graph of its own"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", *arguments]) == code
    assert words in capsys.readouterr().err
