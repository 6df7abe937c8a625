"""Runs one task, on whatever node: as the ordinary command in a process of its own, so that a crash is the task's alone.

Where the store is seen from here (a shared file system), engine and results go straight there. Otherwise they are made in a
folder of the node, and travel back with their digests.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import open_file, open_text
from cmx4trt.errors import EXIT_UNFORESEEN, BuildError, OutputError
from cmx4trt.store.results import RESULT_NAME, BenchResult
from cmx4trt.sweep.tasks import BUILD, Carried, Outcome, Task

Started = Callable[["subprocess.Popen[bytes]"], None]
_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a child gets when its parent dies, however that ends."""
_LEAST_ROOM = 1 << 20
"""Bytes below which a disk counts as full: no engine is smaller, and a failed write has been taken back by then."""
PAUSE_SECONDS = 10.0
"""On a node whose disk is full: a task that fails at once would draw all others to it."""
_OWN_DIGITS = 6
"""Of a digest of the token, which tells sweeps on one store apart."""
_END_OF_LOG = 2000
"""Bytes of a command's output that a sentence of ours is looked for in, where the command was killed."""


def run_task(
    task: Task,
    store: str,
    token: str,
    files: Sequence[Carried] = (),
    started: Started | None = None,
    gpu: str | None = None,
    pause_seconds: float = PAUSE_SECONDS,
) -> Outcome:
    """Run ``task``; never raises for what the task itself does wrong.

    ``token``: a file in the ``store`` by which a node sees that the folder is the caller's own. ``files``: the engine to measure
    and its manifest, for nodes that do not see them. ``started`` is told of each process. ``gpu``: the one that it sees; None
    where the scheduler has seen to that. ``pause_seconds``: how long a task stays on a node whose disk is full.
    """
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cmx4trt-sweep-") as scratch:
        shared = os.path.isfile(os.path.join(store, token))
        environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})}
        place = store if shared else os.path.join(scratch, "store")
        run = _Run(task, place, token, scratch, started or (lambda process: None), environment)
        try:
            outcome = run.build() if task.kind == BUILD else run.measure(shared, files)
            if not shared:
                outcome = _carrying(outcome)
        except OSError as error:
            sentence = f"the task could not run on {socket.gethostname()}: {reason(error)}"
            outcome = Outcome(task.key, OutputError.exit_code, sentence)
        if outcome.exit_code == OutputError.exit_code and _is_full(scratch):
            time.sleep(pause_seconds)
            where = f"the disk of {socket.gethostname()} is full ({os.path.dirname(scratch)})"
            outcome = replace(outcome, lost=True, error=where)  # another node may have room
    return replace(outcome, host=_host(environment), seconds=round(time.monotonic() - begin, 3))


