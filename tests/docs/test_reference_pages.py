# ruff: noqa: E501
"""docs/reference: pages made from the code. CMX4TRT_WRITE_DOCS=1 writes them anew, otherwise they are compared."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import cmx4trt
from cmx4trt import backends, errors
from cmx4trt.base.options import Option
from cmx4trt.pipeline.result import BuildResult
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_options, schema_of_request
from cmx4trt.sweep.schema import schema_of_sweeps

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- Made from {}; do not edit by hand: CMX4TRT_WRITE_DOCS=1 python -m pytest tests/docs/test_reference_pages.py -->\n"
META: dict[str, Any] = yaml.safe_load((ROOT / "_cm.yaml").read_text(encoding="utf-8"))


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def inputs() -> str:
    dry_run = META["input_description"]["dry_run"]
    own = [*map(_input, build_options()), ["`dry_run`", "`CMX4TRT_DRY_RUN`", "yes, no", "`no`", dry_run["desc"]]]
    own.append(["`sweep`", "`CMX4TRT_SWEEP`", "", "", META["input_description"]["sweep"]["desc"]])
    variations = (
        (
            f"`_{name.replace(',', '`, `_')}`",
            body.get("group", ""),
            _yes(body.get("default")),
            _env(body.get("env", {})),
            _meaning(name, body),
        )
        for name, body in META["variations"].items()
    )
    defaults = ((f"`{key}`", f"`{value}`") for key, value in META["default_env"].items())
    head = ("input", "CM key", "values", "default", "meaning")
    return f"""# Inputs

{MADE.format("the declarations of options (cmx4trt/requests, own_options of networks and backends) and _cm.yaml")}
Every input has one name: `--name=value` for `cmr` and `cmx4trt build`, a key for `cmind.access` and `BuildRequest.from_values`. On a
command line, hyphens and underscores are interchangeable. What is typed, as a flag, a variation or
`--env.KEY=VALUE`, overrides every default; two that differ are an error. Write the equals sign: CM drops the word `Server` in `--scenario Server`.

## Build

{table(head, own)}
Paths may be relative to the current folder; a `~` at the start is your home folder, environment variables are not expanded. Sizes: a
number without a unit is in KiB, as in upstream's key; the units are `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`.

## Verify and bench

With the variations `_verify` and `_bench`, and for `cmx4trt verify` and `cmx4trt bench`; these two also take `--network`, `--model`,
`--batch_size` and `--scenario` of the table above.

{table(head, map(_input, CM_OPTIONS))}
## Variations

{table(("variation", "group", "default", "sets", "meaning"), variations)}
At most one variation of a group applies. `_cuda` selects `_common-code` unless a builder is named.

## Environment

The defaults in `_cm.yaml`; a key set by `--env.KEY=VALUE` or a calling script overrides them.

{table(("key", "default"), defaults)}
`CM_BATCH_SIZE` is the batch size if neither `_batch_size.#` nor `--batch_size` is given. `_verify` measures accuracy on `CM_BATCH_COUNT`
times `CM_BATCH_SIZE` images; with `--data=FOLDER` and both at their defaults, on all images of the folder. `CM_TENSORRT_WORKSPACE_SIZE` is in KiB: 4194304 is 4 GiB. `CMX4TRT_DEBUG=1` shows the traceback of an
unforeseen error; calibration ranges are kept below `XDG_CACHE_HOME` (default `~/.cache`).

## Engine files

An engine is published as `<output_dir>/<place>/<model>/<Scenario>/<model>-<Scenario>-gpu-b<batch>-<precision>-<own>.<builder>.plan`, with
its [manifest](manifest.md) beside it as `….json` and its [report](../how-to/report.md) as `….report.html`. *place* is the target, or the
GPU itself where that is the machine's own (`NVIDIA-H200-sm90`). *own* is a digest of the model file and of all other inputs that are not
as by default; with random weights of seed 0 and defaults it is left out. So no two different requests share a path:
[the store](../explanation/store.md).

