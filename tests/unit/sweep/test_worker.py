"""One task on one node: what ends it, and what is said of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cmx4trt.sweep.run import Sweep
from cmx4trt.sweep.tasks import Task
from cmx4trt.sweep.worker import run_task

TEXT = "defaults: {builder: 'null', random_weights: 3, verify: no, report: no, bench: no}\ninclude: [{batch_size: 2}]\n"


@pytest.fixture
def task(null: None, sweep_of: Callable[[str], Sweep]) -> Task:
    return sweep_of(TEXT).tasks()[0]


def test_a_crash_is_a_sentence(task: Task, tmp_path: Path) -> None:
    outcome = run_task(task, str(tmp_path), "", started=lambda process: process.send_signal(signal.SIGKILL))
    assert outcome.exit_code == 128 + 9
    assert outcome.error.startswith("its process was ended by SIGKILL")
    assert not outcome.lost


def test_a_refusal_is_the_commands_own_sentence(task: Task, tmp_path: Path) -> None:
    outcome = run_task(replace(task, request={**task.request, "batch_size": 10**6}), str(tmp_path), "")
    assert outcome.exit_code == 2
    assert "batch_size is 1000000, expected" in outcome.error


def test_what_takes_too_long_is_ended(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    outcome = run_task(replace(task, needs=replace(task.needs, minutes=0)), str(tmp_path), "")
    assert outcome.error == "it took longer than 0 minutes"


def test_a_node_with_a_full_disk_is_a_lost_one(
    task: Task, tmp_path: Path, tmpfs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmpfs("size=4k")
    (folder / "full").write_bytes(bytes(4096))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    outcome = run_task(task, str(tmp_path), "", pause_seconds=0)
    assert outcome.exit_code == 4
    assert outcome.lost, "another node may have room"
    assert f"is full ({folder})" in outcome.error


def test_commands_die_with_their_worker(tmp_path: Path) -> None:
    """However that ends: a scheduler kills with SIGKILL."""
    program = (
        "import subprocess, sys; from cmx4trt.sweep.worker import _die_with_parent\n"
        "p = subprocess.Popen(['sleep', '600'], preexec_fn=_die_with_parent); print(p.pid, flush=True); p.wait()"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    worker.kill()
    worker.communicate()
    descriptor = os.pidfd_open(child) if os.path.exists(f"/proc/{child}") else None
    if descriptor is not None:
        import select

        assert select.select([descriptor], [], [], 30)[0], "the command outlived its worker"