class _Run:
    """The commands of one task in one folder."""

    def __init__(
        self, task: Task, store: str, token: str, scratch: str, started: Started, environment: Mapping[str, str]
    ) -> None:
        self._task = task
        self._store = store
        self._token = token
        self._scratch = scratch
        self._started = started
        self._environment = environment
        self._deadline = time.monotonic() + 60 * task.needs.minutes

    def build(self) -> Outcome:
        """``cmx4trt build``."""
        request = os.path.join(self._scratch, "request.json")
        with open(request, "w", encoding="utf-8") as stream:
            json.dump(dict(self._task.request), stream)
        result, outcome = self._command(["build", f"--request={request}", f"--output_dir={self._store}"])
        exports = result.get("exports") or {}
        return replace(outcome, engine=str(result.get("engine", "")), reused=exports.get("REUSED") == "yes")

    def measure(self, shared: bool, files: Sequence[Carried]) -> Outcome:
        """``cmx4trt verify`` and ``cmx4trt bench``, as far as the cell asks for them."""
        if not shared and not files:
            return Outcome(self._task.key, wants_engine=True)
        engine = self._task.engine if shared else self._laid_down(files)
        # Of this sweep alone: another one on the same store may measure the same at the same time.
        own = hashlib.sha256(self._token.encode()).hexdigest()[:_OWN_DIGITS]
        folder = os.path.join(f"{os.path.splitext(engine)[0]}.results", f"{self._task.key}-{own}")
        outcome = Outcome(self._task.key, engine=engine)
        for command, values in self._task.evaluations.items():
            flags = [f"--{name}={_text(value)}" for name, value in values.items()]
            _, found = self._command([command, engine, *flags, f"--log_dir={folder}"])
            outcome = replace(outcome, exit_code=found.exit_code, error=found.error)
            if found.error:
                break
        return replace(outcome, results=_read_results(folder))

    def _laid_down(self, files: Sequence[Carried]) -> str:
        """The path of the engine that was carried here; the command compares it with its digest."""
        os.makedirs(self._store, exist_ok=True)
        for file in files:
            with open(os.path.join(self._store, os.path.basename(file.name)), "wb") as stream:
                stream.write(file.data)
        return os.path.join(self._store, os.path.basename(files[0].name))

    def _command(self, words: Sequence[str]) -> tuple[Mapping[str, Any], Outcome]:
        """Run a command; what its result file says, and the outcome so far."""
        path, log = os.path.join(self._scratch, f"{words[0]}.json"), os.path.join(self._scratch, f"{words[0]}.log")
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "cmx4trt", *words, f"--result={path}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._scratch,
                env=self._environment,
                preexec_fn=_die_with_parent,
            )
            self._started(process)
            try:
                code = process.wait(max(1.0, self._deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return {}, self._failed(BuildError.exit_code, f"it took longer than {self._task.needs.minutes} minutes")
        result = _read_json(path)
        if code < 0 or (code and "error" not in result):
            return result, self._failed(*_crash(code, log))
        return result, self._failed(code, str(result.get("error", ""))) if code else Outcome(self._task.key)

    def _failed(self, code: int, sentence: str) -> Outcome:
        return Outcome(self._task.key, code, sentence)


def _is_full(folder: str) -> bool:
    """Whether the disk of the node's own folder has no room left."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize < _LEAST_ROOM or bool(status.f_files and not status.f_favail)


def _die_with_parent() -> None:
    """In the child: SIGTERM when the worker is gone, so that no build goes on for nobody."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _crash(code: int, log: str) -> tuple[int, str]:
    """Exit code and sentence of a command that ended without a sentence of its own."""
    with open_file(log) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _END_OF_LOG))
        last = stream.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
    if code < 0:
        return 128 - code, f"its process was ended by {signal.Signals(-code).name}; last output: {last}"
    return code or EXIT_UNFORESEEN, last.removeprefix(
        "cmx4trt: error: "
    ) or f"it ended with exit code {code} and printed nothing"


def _host(environment: Mapping[str, str]) -> str:
    """The node, and the GPU that the task was given there."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    return socket.gethostname() + (f" GPU {visible}" if visible else "")


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open_text(path) as stream:
            found = parse_json(stream.read())
        return found if isinstance(found, dict) else {}
    except (OSError, *MALFORMED):
        return {}


def _read_results(root: str) -> dict[str, BenchResult]:
    """LoadGen's results below a folder by mode; what is no result of ours is passed over."""
    found = {}
    for folder, _, names in os.walk(root):
        if RESULT_NAME in names:
            with suppress(OSError, ValueError), open_text(os.path.join(folder, RESULT_NAME)) as stream:
                result = BenchResult.from_json(stream.read())
                found[result.mode] = replace(result, folder=folder)
    return found


def _carrying(outcome: Outcome) -> Outcome:
    """The outcome with the files of its engine, named from the engine's folder; of a measurement those of its results."""
    if not outcome.engine:
        return outcome
    top, files = os.path.dirname(outcome.engine), []
    stem = os.path.splitext(outcome.engine)[0]
    for folder, _, names in os.walk(f"{stem}.results" if outcome.results else top):
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open_file(path) as stream:
                data = stream.read()
            files.append(Carried(os.path.relpath(path, top), hashlib.sha256(data).hexdigest(), data))
    return replace(outcome, engine=os.path.basename(outcome.engine), carried=tuple(files))
