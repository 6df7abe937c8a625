"""Suggestions after a command: the commands to run next, and on which machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.backends import find_backend
from cmx4trt.backends.targets import capabilities_in
from cmx4trt.cli.output import print_table
from cmx4trt.devices.cards import described

if TYPE_CHECKING:
    from cmx4trt.pipeline.evaluation import Evaluation
    from cmx4trt.store.manifest import Manifest, RequestRecord

Rows = list[tuple[str, str]]


def print_next(rows: Sequence[tuple[str, str]]) -> None:
    """Print the last table of a command."""
    if rows:
        print_table("next", rows)


def command(*words: str) -> str:
    """A cmx4trt command as typed in a shell."""
    return shlex.join(("cmx4trt", *words))


def after_build(engine: str, manifest: Manifest) -> Rows:
    """What to run next, on this machine or on one with a GPU that the engine was built for."""
    source, capabilities = manifest.source, _capabilities(manifest.request)
    if not capabilities:
        return [("verify it", command("verify", engine)), ("benchmark it", command("bench", engine))]
    name, model = os.path.basename(engine), []
    if source.path:
        model = [f"--model={os.path.basename(source.path)}"]
    files = [engine, f"{os.path.splitext(engine)[0]}.json", *([source.path] if source.path else [])]
    return [
        ("copy", shlex.join(files)),
        ("to a machine with", gpus_of_capabilities(capabilities)),
        ("verify it there", command("verify", name, *model)),
        ("benchmark it there", command("bench", name)),
    ]


def _capabilities(request: RequestRecord) -> tuple[str, ...]:
    """What an engine was compiled for; empty if that is the GPU of the machine that built it."""
    backend = find_backend(request.builder)
    return backend.targets.capabilities_of(request.target) if backend else capabilities_in(request.target)


def gpus_of_capabilities(capabilities: Sequence[str]) -> str:
    """A description of the GPUs with these compute capabilities: generations, with cards as examples."""
    return "a GPU of " + ", ".join(described(sm) for sm in capabilities)


def after_dry_run() -> Rows:
    """The same command without the dry run."""
    return [("to build it", "the same command without --dry_run")]


def after_evaluation(name: str, engine: str, evaluation: Evaluation) -> Rows:
    """The other evaluation, or the same one where the engine itself can run."""
    rows: Rows = []
    if not evaluation.ran_engine:
        rows.append(("for the engine itself", "the same command on a machine with a GPU that the engine supports"))
    if name == "verify":
        return [*rows, ("benchmark it", command("bench", engine))]
    return [*rows, ("see everything", command("report", engine))]


def after_inspect(engine: str) -> Rows:
    """What a manifest does not answer."""
    return [("verify it", command("verify", engine)), ("benchmark it", command("bench", engine))]


def after_report(page: str) -> Rows:
    """How to view the page."""
    return [("view the report", f"open {shlex.quote(page)} in a browser")]


def after_calibrate(options: Mapping[str, Any], ranges: str | None) -> Rows:
    """How to build an engine with these ranges, if they were written."""
    if ranges is None:
        return [("to keep the ranges", "the same command with --ranges=FILE; the images are not run again")]
    kept = [f"--{name}={options[name]}" for name in ("network", "model", "random_weights") if options.get(name)]
    return [("build with them", command("build", *kept, "--precision=int8", f"--calibration_cache={ranges}"))]


def after_tune(option: str, path: str) -> Rows:
    """How to rebuild the engine with the table, on any machine."""
    return [("use it, on any machine", f"the command that built the engine, with {shlex.quote(f'--{option}={path}')}")]


def after_cm_setup() -> Rows:
    """A first engine without downloads."""
    return [("a first engine", 'cmr "generate engine mlperf inference nvidia _random-weights"')]


def after_mlc_setup() -> Rows:
    """A first engine without downloads."""
    return [("a first engine", "mlcr generate,engine,mlperf,inference,nvidia,_random-weights")]


def after_docker_setup(folder: str) -> Rows:
    """The command of each framework that builds the image and runs the script in it."""
    from cmx4trt.frameworks.image import INSIDE, SOURCE

    flags = f"{shlex.quote(f'--docker_path={folder}')} --docker_copy_files,={SOURCE}:{INSIDE}"
    return [
        ("with CM", f'cm docker script "generate engine mlperf inference nvidia _random-weights" {flags}'),
        (
            "with MLCFlow",
            f"mlc docker script --tags=generate,engine,mlperf,inference,nvidia,_random-weights {flags}",
        ),
    ]
