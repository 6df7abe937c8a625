"""Another script of CM that depends on this one, and SIGTERM to CM alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TAGS = "generate engine mlperf inference nvidia"
CONSUMER = """\
alias: consumer
uid: 1234567890abcdef
automation_alias: script
automation_uid: 5b4e0237da074764
tags: [two, engines]
new_env_keys: [CM_MLPERF_*]
deps:
- tags: generate,engine,mlperf,inference,nvidia,_random-weights
  dry_run: 'yes'
  output_dir: first
- tags: generate,engine,mlperf,inference,nvidia,_random-weights,_batch_size.2
  dry_run: 'yes'
  verify: false
"""


def test_two_engines_of_one_script(cm: Any, rtx: None, folder: Path) -> None:
    """The second is not published in the folder of the first."""
    script = cm.home / "repos" / "local" / "script" / "consumer"
    script.mkdir(parents=True, exist_ok=True)
    (script / "_cm.yaml").write_text(CONSUMER)
    done = cm.command("cmr", "two engines", cwd=folder)
    assert done.returncode == 0, done.stdout
    engines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("  engine ")]
    assert [Path(engine).relative_to(folder).parts[0] for engine in engines] == ["first", "engines"]
    assert re.findall(r"^  verify +(.*)$", done.stdout, re.M) == ["yes", "no"]


@pytest.mark.slow
def test_consumer_of_the_page(small_cm: Any, rtx: None, folder: Path, block_of_page: Any) -> None:
    lines = block_of_page("docs/how-to/consumer.md", "tests/cm/test_consumer.py::test_consumer_of_the_page")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", lines],
        cwd=folder,
        env={**small_cm.environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    second = folder / "engines" / "portable" / "resnet50" / "Offline" / "resnet50-Offline-gpu-b2-fp16.tensorrt-rtx.plan"
    assert f"\nengine: {second}\nbatch size: 2\n" in done.stdout
    assert len(list((folder / "engines" / "small").rglob("*-b1-fp16.tensorrt-rtx.plan"))) == 1
    assert len(list(folder.rglob("*.plan"))) == 2


def test_terminated(cm: Any, rtx: None, folder: Path, tmp_path: Path, processes_that_name: Any) -> None:
    """SIGTERM to cmr alone: the worker ends, nothing is published, no temporary folder stays."""
    scratch, log = tmp_path / "tmp", tmp_path / "log"
    scratch.mkdir()
    with log.open("w") as stream:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from cmind.cli import run_script; run_script()",
                f"{TAGS} _random-weights _copy_streams.8",
            ],
            cwd=folder,
            env={**cm.environment, "TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        while "build ..." not in log.read_text() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 143, log.read_text()
    assert "CM error: ended by SIGTERM; nothing was published!" in log.read_text()
    assert not list(folder.rglob("*.plan"))
    assert not list(scratch.iterdir())
    assert not processes_that_name(scratch)
