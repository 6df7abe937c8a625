"""Runs of a stand-in for ``cmr``: what it is given, what is shown of it, how it is ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cmx4trt.errors import RequestError
from cmx4trt.gui import runner
from cmx4trt.gui.line import CmrLine
from cmx4trt.gui.runner import CmrRun, CmrRuns, Stage, Step

LINE = CmrLine(("some", "tags"), ("v",), (("out", "=a b; $(touch X)"),))
LIMIT = 30.0
"""Seconds after which a run of these tests hangs."""

Start = Callable[..., CmrRun]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a run in which Python code stands for cmr; ``answer(…)`` there saves CM's answer."""
    started: list[CmrRun] = []
    folder = tmp_path / "typed here"
    folder.mkdir()

    def begin(code: str, line: CmrLine = LINE, **limits: int) -> CmrRun:
        prelude = (
            "import json, os, signal, subprocess, sys, time\n"
            "def answer(**values):\n"
            "    path = [w for w in sys.argv if w.startswith('--save_to_json=')][0].split('=', 1)[1]\n"
            "    json.dump(values, open(path, 'w'))\n"
        )
        cmr = [sys.executable, "-c", prelude + code]
        started.append(CmrRun(line, str(folder), {}, cmr, patience=0.5, **limits))
        return started[-1]

    yield begin
    for run in started:
        run.stop()
        assert run.wait(LIMIT)


def ended(run: CmrRun) -> runner.Outcome:
    assert run.wait(LIMIT), run.log()
    assert run.outcome is not None
    return run.outcome


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_arguments_arrive_as_they_are_and_nobody_is_asked(start: Start) -> None:
    run = start("print(json.dumps([sys.argv[1:], os.getcwd(), sys.stdin.read()])); answer(new_env={'K': 'v'})")
    outcome = ended(run)
    words, folder, asked = json.loads(run.log())
    assert words[:3] == ["some tags _v", "--out=a b; $(touch X)", "--quiet"]
    assert [word.split("=")[0] for word in words[3:]] == ["--save_to_json"]
    assert os.path.basename(folder) == "typed here"
    assert os.listdir(folder) == []
    assert asked == ""
    assert (outcome.exit_code, outcome.error, outcome.exports) == (0, "", {"K": "v"})


def test_output_comes_while_it_runs(start: Start) -> None:
    run = start("print('[   0.10 s] build ...'); time.sleep(60)")
    until(lambda: bool(run.stages()))
    assert run.outcome is None
    assert run.stages() == [Stage("build")]


def test_stages_and_control_characters(start: Start) -> None:
    run = start(
        "print('\\x1b[31mred\\x1b[0m \\x07'); print('old\\rnew')\n"
        "print('[   0.10 s] build ...\\n[   0.10 s] verify ...')\n"
        "print('[   1.20 s] build done in 1.10 s\\n[   2.00 s] verify failed in 1.90 s')"
    )
    ended(run)
    assert run.log().splitlines()[:2] == ["red", "new"]
    assert run.stages() == [Stage("build", 1.1), Stage("verify", 1.9, failed=True)]


def test_steps_of_a_stage_that_goes_on(start: Start) -> None:
    run = start(
        "print('[   0.10 s] build ...')\n"
        "print('[  10.10 s] still running: 3/12 Timing Runner: a/b; build 10 s, verify 10 s', flush=True)\n"
        "time.sleep(60)"
    )
    until(lambda: run.step is not None)
    assert run.step == Step("Timing Runner: a/b", 3, 12)
    assert run.stages() == [Stage("build")]
    assert run.seconds_of(Stage("build")) >= 0
    assert run.seconds_of(Stage("build", 1.5)) == 1.5
    run.stop()
    ended(run)
    assert run.step is None


def test_the_sentence_of_an_error(start: Start) -> None:
    outcome = ended(start("answer(**{'return': 2, 'error': 'batch_size is 0'}); sys.exit(2)"))
    assert (outcome.exit_code, outcome.error) == (2, "batch_size is 0")
    assert outcome.exports == {}


@pytest.mark.parametrize(
    ("code", "exit_code", "error"),
    [
        ("print('CM error: out of ideas!'); sys.exit(7)", 7, "out of ideas"),
        ("sys.exit(9)", 9, "cmr ended with exit code 9 and without a result; see the log"),
        ("raise ValueError('x')", 1, "cmr ended with exit code 1 and without a result; see the log"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "cmr ended with exit code 137"),
    ],
)
def test_without_an_answer(start: Start, code: str, exit_code: int, error: str) -> None:
    outcome = ended(start(code))
    assert outcome.exit_code == exit_code
    assert outcome.error.startswith(error)
    assert not outcome.stopped


