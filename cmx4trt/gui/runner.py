"""A run of ``cmr``: its own process group, its live output, its end, and the answer that CM saved.

The command is passed as a list of arguments, without a shell, and standard input is closed. Two flags are added
that do not change the result: ``--quiet`` (nobody is there to answer questions) and ``--save_to_json`` (CM's
answer, with the one-sentence error if it failed).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cmx4trt.base.damage import parse_json
from cmx4trt.base.files import open_text
from cmx4trt.errors import EXIT_INTERRUPTED, OutputError, RequestError
from cmx4trt.gui.line import CmrLine, Value

KEPT_LINES = 5000
"""Number of log lines that are kept: a script may print without end."""
MAX_RUNNING = 2
"""Concurrent runs: each build takes several cores and gigabytes, and clicks are faster than builds."""
KEPT_RUNS = 50
"""A page has few, and shows one."""
PATIENCE = 5.0
"""Seconds between Ctrl-C, SIGTERM and SIGKILL: a build reacts within tenths of a second, other scripts may ignore signals."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_BEGUN = re.compile(r"\[ *[\d.]+ s\] (.+) \.\.\.")
_ENDED = re.compile(r"\[ *[\d.]+ s\] (.+) (done|failed) in ([\d.]+) s")
_ALIVE = re.compile(r"\[ *[\d.]+ s\] still running: (\d+)/(\d+) (.+); .*")
_SENTENCE = re.compile(r"CM error: (.+)!")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the build as reported in its log; ``seconds`` is None while it runs."""

    name: str
    seconds: float | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """``done`` of ``total`` parts of a step of a running stage."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: exit code, the error if that is not 0, and the exports of the script."""

    exit_code: int
    error: str
    exports: Mapping[str, Any]
    stopped: bool