## Characters in values

The script never executes what it takes as a value. `"`, `$`, backquote, backslash and line breaks, which CM itself would execute or lose,
are rejected in CM commands (not by `cmx4trt build`). `cm docker script` runs before our checks: CM writes values into a shell line
there, where `'`, `;` and spaces in them are interpreted by the shell.
"""


def _input(option: Option) -> list[str]:
    kind, default = ", ".join(option.choices), "" if option.default is None else f"`{option.default}`"
    if isinstance(option.default, bool):
        kind, default = "yes, no", "`yes`" if option.default else "`no`"
    return [f"`{option.name}`", f"`{option.key}`", kind, default, option.help]


def _yes(value: object) -> str:
    return "yes" if value else ""


def _meaning(name: str, body: Mapping[str, Any]) -> str:
    """The description; a variation with a number stands for a flag of its name."""
    flag = name.removesuffix(".#").replace("-", "_")
    if name.endswith(".#"):
        assert flag in META["input_mapping"]
        return f"`--{flag}=#`"
    return str(body.get("desc", ""))


def _env(env: Mapping[str, str]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in env.items())


ENGINE_KEYS = {
    "FILE_WITH_PATH": "path of the engine",
    "MANIFEST_WITH_PATH": "path of its [manifest](manifest.md)",
    "REPORT_WITH_PATH": "path of its report; empty if there is none",
    "SHA256": "digest of the engine file",
    "BYTES": "its size, bytes",
    "MODEL": "`resnet50` or `retinanet`",
    "PRECISION": "`fp32`, `fp16`, `bf16` or `int8`",
    "BATCH_SIZE": "largest batch, samples",
    "COPY_STREAMS": "number of optimization profiles",
    "SCENARIO": "MLPerf scenario it is named for",
    "BUILDER": ", ".join(f"`{name}`" for name in backends.names()),
    "BUILDER_VERSION": "version of the library; of the common code the release",
    "TARGET": "GPUs it is for, joined by `+`",
    "VERIFIED": "`yes` where the graph was compared with the original model and agreed, else `no`",
    "REUSED": "`yes` if the engine already existed, else `no`",
}
RESULT_KEYS = {
    "EXECUTED": "`engine` or `graph`: what ran",
    "DEVICE": "what it ran on, in words",
    "AGREES": "`_verify`: whether it agrees with the original model: `yes`, `no`, or `unknown` if synthetic images or random weights are inconclusive",
    "STATUS": "`complete`",
    "SCENARIO": "MLPerf scenario of the run",
    "MODE": "`performance` or `accuracy`",
    "LOG_PATH": "folder of LoadGen's logs",
    "FILE_WITH_PATH": "path of the [result](result.md)",
    "VALID": "`yes` or `no`: LoadGen's verdict on a performance run",
    "METRIC": "name of the scenario's figure",
    "VALUE": "the figure: samples/s; for SingleStream and MultiStream ns: LoadGen's early-stopping estimate (`early_stopping_p90_latency`, `early_stopping_p99_query_latency`), after too few queries for one the plain percentile (`p90_latency`, `p99_query_latency`)",
    "P50_LATENCY_NS … P99_9_LATENCY_NS": "percentiles of latency, ns (50, 90, 95, 97, 99, 99.9)",
    "ACCURACY_METRIC": "`top-1` or `mAP`",
    "ACCURACY_VALUE": "percent",
    "ACCURACY_TARGET": "MLPerf's target, percent",
    "ACCURACY_IMAGES": "number of images",
    "ACCURACY_VERDICT": "`passed`, `failed`, or `none` where the target does not apply",
}


SWEEP_KEYS = {
    "PAGE_WITH_PATH": "the page that compares all cells",
    "CELLS": "how many cells there are",
    "FAILED": "how many of them failed or are not valid; anything but 0 is an error",
    "BEST_OFFLINE_WITH_PATH": "the best engine in Offline, on the GPU that runs it best; likewise `BEST_SERVER_…`, `BEST_SINGLESTREAM_…`, `BEST_MULTISTREAM_…`",
}


def exports() -> str:
    engine = ((f"`CM_MLPERF_ENGINE_{key}`", meaning) for key, meaning in ENGINE_KEYS.items())
    result = (
        (f"`CM_MLPERF_RESULT_{key.replace(' … ', '` … `CM_MLPERF_RESULT_')}`", m) for key, m in RESULT_KEYS.items()
    )
    return f"""# Exported keys

