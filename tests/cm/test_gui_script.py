"""The page through CM: the very command of the script it takes the place of, and the page's own runs of ``cmr``."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.cli import main
from cmx4trt.gui.form import form_from_meta, read_meta
from cmx4trt.gui.line import CmrLine, check_values, line_from_values
from cmx4trt.gui.runner import CmrRun
from cmx4trt.gui.scripts import script_from_tags

ROOT = Path(__file__).resolve().parents[2]
PLAIN = "generate,engine,mlperf,inference,nvidia"
LIMIT = 60.0
"""Seconds after which a process of these tests hangs."""


@pytest.fixture(scope="session")
def cm_gui(cm: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A CM home with both of our scripts linked, as ``cmx4trt cm-setup`` leaves it in a clone."""
    home = tmp_path_factory.mktemp("cm-gui-home")
    scripts = home / "repos" / "local" / "script"
    scripts.mkdir(parents=True)
    (scripts / "cmx4trt-generate-nvidia-engine").symlink_to(ROOT)
    (scripts / "cmx4trt-gui").symlink_to(ROOT / "cmx4trt" / "script" / "gui")
    made = replace(cm, home=home, environment={**cm.environment, "CM_REPOS": str(home)})
    found = made.command("cm", "find", "script", "--tags=cm,gui", cwd=home)
    assert found.stdout.splitlines()[-1] == str(scripts / "cmx4trt-gui"), found.stdout
    return made


