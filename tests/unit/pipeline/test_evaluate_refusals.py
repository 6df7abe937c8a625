"""What verify and bench refuse, in one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.base.install import pip_line
from cmx4trt.errors import MissingSoftwareError, ModelError
from cmx4trt.pipeline import evaluate
from cmx4trt.pipeline.published import read_published
from cmx4trt.requests.evaluation_options import EvaluationOptions
from cmx4trt.sessions.null import NullSession

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
Run = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.mark.parametrize("command", ["bench", "verify"])
def test_what_is_not_a_published_engine_is_refused(cmx4trt: Run, copied: Path, tmp_path: Path, command: str) -> None:
    with copied.open("r+b") as stream:
        stream.write(b"x")
    code, _, result = cmx4trt(command, copied)
    assert code == 3
    assert "is not the file that was published (truncated or edited); build it again" in result["error"]
    copied.with_suffix(".json").unlink()
    code, _, result = cmx4trt(command, copied)
    assert code == 3
    assert "cannot read manifest" in result["error"]
    code, _, result = cmx4trt(command, tmp_path / "none.plan")
    assert code == 3


def test_another_network_or_a_changed_recipe_is_refused(cmx4trt: Run, copied: Path) -> None:
    code, _, result = cmx4trt("bench", copied, "--network=retinanet")
    assert code == 3
    assert "is an engine of resnet50, expected one of retinanet" in result["error"]
    manifest = json.loads(copied.with_suffix(".json").read_text())
    manifest["graph"]["sha256"] = "0" * 64
    copied.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt("bench", copied, "--execute=graph", "--count=2", "--mode=accuracy")
    assert code == 3
    assert "prepares a different graph" in result["error"]
    manifest["parts"]["source"] = "random-weights:4"
    copied.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt("bench", copied, "--execute=graph", "--count=2", "--mode=accuracy")
    assert "it was random-weights:4 and is random-weights:3 now" in result["error"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "the following arguments are required: ENGINE"),
        (["ENGINE", "--batch_size=5"], 2, "batch_size is 5, expected at most the engine's 4"),
        (["ENGINE", "--duration=0"], 2, "duration is '0', expected a positive number"),
        (["ENGINE", "--scenario=Ofline"], 2, "did you mean 'Offline'"),
        (["ENGINE", "--count=0"], 2, "count is 0"),
        (["ENGINE", "--gpus=0,x"], 2, "gpus is '0,x', expected all, or numbers of GPUs such as 0,1"),
        (["ENGINE", "--gpus=0,00"], 2, "gpus is '0,00', expected every GPU once"),
        (["ENGINE", "--gpus=0,1", "--scenario=MultiStream"], 2, "--gpus has no effect with several in MultiStream"),
        (["ENGINE", "--gpus=all", "--scenario=SingleStream"], 2, "--gpus has no effect with several in SingleStream"),
        (["ENGINE", "--rules=mlperf", "--count=5"], 2, "omit --count and --duration"),
        (["ENGINE", "--user_conf=/nonexistent"], 2, "cannot read user.conf /nonexistent"),
        (["ENGINE", "--data=/nonexistent"], 8, "data folder /nonexistent does not exist"),
        (["ENGINE", "--labels=/nonexistent"], 8, "synthetic data has no labels"),
        (["ENGINE", "--scenaro=Offline"], 2, "did you mean '--scenario'"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(
    cmx4trt: Run,
    engine: Path,
    arguments: list[str],
    code: int,
    words: str,
    stand_in: Callable[..., None],
    tmp_path: Path,
) -> None:
    stand_in("tensorrt-rtx", open_session=lambda engine: NullSession(4))
    given = [str(engine) if argument == "ENGINE" else argument for argument in arguments]
    found, text, result = cmx4trt("bench", *given, f"--log_dir={tmp_path}")
    assert found == code
    sentence = result.get("error", text)  # before the arguments are parsed there is no result file to write to
    assert words in sentence
    assert len(sentence.strip().splitlines()) == 1
    assert not any(tmp_path.glob("Offline/*"))


def test_engines_of_nvidias_code_have_no_graph_to_compare(
    cmx4trt: Run, copied: Path, images: Path, tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    manifest = json.loads(copied.with_suffix(".json").read_text())
    manifest["request"] |= {"builder": "common-code", "device": "cuda", "precision": "int8", "target": "current"}
    copied.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt("verify", copied)
    assert code == 10
    assert "measure its accuracy with --data=FOLDER" in result["error"]
    stand_in("common-code", open_session=lambda engine: NullSession(4))
    code, text, result = cmx4trt("verify", copied, f"--data={images}", f"--log_dir={tmp_path / 'logs'}")
    assert code == 0, text
    assert result["exports"]["ACCURACY_IMAGES"] == "6"
    assert "AGREES" not in result["exports"]


@pytest.mark.parametrize("command", ["bench", "verify"])
@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("engine", {}, "engine.file is missing"),
        ("engine", {"file": 5}, "engine.file is 5, expected text"),
        ("request", {"network": "resnet51"}, "request in manifest"),
        ("request", {"network": ["resnet50"]}, "request.network is ['resnet50'], expected text"),
        ("network", {"outputs": [{}]}, "network.outputs[0].name is missing"),
        ("network", {"outputs": 5}, "network.outputs is 5, expected a list"),
        ("network", {"outputs": [{"name": "logits", "dtype": "float", "shape": []}]}, "network.outputs in manifest"),
        ("graph", {"quantization": 3}, "graph.quantization is 3, expected an object"),
        ("graph", {"quantization": {"input_scale": "x"}}, "graph in manifest"),
    ],
)
def test_a_damaged_manifest_is_told_in_a_sentence(
    cmx4trt: Run, copied: Path, command: str, part: str, value: dict[str, Any], words: str
) -> None:
    manifest = json.loads(copied.with_suffix(".json").read_text())
    manifest[part] = {**(manifest[part] if value else {}), **value}
    copied.with_suffix(".json").write_text(json.dumps(manifest))
    code, _, result = cmx4trt(command, copied, "--execute=graph")
    assert code == ModelError.exit_code
    assert words in result["error"]
    assert str(copied.with_suffix(".json")) in result["error"]
    assert "build the engine again" in result["error"]


@pytest.mark.parametrize(
    ("input_range", "normalization"),
    [("normalized", ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))), ("0-1", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))],
)
def test_the_manifest_says_which_images_an_engine_takes(
    detector: Path, input_range: str, normalization: tuple[tuple[float, ...], ...]
) -> None:
    path = detector.with_suffix(".json")
    manifest = json.loads(path.read_text())
    manifest["request"]["input_range"] = input_range
    manifest["graph"] |= {"normalization": '{"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}'}
    manifest["graph"] |= {"quantization": {"input_scale": 0.5}}
    path.write_text(json.dumps(manifest))
    published = read_published(str(detector))
    assert (published.form.mean, published.form.std) == normalization
    assert published.form.scale == 0.5


def test_a_damaged_normalization_is_told_in_a_sentence(detector: Path) -> None:
    path = detector.with_suffix(".json")
    manifest = json.loads(path.read_text())
    manifest["graph"] = {"normalization": '{"mean": [0.5], "std": [1, 1, 1]}'}
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"graph in manifest .* build the engine again"):
        read_published(str(detector))


@pytest.mark.parametrize(
    ("network", "values", "count"),
    [
        ("resnet50", {"rules": "mlperf"}, 1024),  # mlperf.conf, performance_sample_count_override
        ("retinanet", {"rules": "mlperf"}, 64),
        ("resnet50", {}, 64),
        ("resnet50", {"count": 8}, 8),
        ("resnet50", {"count": 1}, 4),  # a batch
        ("resnet50", {"count": 1, "mode": "accuracy"}, 1),
    ],
)
def test_so_many_images_are_made_up_as_loadgen_draws_from(
    engine: Path, network: str, values: dict[str, Any], count: int
) -> None:
    published = read_published(str(engine))
    published = replace(published, request=replace(published.request, network=network))
    dataset = evaluate._open_dataset(published, EvaluationOptions.from_values(values))
    assert len(dataset) == count


def test_missing_loadgen_says_what_to_install(
    cmx4trt: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., None]
) -> None:
    stand_in("tensorrt-rtx", open_session=lambda engine: NullSession(4))
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    code, _, result = cmx4trt("bench", engine, f"--log_dir={tmp_path}")
    assert code == MissingSoftwareError.exit_code
    assert pip_line("bench") in result["error"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot read evaluation file"),
        ("[]", "expected options below 'verify' and 'bench'"),
        ('{"bench": 1}', "expected options below 'verify' and 'bench'"),
        ('{"benhc": {}}', "has 'benhc', expected verify and bench"),
        ('{"bench": {"scenaro": 1}}', "'scenaro' is not an option of bench; did you mean 'scenario'"),
        ('{"verify": {"mode": "accuracy"}}', "'mode' is not an option of verify"),
        ('{"bench": {"count": "many"}}', "count is 'many'"),
    ],
)
def test_an_evaluation_file_is_checked_before_the_build(cmx4trt: Run, tmp_path: Path, text: str, words: str) -> None:
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(text)
    code, _, result = cmx4trt(
        "build", "--random_weights=3", f"--output_dir={tmp_path / 'engines'}", f"--evaluation={evaluation}"
    )
    assert code == 2
    assert words in result["error"]
    assert not (tmp_path / "engines").exists()
