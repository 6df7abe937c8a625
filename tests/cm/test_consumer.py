"""Another script of CM that depends on this one, and SIGTERM to CM alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from framework_cases import CONSUMER, check_consumer_of_the_page, check_terminated, check_two_engines

TAGS = "generate engine mlperf inference nvidia"


def test_two_engines_of_one_script(cm: Any, rtx: None, folder: Path) -> None:
    """The second is not published in the folder of the first."""
    script = cm.home / "repos" / "local" / "script" / "consumer"
    script.mkdir(parents=True, exist_ok=True)
    (script / "_cm.yaml").write_text(CONSUMER.format(more="new_env_keys: [CM_MLPERF_*]"))
    check_two_engines(cm.command("cmr", "two engines", cwd=folder), folder)


@pytest.mark.slow
def test_consumer_of_the_page(small_cm: Any, rtx: None, folder: Path, block_of_page: Any) -> None:
    lines = block_of_page("docs/how-to/consumer.md", "tests/cm/test_consumer.py::test_consumer_of_the_page")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", lines],
        cwd=folder,
        env={**small_cm.environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    check_consumer_of_the_page(done, folder)


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
    check_terminated(process.returncode, log.read_text(), "CM", folder, scratch)
    assert not processes_that_name(scratch)
