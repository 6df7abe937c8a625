"""Every row of upstream's description, typed at every front end of both frameworks: what reaches the worker is the same.

The rows below are also docs/reference/front-ends.md: CMX4TRT_WRITE_DOCS=1 writes it anew. Stand-ins take the place of the
worker and of the scripts we depend on (conftest.py); each writes down that it ran.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "front_ends"
PAGE = ROOT / "docs" / "reference" / "front-ends.md"
META: dict[str, Any] = yaml.safe_load((ROOT / "_cm.yaml").read_text(encoding="utf-8"))
TAGS = "generate,engine,mlperf,inference,nvidia"
WORKER = "PYTHON_BIN_WITH_PATH"
"""After the framework's prefix: what runs the worker."""


@dataclass(frozen=True)
class Row:
    """One row of the description: what is typed for it, and what comes of it."""

    seed: str
    variations: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    """Keys without the framework's prefix."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """Of the worker's request."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Of the options of ``_verify``."""
    runs: str = ""
    """The dependency that runs."""
    skips: tuple[str, ...] = ()
    """Dependencies that do not."""
    exports: str = ""
    """A key that the next script gets, without the framework's prefix."""


IMAGENET, OPENIMAGES = (
    "get,dataset,preprocessed,imagenet,_NCHW",
    "get,dataset,preprocessed,openimages,_validation,_NCHW",
)
RESNET50, RETINANET = "get,ml-model,resnet50,_onnx", "get,ml-model,retinanet,_onnx,_fp32"
RANDOM = {"random_weights": "0"}
COMMON_CODE = {"precision": "int8", "builder": "common-code", "device": "cuda"}

ROWS = (
    Row("tags, alone", request={"network": "resnet50", "device": "cpu"}, runs=RESNET50, skips=(RETINANET, IMAGENET)),
    Row("`_batch_size.#`", ("batch_size.4",), request={"batch_size": 4}),
    Row("`_copy_streams.#`", ("copy_streams.2",), request={"copy_streams": 2}),
    Row("`_cpu`", ("cpu",), request={"device": "cpu", "builder": "tensorrt-rtx"}),
    Row("`_cuda`", ("cuda",), request=COMMON_CODE),
    Row("`_resnet50`", ("resnet50",), request={"network": "resnet50"}),
    Row("`_retinanet`", ("retinanet",), request={"network": "retinanet"}),
    Row("default variations", request={"network": "resnet50", "device": "cpu"}),
    Row("`--output_dir`", (), {"output_dir": "elsewhere"}, request={"output_dir": "{folder}/elsewhere"}),
    Row("`CM_BATCH_COUNT`", ("verify",), {"data": "{images}"}, {"BATCH_COUNT": "5"}, evaluation={"count": 5}),
    Row("`CM_BATCH_SIZE`", (), {}, {"BATCH_SIZE": "8"}, request={"batch_size": 8}),
    Row("`CM_LOADGEN_SCENARIO`", (), {}, {"LOADGEN_SCENARIO": "Server"}, request={"scenario": "Server"}),
    Row("`CM_GPU_COPY_STREAMS`", (), {}, {"GPU_COPY_STREAMS": "3"}, request={"copy_streams": 3}),
    Row(
        "`CM_TENSORRT_WORKSPACE_SIZE`", (), {}, {"TENSORRT_WORKSPACE_SIZE": "65536"}, request={"workspace_size": 2**26}
    ),
    Row("`detect,os`", runs="detect,os"),
    Row("`detect,cpu`", runs="detect,cpu"),
    Row("`get,sys-utils-cm`", ("cuda",), runs="get,sys-utils-cm"),
    Row("`get,cuda,_cudnn`", ("cuda", "tensorrt"), RANDOM, runs="get,cuda,_cudnn", skips=(RESNET50,)),
    Row("`get,tensorrt`", ("cuda", "tensorrt"), runs="get,tensorrt", skips=("get,sys-utils-cm",)),
    Row("`get,generic-python-lib,_numpy`", (), RANDOM, runs="get,generic-python-lib,_numpy"),
    Row("`get,generic-python-lib,_pycuda`", ("cuda",), runs="get,generic-python-lib,_pycuda"),
    Row("`get,loadgen`", ("bench",), RANDOM, runs="get,loadgen", skips=(IMAGENET,)),
    Row("`get,mlcommons,inference,src`", ("cuda",), runs="get,mlcommons,inference,src"),
    Row("`get,nvidia,mlperf,inference,common-code`", ("cuda",), runs="get,nvidia,mlperf,inference,common-code"),
    Row(f"`{IMAGENET}`", ("int8",), runs=IMAGENET, request={"calibration_data": "/fetched"}),
    Row(f"`{RESNET50}`", runs=RESNET50, request={"model": "/fetched"}),
    Row(f"`{OPENIMAGES}`", ("retinanet", "int8"), runs=OPENIMAGES, skips=(IMAGENET, RESNET50)),
    Row(f"`{RETINANET}`", ("retinanet",), runs=RETINANET, request={"model": "/fetched"}),
    Row("new key `CM_DATASET_*`", ("int8",), {"json": "yes"}, exports="DATASET_PREPROCESSED_PATH"),
    Row("new key `CM_MLPERF_*`", (), {**RANDOM, "json": "yes"}, exports="MLPERF_ENGINE_SHA256"),
)

