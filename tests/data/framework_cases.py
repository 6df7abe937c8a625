"""What CM and MLCFlow are both held to: the cases, and what must come of them. Tags are separated by spaces, as for ``cmr``."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

MISTAKES = [
    ("_random-weights", "--mode=accuracy", "--mode has no effect without _verify or _bench"),
    ("_random-weights _bench", "--mode=fast", "mode is 'fast', expected one of performance, accuracy"),
    ("_random-weights _bench", "--count", "--count was given without a value"),
    ("_random-weights _bench", "--durations=3", "did you mean --duration"),
]
"""(tags, flag, words): refused with exit code 2 before the build."""

REFUSED_BY_A_DRY_RUN = [
    ("_verify", "--data=none", 8, "data folder none does not exist"),
    ("_verify", "--data={labelled_images}", 8, "4 images were requested, expected at most the 3 listed"),
    ("_bench", "--user_conf=none.conf", 2, "none.conf"),
    ("_bench", "--labels=labels.txt", 8, "synthetic data has no labels"),
]
"""(variation, flag, exit code, words): refused before anything is built, by the run and by its dry run."""

CONSUMER = """\
alias: consumer
uid: 1234567890abcdef
automation_alias: script
automation_uid: 5b4e0237da074764
tags: [two, engines]
{more}
deps:
- tags: generate,engine,mlperf,inference,nvidia,_random-weights
  dry_run: 'yes'
  output_dir: first
- tags: generate,engine,mlperf,inference,nvidia,_random-weights,_batch_size.2
  dry_run: 'yes'
  verify: false
"""
"""Another script, which depends on ours twice; ``more``: what the framework wants besides."""

Done = subprocess.CompletedProcess[str]


def check_bench_exports(exports: Mapping[str, str], prefix: str, engines: Path) -> None:
    """Of a run of ``_bench _verify`` over the graph of an engine in ``engines``; ``prefix``: of the framework's keys."""
    result = {key.removeprefix(f"{prefix}MLPERF_RESULT_"): value for key, value in exports.items()}
    assert (result["VALID"], result["EXECUTED"], result["AGREES"]) == ("yes", "graph", "yes")
    assert float(result["VALUE"]) > 0
    log = Path(result["LOG_PATH"])
    assert log.is_relative_to(engines)
    assert "Result is : VALID" in (log / "mlperf_log_summary.txt").read_text()
    assert json.loads(Path(result["FILE_WITH_PATH"]).read_text())["status"] == "complete"
    assert exports[f"{prefix}MLPERF_ENGINE_FILE_WITH_PATH"].startswith(str(engines))


def check_accuracy_exports(exports: Mapping[str, str], prefix: str, count: str) -> None:
    """Of ``count`` images that are not a complete validation set."""
    result = {key.removeprefix(f"{prefix}MLPERF_RESULT_ACCURACY_"): value for key, value in exports.items()}
    assert (result["IMAGES"], result["METRIC"], result["VERDICT"]) == (count, "top-1", "none")


def check_refusal(done: Done, folder: Path, code: int, words: str) -> None:
    """One sentence with ``words``, where paths are below ``folder``, and no engine."""
    assert done.returncode == code, done.stdout
    assert words in done.stdout.replace(f"{folder}/", "")
    assert not list(folder.rglob("*.plan"))


def check_two_engines(done: Done, folder: Path) -> None:
    """CONSUMER's: the second is not published in the folder of the first."""
    assert done.returncode == 0, done.stdout
    engines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("  engine ")]
    assert [Path(engine).relative_to(folder).parts[0] for engine in engines] == ["first", "engines"]
    assert re.findall(r"^  verify +(.*)$", done.stdout, re.M) == ["yes", "no"]


def check_consumer_of_the_page(done: Done, folder: Path) -> None:
    """The script of docs/how-to/consumer.md has built two engines, and was told of the second."""
    assert done.returncode == 0, done.stdout
    second = folder / "engines" / "portable" / "resnet50" / "Offline" / "resnet50-Offline-gpu-b2-fp16.tensorrt-rtx.plan"
    assert f"engine: {second}\nbatch size: 2\n" in done.stdout
    assert len(list((folder / "engines" / "small").rglob("*-b1-fp16.tensorrt-rtx.plan"))) == 1
    assert len(list(folder.rglob("*.plan"))) == 2


def check_terminated(code: int, text: str, framework: str, folder: Path, scratch: Path) -> None:
    """SIGTERM to the framework alone: nothing is published, no temporary folder stays."""
    assert code == 143, text
    assert f"{framework} error: ended by SIGTERM; nothing was published!" in text
    assert not list(folder.rglob("*.plan"))
    assert not list(scratch.iterdir())