class CmrRun:
    """One run. Any thread may query it; its own thread reads the output."""

    def __init__(
        self,
        line: CmrLine,
        folder: str,
        values: Mapping[str, Value],
        cmr: Sequence[str] = (),
        patience: float = PATIENCE,
        kept_lines: int = KEPT_LINES,
    ) -> None:
        """Start the command in ``folder``; ``values`` are those of its form. Raises OutputError.

        ``cmr``: the words before those of ``line``; by default, CM's command.
        """
        self._patience = patience
        self.id = secrets.token_urlsafe(16)
        self.line = line
        self.values = dict(values)
        self._scratch = tempfile.mkdtemp(prefix="cmx4trt-gui-")
        self._answer = os.path.join(self._scratch, "answer.json")
        self.command = [*(cmr or _cmr()), *line.words(), "--quiet", f"--save_to_json={self._answer}"]
        self._lines: deque[str] = deque(maxlen=kept_lines)
        self._stages: dict[str, Stage] = {}
        self._since: dict[str, float] = {}
        self._step: Step | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._reaped = False
        self._begun = time.monotonic()
        self._seconds: float | None = None
        self._outcome: Outcome | None = None
        try:
            self._process = subprocess.Popen(
                self.command,
                cwd=folder,
                # Temporary files that a killed script leaves behind are deleted with the run.
                env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": self._scratch},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise OutputError(f"cannot start cmr in {folder}: {error.strerror}") from error
        self._reader = threading.Thread(target=self._read, name=f"run-{self._process.pid}", daemon=True)
        self._reader.start()

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs."""
        return self._outcome

    @property
    def seconds(self) -> float:
        """Seconds from the start to now, or to the end."""
        return time.monotonic() - self._begun if self._seconds is None else self._seconds

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop and has not ended yet."""
        return self._stopped.is_set() and self._outcome is None

    def log(self) -> str:
        """The output so far (its last ``kept_lines`` lines)."""
        return "\n".join(self._lines.copy())

    def stages(self) -> list[Stage]:
        """The stages reported in the output, in the order in which they began."""
        return list(self._stages.copy().values())

    def seconds_of(self, stage: Stage) -> float:
        """How long a stage took, or has been running."""
        return time.monotonic() - self._since[stage.name] if stage.seconds is None else stage.seconds

    @property
    def step(self) -> Step | None:
        """The last reported step of a running stage."""
        return self._step if self._outcome is None else None

    def stop(self) -> None:
        """End the whole process group, first as Ctrl-C does, more forcefully after ``patience`` seconds; returns at once."""
        if self._outcome is None and not self._stopped.is_set():
            self._stopped.set()
            threading.Thread(target=self._end_group, name="stop", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended; waits at most this many seconds."""
        self._reader.join(seconds)
        return not self._reader.is_alive()

    def _end_group(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            if self.wait(self._patience):
                return

    def _signal(self, number: signal.Signals) -> None:
        """Signal the group, unless its leader has been reaped: from then on the number may belong to another process."""
        with self._lock, suppress(ProcessLookupError, PermissionError):
            if not self._reaped:
                os.killpg(self._process.pid, number)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._take(
                    _CONTROL.sub("", line.decode("utf-8", "replace").rstrip("\r\n").rsplit("\r", 1)[-1]).rstrip()
                )
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)  # processes that closed their output and are still running
        with self._lock:
            code = self._process.wait()
            self._reaped = True
        self._seconds = time.monotonic() - self._begun
        self._outcome = self._concluded(code)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _take(self, line: str) -> None:
        self._lines.append(line)
        if begun := _BEGUN.fullmatch(line):
            self._since[begun[1]] = time.monotonic()  # before anybody can query it
            self._stages[begun[1]] = Stage(begun[1])
        elif ended := _ENDED.fullmatch(line):
            self._stages[ended[1]] = Stage(ended[1], float(ended[3]), ended[2] == "failed")
            self._step = None
        elif alive := _ALIVE.fullmatch(line):
            self._step = Step(alive[3], int(alive[1]), max(1, int(alive[2])))

    def _concluded(self, code: int) -> Outcome:
        answer = _read_answer(self._answer)
        if code < 0:
            code = 128 - code  # as a shell counts signals
        error = "" if code == 0 else str(answer.get("error") or self._sentence(code))
        if self._stopped.is_set() and code:
            code, error = EXIT_INTERRUPTED, str(answer.get("error") or "interrupted")
        exports = answer.get("new_env") if code == 0 else None
        return Outcome(code, " ".join(error.split()), exports or {}, self._stopped.is_set())

    def _sentence(self, code: int) -> str:
        """For a process that ended without an answer: CM's error from the log, or otherwise the exit code."""
        said = [found[1] for line in self._lines if (found := _SENTENCE.fullmatch(line))]
        return said[-1] if said else f"cmr ended with exit code {code} and without a result; see the log"


def _cmr() -> list[str]:
    """CM's command of this Python environment, as installed by pip; if there is no such script, its function."""
    script = os.path.join(os.path.dirname(sys.executable), "cmr")
    if os.access(script, os.X_OK):
        return [script]
    return [sys.executable, "-c", "import sys; from cmind.cli import run_script; sys.exit(run_script())"]


def _read_answer(path: str) -> dict[str, Any]:
    try:
        with open_text(path) as stream:
            answer = parse_json(stream.read())
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


class CmrRuns:
    """All runs of this process by their unguessable ids: a page knows only its own, and finds it again after a reload."""

    def __init__(
        self, start: Callable[[CmrLine, str, Mapping[str, Value]], CmrRun] = CmrRun, kept: int = KEPT_RUNS
    ) -> None:
        """``kept``: finished runs that a reloaded page can still show."""
        self._start = start
        self._kept = kept
        self._runs: dict[str, CmrRun] = {}
        self._lock = threading.Lock()

    def start(self, line: CmrLine, folder: str, values: Mapping[str, Value]) -> CmrRun:
        """Start a run. Raises RequestError if MAX_RUNNING are in progress, OutputError."""
        with self._lock:  # held until the end, so that two simultaneous clicks cannot both get the last slot
            running = len(self._running())
            if running >= MAX_RUNNING:
                raise RequestError(
                    f"{running} runs are in progress, the maximum at a time; stop one, or wait for it to end"
                )
            run = self._start(line, folder, values)
            self._runs[run.id] = run
            finished = [id for id, known in self._runs.items() if known.outcome is not None]
            for id in finished[: max(0, len(finished) - self._kept)]:
                del self._runs[id]
        return run

    def find(self, id: str | None) -> CmrRun | None:
        """The run with this id, if it is known."""
        return self._runs.get(id or "")

    def running(self) -> list[CmrRun]:
        """Runs that have not ended, whoever started them, in the order in which they began."""
        with self._lock:
            return self._running()

    def _running(self) -> list[CmrRun]:
        return [run for run in self._runs.values() if run.outcome is None]

    def stop_all(self) -> None:
        """Stop all runs, and wait until they have ended."""
        running = self.running()
        for run in running:
            run.stop()
        for run in running:
            run.wait(3 * PATIENCE)


RUNS = CmrRuns()
"""The runs of this process. Streamlit reruns the page for every click; this module stays loaded."""
