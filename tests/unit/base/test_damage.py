"""Damaged and hostile content: one sentence, the file's name, the right exit code; found by benchmarks/attacks.py."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cmx4trt.base.damage import parse_json, printable, printable_json
from cmx4trt.base.values import parse_int, parse_path
from cmx4trt.errors import DataError, ModelError, RequestError

REPOSITORY = Path(__file__).parents[3]
PYTHON = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
LONG, DEEP = "9" * 5000, "[" * 100_000


def run(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``$CMX`` in the line is the command."""
    words = ["bash", "-c", line.replace("$CMX", f"'{sys.executable}' -m cmx4trt")]
    return subprocess.run(words, cwd=cwd, env=PYTHON, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("text", [LONG, DEEP, f"[{LONG}]", '{"a": NaN', "", "\x00"])
def test_no_json_leads_to_anything_but_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"digits|deep|Expecting"):
        parse_json(text)


@pytest.mark.parametrize("content", [DEEP, f'{{"batch_size": {LONG}}}', '{"batch_size": "' + LONG + '"}', "\xff"])
@pytest.mark.parametrize("flag", ["--request", "--random_weights=0 --evaluation"])
def test_option_files(tmp_path: Path, content: str, flag: str) -> None:
    text = f'{{"bench": {content}}}' if "evaluation" in flag and content.startswith("{") else content
    (tmp_path / "options.json").write_text(text, encoding="latin-1")
    done = run(f"$CMX build {flag}=options.json", tmp_path)
    assert done.returncode == 2, done.stderr
    assert "options.json" in done.stderr
    assert len(done.stderr) < 700


def test_numbers_of_any_length() -> None:
    assert parse_int("n", "0" * 5000 + "7", 0, 9) == 7
    with pytest.raises(RequestError, match=r"n is 9{100}…, expected a whole number from 0 to 9"):
        parse_int("n", LONG, 0, 9)


def test_a_manifest_with_a_nul_in_a_name(publish_small: Callable[..., Path], tmp_path: Path) -> None:
    manifest = publish_small(tmp_path).with_suffix(".json")
    values = json.loads(manifest.read_text())
    values["engine"]["file"] = "a\0b.plan"
    manifest.write_text(json.dumps(values))
    done = run(f"$CMX verify '{manifest}'; $CMX inspect '{manifest}'", tmp_path)
    assert "unforeseen" not in done.stderr
    assert "cannot be read" in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["inspect e.plan", "report e.plan", "build --model=m.onnx", "bench e.plan"])
def test_a_deleted_current_folder(tmp_path: Path, command: str) -> None:
    done = run(f"mkdir gone && cd gone && rm -r ../gone && PYTHONSAFEPATH=1 $CMX {command}", tmp_path)
    assert done.returncode in (2, 3), done.stderr
    assert "unforeseen" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_in_a_deleted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(RequestError, match="current folder was deleted"):
        parse_path("model", "m.onnx")
    assert parse_path("model", "/m.onnx") == "/m.onnx"


def test_too_little_memory_is_one_sentence(resnet50_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, cmx4trt.pipeline.plan as p; p.plan = lambda *a, **k: bytearray(1 << 62);"
        "from cmx4trt.cli import main; sys.exit(main(['build', '--random_weights=0', '--dry_run']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=PYTHON, capture_output=True, text=True, check=False
    )
    assert done.returncode == 9
    assert "this machine ran out of memory" in done.stderr


@pytest.mark.parametrize("end", ["2>/dev/full", "2> >(exec true)"])
def test_a_build_ends_well_though_nobody_takes_its_log(resnet50_file: Path, tmp_path: Path, end: str) -> None:
    done = run(f"$CMX build '--model={resnet50_file}' --verify=no --report=no {end}", tmp_path)
    assert done.returncode == 0
    assert len(list(tmp_path.rglob("*.plan"))) == 1
    assert run(f"$CMX build --model=none.onnx {end}", tmp_path).returncode == 3


def test_names_command_no_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\x9b31m\u202e.onnx"
    done = run(f"$CMX build --dry_run '--model={name}'; $CMX inspect '{name}'", tmp_path)
    assert done.stderr.count(r"\x1b]0;owned\x07\x9b31m\u202e") == 2
    assert not set(done.stdout + done.stderr) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert printable("tab\tline\nend") == "tab\tline\nend"


def test_json_for_a_terminal_is_the_same_json() -> None:
    text = json.dumps({"a\x9b": "\x1b[2J\x7f\u202e", "ü": 1}, ensure_ascii=False)
    shown = printable_json(text)
    assert json.loads(shown) == json.loads(text)
    assert "\x9b" not in shown
    assert "ü" in shown


@pytest.mark.parametrize("shape", [(1,), (32,), (64, 1), ()])
def test_batch_norm_of_another_shape_is_a_model_error(
    mlperf_like: Callable[..., object], shape: tuple[int, ...]
) -> None:
    """ONNX Runtime found it before, as a device that cannot run it."""
    import numpy as np

    from cmx4trt.graph.batchnorm import fold_batch_norm
    from cmx4trt.ir.model import Model, Tensor

    model = mlperf_like()
    assert isinstance(model, Model)
    name = next(node.inputs[1] for node in model.graph.nodes if node.op_type == "BatchNormalization")
    model.graph.initializers[name] = Tensor.from_numpy(name, np.ones(shape, np.float32))
    with pytest.raises(ModelError, match=rf"constant '{name}' of BatchNormalization .* expected \[64\]"):
        fold_batch_norm(model.graph)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    from cmx4trt.quantize.samples import open_samples

    path = tmp_path / "image.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00\x02\x00\xff\x00" + bytes(240))
    with pytest.raises(DataError, match=str(path)):
        open_samples(str(path), (3, 4, 5))


@pytest.mark.slow
def test_attacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run of the script that anyone can run longer: every kind of file, no case that ends otherwise than it may."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "attacks.py"), "--count", "20", "--seed", "7"]
    done = subprocess.run(command, env=PYTHON, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines()[1:]]
    *kinds, total = (row[0].strip() for row in rows)
    assert (kinds, total) == (list(importlib.import_module("attacked").KINDS), "total")
    assert all(cell.strip() == "0" for row in rows for cell in row[3:])
