"""``cmx4trt calibrate``: what it writes can be read again, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmx4trt.cli import main
from cmx4trt.quantize.ranges import Ranges
from cmx4trt.quantize.tensorrt_cache import parse_cache

RANDOM = ["calibrate", "--random_weights=0", "--calibration_data=random", "--calibration_method=minmax"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_both_files_hold_the_same_scales(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranges, cache, named = (tmp_path / name for name in ("ranges.json", "graph.cache", "nvidia.cache"))
    files = [f"--ranges={ranges}", f"--tensorrt_cache={cache}"]
    assert main([*RANDOM, "--calibration_count=4", *files]) == 0
    assert "tensors with a range  55 of 55" in capsys.readouterr().out
    scales = Ranges.from_json(ranges.read_text(), "it").scales
    written = parse_cache(cache.read_bytes(), "it").scales
    assert list(written.values()) == list(scales.values())
    assert "input_tensor:0" in written  # the file's own name of the input
    assert main([*RANDOM, "--calibration_count=4", f"--tensorrt_cache={named}", "--tensorrt_names=nvidia"]) == 0
    assert "reused from an earlier run" in capsys.readouterr().out
    nvidia = parse_cache(named.read_bytes(), "it").scales
    assert list(nvidia.values()) == list(scales.values())
    assert {"input_tensor_0", "conv1_relu_out_0", "res5c_branch2b_relu_out_0"} <= nvidia.keys()
    # A cache in either naming gives the ranges back.
    for path in (cache, named):
        assert main(["calibrate", "--random_weights=0", f"--calibration_cache={path}"]) == 0
        assert "55 of 55" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["calibrate", "--random_weights=0"], 8, "give images (--calibration_data=FOLDER)"),
        (["calibrate", "--random_weights=0", "--calibration_data=/nowhere"], 8, "does not exist"),
        ([*RANDOM, "--calibration_count=0"], 2, "expected a whole number from 1"),
        ([*RANDOM, "--calibration_method=magic"], 2, "expected one of minmax, percentile, entropy, mse"),
        ([*RANDOM, "--ranges=/nowhere/r.json"], 4, "/nowhere is not a folder; make it or give another --ranges"),
        ([*RANDOM, "--tensorrt_cache=/dev/null"], 4, "not a regular file; give another --tensorrt_cache"),
    ],
)
def test_refusals(arguments: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    assert sentence in capsys.readouterr().err


def test_rank_needs_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "some.cache"
    cache.write_text("TRT-8001-EntropyCalibration2\na: 3f810204\n")
    assert main(["calibrate", "--random_weights=0", f"--calibration_cache={cache}", "--rank"]) == 2
    assert "rank needs images" in capsys.readouterr().err