def answers(address: str) -> bool:
    """Whether a server listens there, and be it to refuse an address without the page's secret."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError as refused:
        return refused.code == 403
    except OSError:
        return False


def serves(process: subprocess.Popen[Any], address: str) -> bool:
    """Waits for the page; false where its process ended, or hangs."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        if answers(address):
            return True
        time.sleep(0.1)
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lives(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


@pytest.fixture
def served(cm_gui: Any, folder: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, str]]]]:
    """Starts ``cmr "cm gui" …`` and waits for the page; gives the process and the table it prints."""
    pytest.importorskip("streamlit", reason="Streamlit is not installed (pip install 'cmx4trt[gui]')")
    started: list[subprocess.Popen[str]] = []

    def serve(*flags: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
        port = free_port()
        cmr = Path(sys.executable).parent / "cmr"
        started.append(
            subprocess.Popen(
                [cmr, "cm gui", *flags, "--no_browser", f"--port={port}"],
                cwd=folder,
                env={**cm_gui.environment, "HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        if serves(started[-1], f"http://127.0.0.1:{port}"):
            return started[-1], printed_rows(started[-1])
        os.killpg(started[-1].pid, signal.SIGKILL)
        raise AssertionError(started[-1].communicate()[0])

    yield serve
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


def printed_rows(process: subprocess.Popen[str]) -> dict[str, str]:
    """The table that a page prints before it serves: name -> value."""
    assert process.stdout is not None
    rows: dict[str, str] = {}
    while "next" not in rows and (line := process.stdout.readline()):
        if row := re.match(r"  (\S.*?)  +(.*)", line):
            rows[row[1]] = row[2]
    return rows


def test_the_very_command(served: Any, folder: Path) -> None:
    """It serves, says where, leaves the folder alone, and Ctrl-C ends it and everything it started."""
    (folder / "tmp-run.sh").write_text("the user's own")
    process, rows = served("--script=" + PLAIN, "--quiet", "--skip_sys_utils=yes")
    assert rows["script"].endswith("cmx4trt-generate-nvidia-engine")
    with urllib.request.urlopen(rows["page"], timeout=10) as answer:
        assert b"<title>" in answer.read()
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    said = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert re.findall("CM error: .*", said) == ["CM error: the web UI is closed; unfinished runs were stopped!"]
    assert not lives(process.pid)
    assert (folder / "tmp-run.sh").read_text() == "the user's own"
    assert [path.name for path in folder.iterdir()] == ["tmp-run.sh"], "no folder of Streamlit's either"


def test_terminated_from_outside(served: Any) -> None:
    """SIGTERM to cmr alone reaches the page too."""
    process, _ = served()
    process.terminate()
    process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert not lives(process.pid)


BY_CM = (str(Path(sys.executable).parent / "cmr"), "cm gui")
BY_COMMAND = (sys.executable, "-m", "cmx4trt", "gui")
needs_streamlit = pytest.mark.skipif(
    importlib.util.find_spec("streamlit") is None, reason="Streamlit is not installed (pip install 'cmx4trt[gui]')"
)
needs_setsid = pytest.mark.skipif(
    shutil.which("setsid") is None, reason="setsid is not installed (apt-get install util-linux)"
)


@pytest.fixture
def watched(cm_gui: Any, folder: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], str]]]:
    """Starts a command with its output on ``stream`` and waits for the page; at the end nothing of it may be left."""
    started: list[subprocess.Popen[bytes]] = []
    scratch = tmp_path / "temporary files"
    scratch.mkdir()

    def start(command: tuple[str, ...], stream: int) -> tuple[subprocess.Popen[bytes], str]:
        port = free_port()
        environment = {**cm_gui.environment, "PYTHONPATH": str(ROOT), "HOME": str(folder), "TMPDIR": str(scratch)}
        words = ["setsid", *(["--ctty"] if os.isatty(stream) else []), *command, "--no_browser", f"--port={port}"]
        process = subprocess.Popen(words, cwd=folder, env=environment, stdin=stream, stdout=stream, stderr=stream)
        started.append(process)
        os.close(stream)
        assert serves(process, f"http://127.0.0.1:{port}")
        return process, f"http://127.0.0.1:{port}"

    yield start
    left = [process.pid for process in started if lives(process.pid)]
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert left == []
    assert list(scratch.iterdir()) == []


@needs_streamlit
@needs_setsid
@pytest.mark.parametrize("command", [BY_CM, BY_COMMAND], ids=["cmr", "cmx4trt"])
def test_closed_terminal(watched: Any, command: tuple[str, ...]) -> None:
    """A terminal whose window is closed: the page ends in order, though its last words reach nobody."""
    ours, theirs = os.openpty()
    process, address = watched(command, theirs)
    os.close(ours)
    assert process.wait(LIMIT) == 130
    assert not answers(address)


@needs_streamlit
@needs_setsid
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_reader_that_went_away(watched: Any, number: signal.Signals) -> None:
    """``cmx4trt gui | head -1``: the page goes on, and listens to signals as ever."""
    ours, theirs = os.pipe()
    process, address = watched(BY_COMMAND, theirs)
    os.close(ours)
    assert answers(address)
    process.send_signal(number)
    assert process.wait(LIMIT) == 130


def test_only_this_machine_and_only_this_page(served: Any) -> None:
    """A page of somebody else cannot open the connection that presses buttons."""
    _, rows = served()
    host, token = rows["page"].removeprefix("http://").rstrip("/").split("/")
    assert handshake(host, token, host, f"http://{host}") == 101
    assert handshake(host, token, host, "http://evil.example") == 403
    assert handshake(host, token, host, "http://localhost:9") == 403, "whoever else serves pages on this machine"
    other = f"evil.example:{host.split(':')[1]}"
    assert handshake(host, token, other, f"http://{other}") == 403
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert f"0100007F:{int(host.split(':')[1]):04X}" in listening
    assert f"00000000:{int(host.split(':')[1]):04X}" not in listening


def test_another_user_of_this_machine(served: Any) -> None:
    """Whoever finds the port, but not the secret, gets neither the page nor its files nor the connection of its buttons."""
    _, rows = served()
    host, token = rows["page"].removeprefix("http://").rstrip("/").split("/")
    for path in ("", "/", "/_stcore/health", "/_stcore/host-config", f"/{token[:-1]}/", "/static/index.html"):
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.urlopen(f"http://{host}{path}", timeout=10)
        assert refused.value.headers["content-security-policy"] == "frame-ancestors 'none'"
        refused.value.close()
    assert handshake(host, "", host, f"http://{host}") == 403
    assert handshake(host, token[:-1], host, f"http://{host}") == 403
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            assert token.encode() not in (process / "cmdline").read_bytes(), "readable by every user"


def handshake(address: str, token: str, host: str, origin: str) -> int:
    """The status of an attempt to open Streamlit's websocket."""
    name, port = address.split(":")
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        lines = [
            f"GET {f'/{token}' if token else ''}/_stcore/stream HTTP/1.1",
            f"Host: {host}",
            f"Origin: {origin}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: streamlit",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--script=no,such,tags",), "CM knows no script with the tags no,such,tags"),
        (("--script=detect",), "scripts with the tags detect ("),
        (("--script=" + PLAIN + ",_resnet",), "has no variation _resnet"),
        (("--script",), "--script was given without a value"),
        (("--port=http",), "port is 'http', expected a whole number from 0 to 65535"),
        (("--prot=1",), "unknown flag --prot; did you mean 'port'"),
        (("--address=192.0.2.1",), "cannot listen on port 8501 of 192.0.2.1"),
        (("--folder=gone",), "gone does not exist"),
    ],
)
def test_what_cannot_be_meant(cm_gui: Any, folder: Path, flags: tuple[str, ...], expected: str) -> None:
    pytest.importorskip("streamlit", reason="Streamlit is not installed (pip install 'cmx4trt[gui]')")
    done = cm_gui.command("cmr", "cm gui", *flags, cwd=folder)
    assert done.returncode == 2, done.stdout
    (sentence,) = re.findall(r"^CM error: (.*)!$", done.stdout, re.MULTILINE)
    assert expected in sentence
    assert "Traceback" not in done.stdout
    assert list(folder.iterdir()) == []


def test_the_guides_example(in_cm_home: Any) -> None:
    """Tags that select one script, and a variation that it has."""
    guide = (ROOT / "docs" / "how-to" / "gui.md").read_text(encoding="utf-8")
    (example,) = re.findall(r'variations to start with: `--script="([^"]+)"`', guide)
    script = script_from_tags(example)
    assert script.variations
    assert (Path(script.folder) / "_cm.yaml").is_file()