TYPED = {
    "cmr": ("cmr",),
    "cm": ("cm", "run", "script"),
    "cmx": ("cmx", "run", "script"),
    "mlcr": ("mlcr",),
    "mlc": ("mlc", "run", "script"),
}
"""Front end -> the words before tags."""
CALLED = ("cmind.access", "cmind.x", "mlc.access")
FRONT_ENDS = ("cmr", "cm", "cmx", "cmind.access", "cmind.x", "mlcr", "mlc", "mlc.access")


def line_of(front_end: str, row: Row, **values: str) -> Any:
    """What is typed, in words, or the input of a Python call; ``values`` fill the braces."""
    prefix = "CM_" if front_end.startswith("cm") else "MLC_"
    variations = [f"_{name}" for name in row.variations]
    flags = {name: value.format(**values) for name, value in row.flags.items()}
    env = {prefix + key: value for key, value in row.env.items()}
    if front_end in CALLED:
        tags = ",".join((TAGS, *variations))
        call = {"action": "run", "automation": "script", "tags": tags, "quiet": True, **flags}
        return {**call, "env": env} if env else call
    tags = ",".join((TAGS, *variations))
    if front_end == "cmr":
        tags = tags.replace(",", " ")
    first = tags if front_end.endswith("r") else f"--tags={tags}"
    given = (f"--{name}={value}" for name, value in flags.items())
    return [*TYPED[front_end], first, *given, *(f"--env.{key}={value}" for key, value in env.items())]


@dataclass(frozen=True)
class Outcome:
    """What became of one line."""

    status: int
    output: str
    request: dict[str, Any]
    evaluation: dict[str, Any]
    dependencies: list[str]
    folder: Path


def outcomes(front_end: str, base: Path, environment: Mapping[str, str]) -> list[Outcome]:
    """Of every row, in their order; rows that are typed alike share a run."""
    images = base / "images"
    images.mkdir()
    lines = [json.dumps(words_for(line_of(front_end, with_worker(row), images=str(images)))) for row in ROWS]
    places = {line: base / "lines" / str(number) / "here" for number, line in enumerate(dict.fromkeys(lines))}
    for place in places.values():
        place.mkdir(parents=True)
    asked = [{"front_end": front_end, "words": json.loads(line), "folder": str(p)} for line, p in places.items()]
    (base / "lines.json").write_text(json.dumps(asked))
    words = [sys.executable, str(DATA / "run_lines.py"), str(base / "lines.json"), str(base / "answers.json")]
    subprocess.run(words, cwd=base, env=environment, stdin=subprocess.DEVNULL, check=True)
    answers = dict(zip(places, json.loads((base / "answers.json").read_text()), strict=True))
    return [outcome(answers[line], places[line]) for line in lines]


def with_worker(row: Row) -> Row:
    return Row(row.seed, row.variations, row.flags, {**row.env, WORKER: str(DATA / "worker")})


def words_for(line: Any) -> Any:
    """A typed line without the program, which run_lines.py knows."""
    return line[1:] if isinstance(line, list) else line


def outcome(answer: dict[str, Any], place: Path) -> Outcome:
    def read(name: str) -> str:
        path = place.parent / name
        return path.read_text() if path.exists() else ""

    request, evaluation = json.loads(read("request.json") or "{}"), json.loads(read("evaluation.json") or "{}")
    return Outcome(answer["status"], answer["output"], request, evaluation, read("dependencies").splitlines(), place)


