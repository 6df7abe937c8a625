"""Runs tasks as processes of this machine, within its cores and memory; each sees one GPU, where it asks for one."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from glob import glob

from cmx4trt.base.background import Background
from cmx4trt.base.quantities import binary_size, decimal_size
from cmx4trt.sweep.tasks import Carried, Needs, Outcome, Task
from cmx4trt.sweep.worker import run_task

STOP_SECONDS = 10.0
"""How long a command may take to end after SIGTERM."""


class ProcessRunner:
    """``cores``, ``memory`` (bytes), ``gpus``: what may be used; this machine's own by default. ``run``: as ``run_task``."""

    title = "this machine"

    def __init__(
        self,
        store: str,
        token: str,
        cores: int = 0,
        memory: int = 0,
        gpus: Sequence[str] | None = None,
        run: Callable[..., Outcome] = run_task,
    ) -> None:
        self._run_task = run
        self._store = store
        self._token = token
        self._cores = cores or len(os.sched_getaffinity(0))
        self._memory = memory or _memory()
        self._gpus = list(_gpus() if gpus is None else gpus)
        self._free = list(self._gpus)
        self._waiting: list[tuple[Task, Sequence[Carried]]] = []
        self._running: dict[str, tuple[Task, str | None]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._closed = False

    def room(self) -> int:
        """A few more than can run, so that none stands idle."""
        return max(0, 2 * self._cores - len(self._waiting) - len(self._running))

    def submit(self, tasks: Sequence[tuple[Task, Sequence[Carried]]]) -> None:
        """Begin what fits now; the rest when others have ended."""
        self._waiting += tasks
        self._begin()

    def wait(self, seconds: float) -> list[Outcome]:
        """As ``Runner`` says."""
        outcomes: list[Outcome] = []
        with suppress(queue.Empty):
            outcomes.append(self._ended.get(timeout=seconds) if seconds else self._ended.get_nowait())
            while True:
                outcomes.append(self._ended.get_nowait())
        for outcome in outcomes:
            _, gpu = self._running.pop(outcome.key)
            self._processes.pop(outcome.key, None)
            if gpu is not None:
                self._free.append(gpu)
        self._begin()
        return outcomes

    def impossible(self, task: Task) -> str:
        """More than the machine has."""
        needs = task.needs
        if needs.gpu and not self._gpus:
            return (
                f"it needs a GPU ({needs.gpu}), and this machine has none; use --on=ray or --on=slurm, or leave gpu out"
            )
        if needs.cores > self._cores:
            return f"it needs {needs.cores} cores, this machine has {self._cores}; lower 'cores' under 'tasks'"
        if needs.memory > self._memory:
            wanted, there = binary_size(needs.memory), decimal_size(self._memory)
            return f"it needs {wanted}, this machine has {there}; lower 'memory' under 'tasks'"
        return ""

    def close(self) -> None:
        """End the commands, and wait until they are gone."""
        self._closed = True
        for process in list(self._processes.values()):
            process.terminate()
        for process in list(self._processes.values()):
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            process.kill()  # nothing, where it has ended

    def _begin(self) -> None:
        for task, files in list(self._waiting):
            if self._closed or not self._fits(task.needs):
                continue
            self._waiting.remove((task, files))
            gpu = self._free.pop() if task.needs.gpu else None
            self._running[task.key] = task, gpu
            Background(partial(self._run, task, files, gpu))

    def _fits(self, needs: Needs) -> bool:
        used = [task.needs for task, _ in self._running.values()]
        cores, memory = sum(one.cores for one in used), sum(one.memory for one in used)
        enough = cores + needs.cores <= self._cores and memory + needs.memory <= self._memory
        return enough and (not needs.gpu or bool(self._free))

    def _run(self, task: Task, files: Sequence[Carried], gpu: str | None) -> None:
        def started(process: subprocess.Popen[bytes]) -> None:
            self._processes[task.key] = process
            if self._closed:
                process.terminate()

        try:
            outcome = self._run_task(task, self._store, self._token, files, started, gpu)
        except Exception as error:  # whatever it is, the driver waits for an outcome
            outcome = Outcome(task.key, lost=True, error=f"its worker failed ({error!r})")
        self._ended.put(outcome)


def _memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(glob("/dev/nvidia[0-9]*")))]