def test_short_help(cm_gui: Any, folder: Path) -> None:
    done = cm_gui.command("cmr", "cm gui", "-h", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert all(f"--{flag}" in done.stdout for flag in ("script", "port", "address", "no_browser", "folder"))
    assert "Traceback" not in done.stdout


def test_other_applications(cm_gui: Any, folder: Path) -> None:
    done = cm_gui.command("cmr", "cm gui _playground", cwd=folder)
    assert done.returncode == 2, done.stdout
    assert "CM error: 'playground' is an application of CM's own gui, which does not parse" in done.stdout


def test_missing_software(cm_gui: Any, folder: Path, tmp_path: Path) -> None:
    """Without Streamlit: the same code and sentence from both commands."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    hook = "import sys\nfrom importlib.machinery import PathFinder as F\nold = F.find_spec.__func__\n"
    hook += "F.find_spec = classmethod(lambda c, n, *a: None if n == 'streamlit' else old(c, n, *a))\n"
    (hidden / "sitecustomize.py").write_text(hook)
    done = cm_gui.command("cmr", "cm gui", cwd=folder, PYTHONPATH=str(hidden))
    assert done.returncode == 5, done.stdout
    assert "CM error: the web UI needs streamlit, which is not installed for" in done.stdout
    assert "[gui]'!" in done.stdout


@pytest.fixture
def in_cm_home(cm_gui: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.startswith(("CM_", "CMX4TRT_", "PYTHONPATH"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CM_REPOS", str(cm_gui.home))
    return cm_gui


def ran(line: CmrLine, folder: Path) -> CmrRun:
    run = CmrRun(line, str(folder), {})
    assert run.wait(LIMIT), run.log()
    return run


def test_a_run_says_what_cmr_and_the_command_line_say(
    in_cm_home: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, one exit code, in three places; the line as typed in a real shell."""
    form = form_from_meta(read_meta(str(ROOT)))
    tags = tuple(PLAIN.split(","))
    values = {"switch with value:random-weights": True, "value:batch_size": "0"}
    line = line_from_values(form, tags, values)
    outcome = ran(line, folder).outcome
    assert outcome is not None
    typed = subprocess.run(
        ["bash", "-c", line.shell()],
        cwd=folder,
        env={**in_cm_home.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    code = main(["build", "--random_weights=0", "--batch_size=0"])
    by_command = capsys.readouterr().err.removeprefix("cmx4trt: error: ").strip()
    assert outcome.error == by_command == "batch_size is 0, expected a whole number from 1 to 65536"
    assert f"CM error: {outcome.error}!" in typed.stderr + typed.stdout
    assert outcome.exit_code == typed.returncode == code == 2
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("value", ['a"b', "$(touch PWNED)", "`touch PWNED`", "a\\", "a\nb"])
def test_what_the_page_refuses_cmr_refuses_with_the_same_words(in_cm_home: Any, folder: Path, value: str) -> None:
    form = form_from_meta(read_meta(str(ROOT)))
    values = {"text:output_dir": value, "switch with value:random-weights": True}
    with pytest.raises(Exception, match="contains a") as refused:
        check_values(form, values)
    done = in_cm_home.cmr("_random-weights", f"--output_dir={value}", cwd=folder)
    assert f"CM error: {refused.value}!" in done.stdout
    assert list(folder.iterdir()) == []


def test_a_run_reuses_what_the_line_built(in_cm_home: Any, rtx: None, published: Path, folder: Path) -> None:
    """The line, typed before, left an engine: the page's run finds the very same one."""
    form = form_from_meta(read_meta(str(ROOT)))
    values = {"switch with value:random-weights": True, "text:output_dir": str(published)}
    line = line_from_values(form, tuple(PLAIN.split(",")), values)
    assert shlex.split(line.shell())[1:] == line.words()
    outcome = ran(line, folder).outcome
    assert outcome is not None
    assert (outcome.exit_code, outcome.exports.get("CM_MLPERF_ENGINE_REUSED")) == (0, "yes")
    assert Path(str(outcome.exports["CM_MLPERF_ENGINE_MANIFEST_WITH_PATH"])).is_relative_to(published)


def test_stopping_a_build_keeps_the_store_sane(in_cm_home: Any, rtx: None, folder: Path) -> None:
    """Stopped in the middle: no process, no engine, no half file; and the next run builds."""
    line = CmrLine((*PLAIN.split(","),), ("random-weights",), (("output_dir", "=store"), ("verify", "=no")))
    run = CmrRun(line, str(folder), {})
    deadline = time.monotonic() + LIMIT
    while not any(stage.name == "build" for stage in run.stages()):
        assert time.monotonic() < deadline, run.log()
        assert run.outcome is None, run.log()
        time.sleep(0.02)
    run.stop()
    assert run.wait(LIMIT)
    assert run.outcome is not None
    assert (run.outcome.exit_code, run.outcome.stopped) == (130, True)
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    again = ran(line, folder).outcome
    assert again is not None
    assert again.exit_code == 0
    assert again.exports["CM_MLPERF_ENGINE_REUSED"] == "no"
