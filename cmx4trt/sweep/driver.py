"""Takes tasks through a runner, whatever that is: builds first, then what is measured of them; each once, lost ones again."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from cmx4trt.base.damage import reason
from cmx4trt.errors import CmxError, DeviceError, OutputError, ResultInvalidError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sweep.arrival import engine_to_carry, receive_engine, receive_results
from cmx4trt.sweep.status import DONE, FAILED, INVALID, Measured, Status, TaskRecord
from cmx4trt.sweep.tasks import BUILD, Carried, Outcome, Task

POLL_SECONDS = 0.5
"""How long a runner is asked to wait for the next outcome before the table is drawn anew."""


class Runner(Protocol):
    """Where tasks run. It keeps within the tasks' needs, and decides which node takes which."""

    title: str

    def room(self) -> int:
        """How many more tasks it takes now."""

    def submit(self, tasks: Sequence[tuple[Task, Sequence[Carried]]]) -> None:
        """Begin tasks, each with the files that must be carried to it."""

    def wait(self, seconds: float) -> list[Outcome]:
        """What has ended, after at most so many seconds."""

    def impossible(self, task: Task) -> str:
        """Why nothing here can run a task, in words; empty if something can."""

    def close(self) -> None:
        """End what still runs."""


class Watcher(Protocol):
    """Who is shown the progress."""

    def planned(self, tasks: int, finished: int) -> None:
        """So many tasks there are, and so many were finished before."""

    def ended(self, task: Task, record: TaskRecord) -> None:
        """A task has ended."""

    def going(self, running: Iterable[Task], waiting: int) -> None:
        """These run or wait for a node; so many have not been handed over yet."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class Driver:
    """One sweep on one runner."""

    def __init__(self, tasks: Sequence[Task], runner: Runner, status: Status, retries: int, watcher: Watcher) -> None:
        self._tasks = tasks
        self._runner = runner
        self._status = status
        self._retries = retries
        self._watcher = watcher
        self._ready: deque[tuple[Task, bool]] = deque()
        """Tasks whose engine is there, and whether it must be carried to them."""
        self._after: defaultdict[str, list[Task]] = defaultdict(list)
        self._running: dict[str, Task] = {}
        self._attempts: defaultdict[str, int] = defaultdict(int)

    def run(self) -> None:
        """Until every task that can run has ended. Raises OutputError where the status file cannot be written."""
        self._sort_out()
        try:
            while self._ready or self._running:
                self._hand_over()
                self._watcher.going(self._running.values(), len(self._ready))
                for outcome in self._runner.wait(POLL_SECONDS if self._running else 0):
                    self._take(self._running.pop(outcome.key), outcome)
        finally:
            self._runner.close()

    def _sort_out(self) -> None:
        """What is finished, what can begin, and what waits for a build."""
        finished = {task.key for task in self._tasks if self._status.finished(task.key)}
        for task in self._tasks:
            if task.key in finished:
                continue
            if task.after and task.after not in finished:
                self._after[task.after].append(task)
            else:
                engine = self._status.records[task.after].engine if task.after else ""
                self._ready.append((replace(task, engine=engine), False))
        self._watcher.planned(len(self._tasks), len(finished))

    def _hand_over(self) -> None:
        chosen: list[tuple[Task, Sequence[Carried]]] = []
        for _ in range(min(self._runner.room(), len(self._ready))):
            task, carried = self._ready.popleft()
            if why := self._runner.impossible(task):
                self._end(task, Outcome(task.key, DeviceError.exit_code, why))
                continue
            try:
                files = engine_to_carry(task.engine) if carried else ()
            except OSError as error:
                self._end(task, Outcome(task.key, OutputError.exit_code, f"cannot read {task.engine}: {reason(error)}"))
                continue
            self._running[task.key] = task
            chosen.append((task, files))
        if chosen:
            self._runner.submit(chosen)

    def _take(self, task: Task, outcome: Outcome) -> None:
        if outcome.wants_engine:
            self._ready.appendleft((task, True))
            return
        self._attempts[task.key] += 1
        if outcome.lost and self._attempts[task.key] <= self._retries:
            self._watcher.note(f"{task.kind} {task.name}: {outcome.error}; retrying")
            self._ready.append((task, bool(task.engine)))
            return
        elsewhere = bool(outcome.carried)
        if elsewhere:
            outcome = self._received(task, outcome)
        self._end(task, outcome, elsewhere)

    def _received(self, task: Task, outcome: Outcome) -> Outcome:
        """The outcome with what it carried laid down in the store."""
        try:
            if task.kind == BUILD:
                return receive_engine(outcome, BuildRequest.from_dict(task.request))
            return receive_results(outcome, task.engine)
        except CmxError as error:
            return replace(outcome, exit_code=error.exit_code, error=str(error), carried=(), results={})

    def _end(self, task: Task, outcome: Outcome, elsewhere: bool = False) -> None:
        """``elsewhere``: on a node that does not see the store; what is measured of its engine probably runs on its like."""
        record = self._record(task, outcome)
        self._status.add(record)
        self._watcher.ended(task, record)
        if task.kind == BUILD and record.state == DONE:
            self._ready.extend((replace(t, engine=outcome.engine), elsewhere) for t in self._after.pop(task.key, ()))

    def _record(self, task: Task, outcome: Outcome) -> TaskRecord:
        invalid = outcome.exit_code == ResultInvalidError.exit_code and bool(outcome.results)
        return TaskRecord(
            key=task.key,
            kind=task.kind,
            state=INVALID if invalid else FAILED if outcome.exit_code or outcome.error else DONE,
            error=outcome.error,
            engine=outcome.engine or task.engine,
            results={mode: Measured.of(result) for mode, result in outcome.results.items()},
            name=task.name,
            exit_code=outcome.exit_code,
            reused=outcome.reused,
            host=outcome.host,
            seconds=outcome.seconds,
            attempts=self._attempts[task.key],
        )
