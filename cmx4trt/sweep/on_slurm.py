"""Runs tasks as array jobs of Slurm, through submitit; a folder that all nodes see is needed, as submitit itself needs one."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cmx4trt.base.install import pip_line
from cmx4trt.errors import BuildError, MissingSoftwareError
from cmx4trt.sweep.tasks import Carried, Needs, Outcome, Task
from cmx4trt.sweep.worker import run_task

SLURM, LOCAL = "slurm", "local"
_GIB = 1 << 30
_LOOK_SECONDS = {SLURM: 5.0}
"""Between two looks at the jobs: each asks Slurm's accounting, which serves a whole cluster."""
_GRES = "gpu:1"
_MARGIN_MINUTES = 5
"""Beyond a task's own limit, which ends it with a sentence; Slurm's would end it with none."""


class SlurmRunner:
    """``slurm``, ``gpus``: the sections of the sweep file; ``folder``: for submitit's files."""

    def __init__(
        self, store: str, token: str, folder: str, slurm: Mapping[str, Any], gpus: Mapping[str, Mapping[str, Any]]
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise MissingSoftwareError(f"submitit is not installed in this Python; {pip_line('slurm')}") from error
        self._submitit: Any = submitit
        self._folder = folder
        self._cluster = str(slurm["cluster"])
        self._slurm = slurm
        self._gpus = gpus
        self._place = store, token
        self._jobs: list[tuple[Any, Task]] = []
        self.title = "Slurm" if self._cluster == SLURM else f"submitit ({self._cluster})"

    def room(self) -> int:
        """Slurm keeps the queue; submitit's other executors begin everything at once."""
        limit = int(self._slurm["parallel"]) * 4 if self._cluster == SLURM else len(os.sched_getaffinity(0))
        return max(0, limit - len(self._jobs))

    def submit(self, tasks: Sequence[tuple[Task, Sequence[Carried]]]) -> None:
        """One array for all tasks with the same needs."""
        arrays: dict[Needs, list[tuple[Task, Sequence[Carried]]]] = defaultdict(list)
        for task, files in tasks:
            arrays[task.needs].append((task, files))
        for needs, members in arrays.items():
            executor = self._submitit.AutoExecutor(folder=os.path.join(self._folder, "%j"), cluster=self._cluster)
            executor.update_parameters(**self._parameters(needs))
            chosen = [task for task, _ in members]
            jobs = executor.map_array(
                run_task, chosen, *([value] * len(members) for value in self._place), [files for _, files in members]
            )
            self._jobs += zip(jobs, chosen, strict=True)

    def wait(self, seconds: float) -> list[Outcome]:
        """As ``Runner`` says."""
        if not self._jobs:
            return []
        time.sleep(max(seconds, _LOOK_SECONDS.get(self._cluster, 0.0)))
        ended = [(job, task) for job, task in self._jobs if job.done()]
        self._jobs = [pair for pair in self._jobs if pair not in ended]
        return [self._outcome(job, task) for job, task in ended]

    def impossible(self, task: Task) -> str:
        """A kind of GPU that the file does not say how to ask for."""
        gpu = task.needs.gpu
        if gpu is None or gpu in self._gpus or self._cluster != SLURM:
            return ""
        return (
            f"the sweep file does not say how to request a {gpu} from Slurm; add it under slurm.gpus, "
            "with a constraint or gres"
        )

    def close(self) -> None:
        """Cancel what still runs."""
        for job, _ in self._jobs:
            job.cancel()
        self._jobs = []

    def _parameters(self, needs: Needs) -> dict[str, Any]:
        """A job's needs in submitit's words; what begins with slurm_ the other executors pass over."""
        own = self._gpus.get(needs.gpu or "", {})
        partition = own.get("partition") or self._slurm["partition"]
        given = {"slurm_partition": partition, "slurm_account": self._slurm["account"]}
        if needs.gpu is not None:
            given |= {"slurm_constraint": own.get("constraint"), "slurm_gres": own.get("gres") or _GRES}
        return {
            "name": "cmx4trt-sweep",
            "timeout_min": needs.minutes + _MARGIN_MINUTES,
            "cpus_per_task": needs.cores,
            "mem_gb": -(-needs.memory // _GIB),
            "slurm_array_parallelism": self._slurm["parallel"],
            **{name: value for name, value in given.items() if value is not None},
        }

    def _outcome(self, job: Any, task: Task) -> Outcome:
        try:
            outcome: Outcome = job.result()
            return outcome
        except self._submitit.core.utils.FailedJobError as error:
            last = str(error).strip().rsplit("\n", 1)[-1]
            return Outcome(task.key, BuildError.exit_code, f"job {job.job_id} failed ({last}); see {job.paths.stderr}")
        except self._submitit.core.utils.UncompletedJobError:
            return Outcome(task.key, error=f"job {job.job_id} ended without a result: its node was lost", lost=True)