CHILD = "subprocess.Popen([sys.executable, '-c', {child!r}])\n"
SLEEPER = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def members(group: int) -> list[int]:
    """Processes of a process group that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "stubborn",
    ["pass", "signal.signal(signal.SIGINT, signal.SIG_IGN)", "[signal.signal(n, signal.SIG_IGN) for n in (2, 15)]"],
    ids=["listens", "ignores Ctrl-C", "ignores both"],
)
def test_stop_ends_the_whole_group(start: Start, stubborn: str) -> None:
    run = start(stubborn + "\n" + CHILD.format(child=SLEEPER) + "print('begun', flush=True)\ntime.sleep(60)")
    until(lambda: {"begun", "up"} <= set(run.log().split()))
    group = run._process.pid
    assert len(members(group)) == 2
    run.stop()
    run.stop()  # as often as one likes
    outcome = ended(run)
    assert (outcome.exit_code, outcome.error, outcome.stopped) == (130, "interrupted", True)
    assert members(group) == []


def test_what_is_told_to_end_is_stopping_until_it_has(start: Start) -> None:
    run = start(
        "signal.signal(signal.SIGINT, lambda *_: print('heard', flush=True)); print('up', flush=True)\ntime.sleep(60)"
    )
    until(lambda: "up" in run.log())
    assert not run.stopping
    run.stop()
    assert run.stopping
    ended(run)
    assert not run.stopping


def test_stop_when_it_has_just_ended_well(start: Start) -> None:
    run = start("answer(new_env={})")
    outcome = ended(run)
    run.stop()
    assert outcome.exit_code == 0
    assert not outcome.stopped


def test_nothing_is_left_behind(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by a script that is killed: its temporary files are the run's."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    run = start(
        "import tempfile; tempfile.mkdtemp(prefix='cmx4trt-'); print(tempfile.gettempdir(), flush=True)\n"
        "[signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; print('deaf', flush=True); time.sleep(60)"
    )
    until(lambda: "deaf" in run.log())
    assert Path(run.log().split()[0]).parent == scratch
    run.stop()
    ended(run)
    until(lambda: not list(scratch.iterdir()))


def test_long_logs_keep_their_end(start: Start) -> None:
    run = start("for n in range(1000): print(n)", kept_lines=10)
    ended(run)
    assert run.log().splitlines() == [str(n) for n in range(990, 1000)]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(runner.OutputError, match="cannot start cmr in"):
        CmrRun(LINE, str(tmp_path / "gone"), {})


def done(runs: CmrRuns, folder: str) -> CmrRun:
    run = runs.start(LINE, folder, {})
    ended(run)
    return run


def test_runs_do_not_mix(start: Start) -> None:
    runs = CmrRuns(lambda line, folder, values: start(f"print({folder!r})", line), kept=1)
    first, second, third = (done(runs, name) for name in ("one", "two", "three"))
    assert [run.log() for run in (first, second, third)] == ["one", "two", "three"]
    assert len({first.id, second.id, third.id}) == 3
    assert runs.find(third.id) is third
    assert runs.find(None) is runs.find("unknown") is None
    fourth = done(runs, "four")
    assert runs.find(first.id) is None, "only so many finished runs are kept"
    assert runs.find(fourth.id) is fourth


def test_only_so_many_at_a_time(start: Start) -> None:
    """Whoever clicks on: a sentence, and no process; a place that is free again is free again."""
    begun: list[str] = []

    def counted(line: CmrLine, folder: str, values: object) -> CmrRun:
        begun.append(folder)
        return start("print('up', flush=True); time.sleep(60)", line)

    runs = CmrRuns(counted)
    first, second = (runs.start(LINE, name, {}) for name in ("one", "two"))
    assert runner.MAX_RUNNING == 2
    with pytest.raises(RequestError, match="2 runs are in progress, the maximum at a time"):
        runs.start(LINE, "three", {})
    assert begun == ["one", "two"]
    assert runs.running() == [first, second]
    first.stop()
    ended(first)
    assert runs.running() == [second]
    runs.start(LINE, "four", {})
    assert begun == ["one", "two", "four"]


def test_stop_all(start: Start) -> None:
    runs = CmrRuns(lambda line, folder, values: start("print('up', flush=True); time.sleep(60)", line))
    both = [runs.start(LINE, name, {}) for name in ("one", "two")]
    until(lambda: all(run.log() for run in both))
    runs.stop_all()
    assert [run.outcome.exit_code for run in both if run.outcome] == [130, 130]


def test_the_command_is_cms_own_of_this_python() -> None:
    (command, *rest) = runner._cmr()
    assert Path(command).parent == Path(sys.executable).parent
    assert rest == [] or "run_script" in rest[-1]


def test_signals_never_reach_a_number_that_is_free_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("pass")
    ended(run)
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("signalled a reaped process"))
    run._signal(signal.SIGKILL)