{MADE.format("tests/docs/test_reference_pages.py, checked against the code")}
After `cmr`, these keys are in `new_env` of CM's result and in the environment of scripts that depend on this one. All values are text.
`cmx4trt build --result=FILE` writes the same as JSON, without the prefix. On an error nothing is exported through
CM; with codes 7 and 11 of `cmx4trt verify` and `bench`, `--result=FILE` holds the figures along with the error.

## Always

{table(("key", "value"), engine)}
## With `_verify` or `_bench`

A key is set if it applies; with both variations, the values are those of `_bench`.

{table(("key", "value"), result)}
## With `_sweep`

Instead of those above ([sweeps](../how-to/sweep.md)):

{table(("key", "value"), ((f"`CM_MLPERF_SWEEP_{key}`", meaning) for key, meaning in SWEEP_KEYS.items()))}
The dependencies' keys `CM_DATASET_*` are passed on too, as upstream's description says.
"""


WHAT_TO_DO = {
    1: "set `CMX4TRT_DEBUG=1`, run again, and report the traceback",
    2: "read the sentence: it names the flag, the value and what is expected",
    3: "check the path; `--network` must match the file; export it again",
    4: "free space, or another `--output_dir`",
    5: "run the command in the sentence",
    6: "read the library's reason; a larger `--workspace_size`, another precision",
    7: "another precision; for int8, better images or `--keep_fp16=auto`; `--verify=no` publishes anyway",
    8: "give images, labels or a cache of this network; the sentence says what is missing",
    9: "`_cpu` builds without a GPU; `--execute=graph` verifies and benchmarks without one",
    10: "use one of the combinations named in the sentence",
    11: "a longer run (`--duration`, `--count`) or a lower `--target_qps`; see the logs",
    12: "the table and the page say why each failed; the same command tries them again, and repeats nothing else",
    130: "run the command again",
    141: "read the output to its end, or redirect it to a file",
}


def exit_codes() -> str:
    classes = sorted(_error_classes(), key=lambda c: c.exit_code)
    rows = [(0, "", "An engine is available", "")]
    rows += [(errors.EXIT_UNFORESEEN, "`CmxError`", "Unforeseen error: a bug", WHAT_TO_DO[1])]
    rows += [
        (c.exit_code, f"`{c.__name__}`", c.__doc__.split("\n")[0].rstrip("."), WHAT_TO_DO[c.exit_code]) for c in classes
    ]
    rows += [(errors.EXIT_INTERRUPTED, "", "Interrupted (Ctrl-C, SIGTERM)", WHAT_TO_DO[130])]
    rows += [(errors.EXIT_PIPE_CLOSED, "", "The reader of standard output closed it (`| head`)", WHAT_TO_DO[141])]
    return f"""# Exit codes

{MADE.format("cmx4trt/errors.py")}
Of `cmx4trt`, of `cmr`, and of `return` in the result of `cmind.access`. In Python the class is raised; all are in `cmx4trt.errors`.