@pytest.mark.slow
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_every_row(
    front_end: str, tmp_path: Path, environment_of_front_end: Callable[[str, Path], dict[str, str]]
) -> None:
    environment = environment_of_front_end(front_end, tmp_path)
    for row, found in zip(ROWS, outcomes(front_end, tmp_path, environment), strict=True):
        assert found.status == 0, f"{row.seed}\n{found.output}"
        expected = {k: v.format(folder=found.folder) if isinstance(v, str) else v for k, v in row.request.items()}
        assert {name: found.request[name] for name in expected} == expected, row.seed
        assert {name: found.evaluation["verify"][name] for name in row.evaluation} == row.evaluation, row.seed
        assert not row.runs or ran_as(row.runs) in found.dependencies, (row.seed, found.dependencies)
        assert not {ran_as(tags) for tags in row.skips} & set(found.dependencies), row.seed
        exported = f"{'CM_' if front_end.startswith('cm') else 'MLC_'}{row.exports}"
        assert not row.exports or f'"{exported}": "' in found.output, row.seed


def ran_as(tags: str) -> str:
    """What a stand-in writes down: its tags; of the Python libraries also which."""
    return tags if "generic-python-lib" in tags else ",".join(tag for tag in tags.split(",") if not tag.startswith("_"))


TITLES = {
    "cmr": ("cmr", ""),
    "cm": ("cm run script", ""),
    "cmx": ("cmx run script", "CM's newer command line."),
    "cmind.access": ("cmind.access", "CM's Python interface."),
    "cmind.x": ("cmind.x", "CM's newer Python interface."),
    "mlcr": ("mlcr", ""),
    "mlc": ("mlc run script", ""),
    "mlc.access": ("mlc.access", "MLCFlow's Python interface."),
}
MADE = "CMX4TRT_WRITE_DOCS=1 python -m pytest tests/seed/test_every_front_end.py"


def page() -> str:
    """docs/reference/front-ends.md."""
    test = f"{Path(__file__).relative_to(ROOT)}::{test_every_row.__name__}"
    parts = [
        "# Every row of upstream's description, at every front end\n\n",
        f"<!-- Made from tests/seed/test_every_front_end.py; do not edit by hand: {MADE} -->\n\n",
        "What is typed for each row of [upstream's description](seed.md), in CM and in MLCFlow, and what comes of it. One test\n",
        f"runs all of it, `{test}`: the scripts that this one depends on are\n",
        "stand-ins there, and so is the build. `FOLDER` is a folder of preprocessed images.\n",
    ]
    for front_end, (title, about) in TITLES.items():
        parts.append(
            f"\n## {title}\n\n"
            + (f"{about}\n\n" if about else "")
            + "| row | typed | what comes of it |\n|---|---|---|\n"
        )
        parts += [f"| {row.seed} | `{shown(front_end, row)}` | {effect(front_end, row)} |\n" for row in ROWS]
    return "".join(parts)


def shown(front_end: str, row: Row) -> str:
    line = line_of(front_end, row, images="FOLDER")
    if not isinstance(line, list):
        return f"{front_end}({json.dumps(line)})".replace(": true", ": True")
    return " ".join(f'"{word}"' if " " in word else word for word in line)


def effect(front_end: str, row: Row) -> str:
    """What the test expects, in words."""
    prefix = "CM_" if front_end.startswith("cm") else "MLC_"
    found = [f"{name} {str(value).format(folder='.')}" for name, value in row.request.items()]
    found += [f"{value} images" for value in row.evaluation.values()]
    found += [f"`{spelt(front_end, row.runs)}` runs"] if row.runs else []
    found += [f"`{spelt(front_end, tags)}` does not" for tags in row.skips]
    return "; ".join(found + ([f"`{prefix}{row.exports}` is exported"] if row.exports else []))


def spelt(front_end: str, tags: str) -> str:
    return tags if front_end.startswith("cm") else tags.replace("sys-utils-cm", "sys-utils-mlc")


def test_page_is_written_from_the_rows() -> None:
    if os.environ.get("CMX4TRT_WRITE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
        return
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it anew: {MADE}"


def test_every_row_of_the_description_is_here() -> None:
    """Variations, keys and dependencies of the description that docs/reference/seed.md lists."""
    text = (ROOT / "docs" / "reference" / "seed.md").read_text(encoding="utf-8")
    keys = re.findall(r"^\| `(_\w[\w.#]*|CM_\w+)=?", text, re.M)
    assert len(keys) == 11
    named = " ".join(row.seed for row in ROWS)
    dependencies = [row["tags"].removesuffix(",_custom-python") for row in META["deps"]]
    own = {"get,generic-python-lib,_package.blake3"}
    assert [
        name for name in (*keys, *(tags for tags in dependencies if tags not in own)) if f"`{name}`" not in named
    ] == []
