"""What to do after a command: the lines to type next, and on which machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.cards import RTX_CAPABILITIES, described
from cmx4trt.cli.output import print_table

if TYPE_CHECKING:
    from cmx4trt.manifest import Manifest
    from cmx4trt.proof import Proof

Rows = list[tuple[str, str]]
_PORTABLE = tuple(sm for sm in RTX_CAPABILITIES if sm != "sm75")
"""What TensorRT-RTX compiles for unless it is told otherwise: Turing has to be asked for (its documentation)."""
_LOCAL = ("current", "same_compute_capability", "ampere_plus")


def print_next(rows: Sequence[tuple[str, str]]) -> None:
    """The last table of a command."""
    if rows:
        print_table("next", rows)


def command(*words: str) -> str:
    """A line of ours as it is typed in a shell."""
    return shlex.join(("cmx4trt", *words))


def after_build(engine: str, manifest: Manifest) -> Rows:
    """On the machine that built it, or on one with a GPU that the engine is for."""
    target, source = str(manifest.request.get("target")), manifest.source
    if target in _LOCAL:
        return [("is it right", command("verify", engine)), ("how fast is it", command("bench", engine))]
    name, model = os.path.basename(engine), []
    if source.get("path"):
        model = [f"--model={os.path.basename(str(source['path']))}"]
    files = [engine, f"{os.path.splitext(engine)[0]}.json", *([str(source["path"])] if model else [])]
    return [
        ("copy", shlex.join(files)),
        ("to a machine with", gpus_of_target(target)),
        ("there: is it right", command("verify", name, *model)),
        ("there: how fast is it", command("bench", name)),
    ]


def gpus_of_target(target: str) -> str:
    """The GPUs of a target for people: generations, and cards as examples."""
    names = _PORTABLE if target == "portable" else target.split("+")
    return "a GPU of " + ", ".join(described(sm) for sm in names)


def after_dry_run() -> Rows:
    """The same line, in earnest."""
    return [("to build it", "the same line without --dry_run")]


def after_proof(name: str, engine: str, proof: Proof) -> Rows:
    """The other question, or the same one where the engine itself can run."""
    rows: Rows = []
    if proof.exports.get("EXECUTED") == "graph":
        rows.append(("for the engine itself", "the same line on a machine with a GPU that it is for"))
    if name == "verify":
        return [*rows, ("how fast is it", command("bench", engine))]
    return [*rows, ("see it all", command("report", engine))]


def after_inspect(engine: str) -> Rows:
    """The two questions that a manifest does not answer."""
    return [("is it right", command("verify", engine)), ("how fast is it", command("bench", engine))]


def after_report(page: str) -> Rows:
    """The page is there to be looked at."""
    return [("look at it", f"open {shlex.quote(page)} in a browser")]


def after_calibrate(options: Mapping[str, Any], ranges: str | None) -> Rows:
    """An engine with these ranges, where they were kept."""
    if ranges is None:
        return [("to keep the ranges", "the same line with --ranges=FILE; the images are not run again")]
    kept = [f"--{name}={options[name]}" for name in ("network", "model", "random_weights") if options.get(name)]
    return [("build with them", command("build", *kept, "--precision=int8", f"--calibration_cache={ranges}"))]


def after_cm_setup() -> Rows:
    """The first engine, without a download."""
    return [("a first engine", 'cmr "generate engine mlperf inference nvidia _random-weights"')]