{table(("code", "class", "meaning", "what to do"), rows)}
An error is one sentence on standard error: what failed and where; what was found and what was expected; what to do. Nothing is
published, and an existing engine stays in place; codes 7 and 11 of `verify` and `bench` are about an engine that is already
published.
"""


def _error_classes() -> list[type[errors.CmxError]]:
    found = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.CmxError)]
    return [c for c in found if c is not errors.CmxError]


def schema_page(title: str, file: str, closing: str) -> str:
    schema = json.loads((FOLDER / file).read_text(encoding="utf-8"))
    parts = [
        f"# {title}\n\n{MADE.format(file)}\n{schema['description']} Layout: [{file}]({file}) (JSON Schema, draft 2020-12).\n"
    ]
    plain = {
        name: part for name, part in schema["properties"].items() if not {"properties", "oneOf", "anyOf"} & set(part)
    }
    parts.append("\n" + table(("field", "type", "meaning"), _fields({"properties": plain}, schema, "")))
    for name, part in schema["properties"].items():
        if name not in plain:
            rows = list(_fields(part, schema, ""))
            parts.append(f"\n## `{name}`\n\n{part['description']}\n\n" + table(("field", "type", "meaning"), rows))
    return "".join(parts) + closing


def _fields(part: Mapping[str, Any], schema: Mapping[str, Any], prefix: str) -> Iterator[list[str]]:
    """Rows of all fields below a part, those of alternatives one after the other."""
    part = {**schema["$defs"][part["$ref"].rpartition("/")[2]], **part} if "$ref" in part else part
    for name, field in {**part.get("properties", {}), **part.get("patternProperties", {})}.items():
        path = f"{prefix}{name}".replace("^request\\.", "request.…")
        inner = {**schema["$defs"][field["$ref"].rpartition("/")[2]], **field} if "$ref" in field else field
        kind = inner.get("type", "string" if "const" in inner else "any")
        kind = " or ".join(kind) if isinstance(kind, list) else kind
        yield [f"`{path}`", kind, inner.get("description", "") + _choices(inner)]
        yield from _fields(inner if inner.get("type") != "array" else inner["items"], schema, f"{path}{_into(inner)}")
    for option in (*part.get("oneOf", ()), *part.get("anyOf", ()), *([part["then"]] if "then" in part else [])):
        option = {**schema["$defs"][option["$ref"].rpartition("/")[2]], **option} if "$ref" in option else option
        if "description" in option:
            yield ["", "", f"*{option['description']}*"]
        yield from _fields(option, schema, prefix)


def _into(inner: Mapping[str, Any]) -> str:
    return "[]." if inner.get("type") == "array" else "."


def _choices(field: Mapping[str, Any]) -> str:
    values = field.get("enum") or ([field["const"]] if "const" in field else [])
    values = [value for value in values if value is not None]
    return f" ({', '.join(f'`{value}`' for value in values)})" if values else ""


def python_api() -> str:
    parts = [(ROOT / "tests" / "docs" / "python_api_head.md").read_text(encoding="utf-8").rstrip() + "\n"]
    for name in cmx4trt.__all__:
        value = getattr(cmx4trt, name)
        if callable(value):
            parts.append(f"\n## `{name}`\n\n" + "".join(_described(name, value)))
    parts.append("\n## `errors`\n\n")
    parts.append(
        f"The module of all exceptions; [exit codes](exit-codes.md) lists them. `CmxError`: {_text(errors.CmxError.__doc__)}\n"
    )
    parts.append("\n## `__version__`\n\nThe version of the package, as text.\n")
    return "".join(parts)


def _described(name: str, value: Any) -> Iterator[str]:
    listed = False
    if inspect.isclass(value):
        yield f"{_text(value.__doc__)}\n"
        if is_dataclass(value):
            yield "\n" + table(("field", "type"), ((f"`{f.name}`", f"`{f.type}`") for f in fields(value)))
        for method, member in vars(value).items():
            if method.startswith("_"):
                continue
            function = member.fget if isinstance(member, property) else getattr(value, method)
            if not (inspect.isfunction(function) or inspect.ismethod(function)) or not function.__doc__:
                continue
            shown = method if isinstance(member, property) else _signature(method, function)
            text = f"- `{shown}`: {_text(function.__doc__, '  ')}\n"
            yield text if listed else f"\n{text}"
            listed = True
    else:
        yield f"```text\n{_signature(name, value)}\n```\n\n{_text(value.__doc__)}\n"


def _signature(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.name != "self"]
    text = f"{name}{signature.replace(parameters=kept)}"
    return re.sub(r"'([A-Za-z_.\[\], |]+)'", r"\1", text)


def _text(docstring: str | None, indent: str = "") -> str:
    return inspect.cleandoc(docstring or "").replace("``", "`").replace("\n", f"\n{indent}")


def manifest_schema() -> str:
    """The schema with what follows from options and registries; the rest of it is written by hand."""
    schema = json.loads((FOLDER / "manifest.schema.json").read_text(encoding="utf-8"))
    schema["properties"]["request"] = schema_of_request()
    schema["properties"]["builder"]["properties"]["name"]["enum"] = list(backends.names())
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "manifest.schema.json": manifest_schema,
    "inputs.md": inputs,
    "exports.md": exports,
    "exit-codes.md": exit_codes,
    "manifest.md": lambda: schema_page("Manifest", "manifest.schema.json", ""),
    "result.md": lambda: schema_page("Result of a run", "result.schema.json", ""),
    "python-api.md": python_api,
    "sweep.schema.json": lambda: json.dumps(schema_of_sweeps(), indent=2, ensure_ascii=False) + "\n",
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_says(name: str) -> None:
    page = FOLDER / name
    if os.environ.get("CMX4TRT_WRITE_DOCS"):
        page.write_text(PAGES[name](), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == PAGES[name]()


def test_engine_keys_are_those_of_the_code() -> None:
    assert list(ENGINE_KEYS) == re.findall(r'^ +"([A-Z0-9_]+)":', inspect.getsource(BuildResult.exports), re.M)


def test_result_keys_are_those_of_the_code() -> None:
    from cmx4trt.bench.results import PERCENTILES
    from cmx4trt.store.results import Accuracy, BenchResult, Metric

    accuracy, metric = Accuracy("top-1", 1.0, 2.0, 3, "none"), Metric("samples_per_second", 1.5, "samples/s")
    latency = dict.fromkeys(PERCENTILES, 1)
    full = BenchResult(
        "", "complete", "Offline", "performance", "", valid=True, metric=metric, latency_ns=latency, accuracy=accuracy
    )
    percentiles = [key for key in full.exports() if re.fullmatch(r"P[0-9_]+_LATENCY_NS", key)]
    assert (percentiles[0], percentiles[-1]) == ("P50_LATENCY_NS", "P99_9_LATENCY_NS")
    documented = {key for key in RESULT_KEYS if "…" not in key} | set(percentiles)
    assert documented - set(full.exports()) == {"EXECUTED", "DEVICE", "AGREES"}  # of cmx4trt/pipeline/evaluation.py
    assert set(full.exports()) <= documented


def test_sweep_keys_are_those_of_the_code() -> None:
    from cmx4trt.sweep.results import exports_of_rows

    assert set(exports_of_rows([], "")) == {key for key in SWEEP_KEYS if not key.startswith("BEST_")}


def test_every_exit_code_says_what_to_do() -> None:
    assert set(WHAT_TO_DO) == {c.exit_code for c in _error_classes()} | {
        errors.EXIT_UNFORESEEN,
        errors.EXIT_INTERRUPTED,
        errors.EXIT_PIPE_CLOSED,
    }


def test_every_field_of_the_schemas_is_explained() -> None:
    for file in ("manifest.schema.json", "result.schema.json"):
        schema = json.loads((FOLDER / file).read_text(encoding="utf-8"))
        for part in schema["properties"].values():
            assert all(meaning for _, _, meaning in _fields(part, schema, "")), part
