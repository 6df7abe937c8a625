"""Runs tasks on a Ray cluster: what needs no GPU on any CPU, the rest on nodes with the right GPU, one GPU for each task.

Ray places tasks and knows when a node is gone; how often a lost task is begun again is the driver's to say.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cmx4trt.base.install import pip_line
from cmx4trt.devices.cards import capability_of
from cmx4trt.errors import DeviceError, MissingSoftwareError
from cmx4trt.sweep.tasks import Carried, Outcome, Task
from cmx4trt.sweep.worker import run_task

WINDOW_PER_CORE, LEAST_WINDOW = 2, 32
"""Tasks that Ray is given at once, for each core of the cluster: more would not run earlier, and the driver looks at all of them
whenever one ends."""
PATIENCE_SECONDS = 60.0
"""How long a task may wait for a kind of GPU that the cluster no longer has: a node may come back."""
_ACCELERATOR = "accelerator_type:"
"""Begins the name of the resource by which Ray says which accelerator a node has (Ray's manual, Accelerator Support)."""
_FRESH_SECONDS = 1.0
_SHARE = 0.001
"""Of that resource, which a node has one of; the GPU itself is counted by num_gpus."""


class RayRunner:
    """``address``: of a running cluster; None starts Ray on this machine, or uses the one that is connected to already.
    ``work``: what a task runs, for measurements of all else."""

    def __init__(
        self, store: str, token: str, address: str | None = None, work: Callable[..., Outcome] = run_task
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise MissingSoftwareError(f"Ray is not installed in this Python; {pip_line('ray')}") from error
        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # ConnectionError, RuntimeError, ValueError, by what is wrong
                raise DeviceError(
                    f"there is no Ray cluster at {address} ({error}); start one, or leave --address out"
                ) from error
        self.title = f"Ray ({len(self._alive())} nodes)"
        self._remote: Any = ray.remote(max_retries=0)(work)
        self._place = store, token
        self._pending: dict[Any, Task] = {}
        self._since: dict[str, float] = {}
        self._looked = 0.0
        self._asked = float("-inf")
        self._known: Mapping[str, float] = {}
        self._kinds: dict[str, str] = {}
        """Kind of GPU -> the resource that has stood for it: its nodes may come back."""

    def room(self) -> int:
        """A few for each core that the cluster has now."""
        window = LEAST_WINDOW + WINDOW_PER_CORE * int(self._resources().get("CPU", 0))
        return window - len(self._pending)

    def submit(self, tasks: Sequence[tuple[Task, Sequence[Carried]]]) -> None:
        """Hand them to Ray, with what they need."""
        resources = self._resources()
        for task, files in tasks:
            options = options_of(task, resources, self._kinds.get(task.needs.gpu or "", ""))
            carried = self._ray.put(tuple(files)) if files else ()
            self._pending[self._remote.options(**options).remote(task, *self._place, carried)] = task

    def wait(self, seconds: float) -> list[Outcome]:
        """As ``Runner`` says."""
        if not self._pending:
            return []
        waiting = list(self._pending)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [*map(self._outcome, ready), *self._stranded()]

    def impossible(self, task: Task) -> str:
        """A kind of GPU that no node has had yet."""
        gpu = task.needs.gpu
        if gpu is None or gpu in self._kinds:
            return ""
        if found := _offered(gpu, self._resources()):
            self._kinds[gpu] = found
        return "" if found else _missing(task)

    def close(self) -> None:
        """Cancel what still runs."""
        for reference in self._pending:
            self._ray.cancel(reference, force=True)
        self._pending.clear()
        if self._own:
            self._ray.shutdown()

    def _outcome(self, reference: Any) -> Outcome:
        task = self._pending.pop(reference)
        self._since.pop(task.key, None)
        try:
            outcome: Outcome = self._ray.get(reference)
            return outcome
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(
                task.key, DeviceError.exit_code, f"the node cannot run cmx4trt ({_last_line(error)}); install it there"
            )
        except self._ray.exceptions.RayError as error:
            return Outcome(task.key, error=f"its node or worker was lost ({type(error).__name__})", lost=True)

    def _stranded(self) -> list[Outcome]:
        """Tasks for whose kind of GPU there has been no node for long: Ray would wait for ever."""
        now = time.monotonic()
        if now - self._looked < PATIENCE_SECONDS / 12:
            return []
        self._looked = now
        resources, outcomes = self._resources(), []
        for reference, task in list(self._pending.items()):
            if _offered(task.needs.gpu, resources):
                self._since.pop(task.key, None)
            elif now - self._since.setdefault(task.key, now) >= PATIENCE_SECONDS:
                self._ray.cancel(reference, force=True)
                del self._pending[reference]
                outcomes.append(Outcome(task.key, DeviceError.exit_code, _missing(task)))
        return outcomes

    def _resources(self) -> Mapping[str, float]:
        """Those of the whole cluster, a second old at most: Ray adds them up over all nodes each time."""
        now = time.monotonic()
        if now - self._asked >= _FRESH_SECONDS:
            self._asked, self._known = now, self._ray.cluster_resources()
        return self._known

    def _alive(self) -> list[Any]:
        return [node for node in self._ray.nodes() if node.get("Alive")]


def options_of(task: Task, resources: Mapping[str, float], known: str = "") -> dict[str, Any]:
    """What Ray is told of a task's needs; ``resources``: those of the whole cluster, by name; ``known``: the one that has stood
    for its kind of GPU."""
    needs = task.needs
    options: dict[str, Any] = {"num_cpus": needs.cores, "memory": needs.memory}
    if needs.gpu is not None:
        name = known or _offered(needs.gpu, resources)
        options["resources"] = {name: _SHARE if name.startswith(_ACCELERATOR) else 1}
        options["num_gpus"] = (
            1 if resources.get("GPU") else 0
        )  # a node may count its GPUs by a resource of its own alone
    return options


def _offered(gpu: str | None, resources: Mapping[str, float]) -> str:
    """The resource that stands for a kind of GPU: one of its own name, or Ray's type of accelerator; empty for none."""
    if gpu is None:
        return "CPU"
    if resources.get(gpu):
        return gpu
    types = [name for name in resources if name.startswith(_ACCELERATOR)]
    meant = (
        name
        for name in types
        if gpu in (name.removeprefix(_ACCELERATOR), capability_of(name.removeprefix(_ACCELERATOR)))
    )
    return next(meant, "")


def _missing(task: Task) -> str:
    return (
        f"no node of the Ray cluster has a {task.needs.gpu}; start one with --resources='{{\"{task.needs.gpu}\": 1}}', or with a "
        "GPU whose type Ray knows"
    )


def _last_line(error: BaseException) -> str:
    return str(error).strip().rsplit("\n", 1)[-1]
