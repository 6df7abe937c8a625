"""The CM edge of the page: ``cmr "cm gui" --script=TAGS`` -> ``cmx4trt gui``, in a process of its own.

The script has no dependencies and no run.sh, so that no value comes near a shell. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

import cmx4trt
from cmx4trt.base.damage import MALFORMED
from cmx4trt.base.files import open_text
from cmx4trt.base.values import nearest
from cmx4trt.cm.hooks import CM_FLAGS
from cmx4trt.cm.setup import PLAIN_TAGS
from cmx4trt.errors import EXIT_UNFORESEEN, CmxError, RequestError
from cmx4trt.gui.closed_streams import drop_closed_streams

_APP_KEY = "CM_GUI_APP"
_SWITCHES = ("no_browser", "no_run")
_START = "import sys; sys.path.insert(0, {root!r}); from cmx4trt.cli import main; sys.exit(main(sys.argv[1:]))"
"""Instead of PYTHONPATH, which the page's own runs of CM would inherit."""


def predeps(i: dict[str, Any]) -> dict[str, Any]:
    """Run the page until somebody ends it.

    In the first hook: before the next one, CM deletes tmp-run.sh and its like in the user's folder. A page always ends
    with an error (130 at least), after which CM calls and deletes nothing.
    """
    env, given, mapping = i["env"], i["input"], i["meta"]["input_mapping"]
    if given.get("h"):
        _run(["gui", "--help"])
        if given.get("cmd"):
            raise SystemExit(0)  # CM would describe itself
        return {"return": 0}
    try:
        words = _words({**env, **i["run_script_input"]["const"]}, given, mapping)
    except CmxError as error:
        return {"return": error.exit_code, "error": str(error).rstrip(".!?")}
    return _run(words)


def _words(env: Mapping[str, Any], given: Mapping[str, Any], mapping: Mapping[str, str]) -> list[str]:
    """The arguments of ``cmx4trt gui``. Raises RequestError."""
    for flag in given:
        if flag not in mapping and flag not in CM_FLAGS:
            hint = nearest(flag, tuple(mapping)) or f"; the flags are {', '.join(sorted(mapping))}"
            raise RequestError(f"unknown flag --{flag}{hint}")
    app = env.get(_APP_KEY) or "app"
    if app != "app":
        raise RequestError(f"'{app}' is an application of CM's own gui, which does not parse; leave out _{app}")
    values = {flag: env[key] for flag, key in mapping.items() if env.get(key) not in (None, "")}
    values.setdefault("script", PLAIN_TAGS)
    for flag, value in values.items():
        if value is True and flag not in _SWITCHES:
            raise RequestError(f"--{flag} was given without a value; write --{flag}=VALUE, with the equals sign")
    return ["gui", *(f"--{flag}={'yes' if value is True else value}" for flag, value in values.items())]


def _run(words: list[str]) -> dict[str, Any]:
    """The page's process: it shows what it has to say, its error comes back in a file."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(cmx4trt.__file__)))
    with tempfile.TemporaryDirectory(prefix="cmx4trt-gui-") as scratch:
        result = os.path.join(scratch, "result.json")
        command = [sys.executable, "-c", _START.format(root=root), *words, f"--result={result}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        code = _wait(process)
        if code == 0:
            return {"return": 0}
        return {"return": code if code > 0 else 128 - code, "error": _sentence(result, code).rstrip(".!?")}


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C reaches both processes: it is the page that ends in order, and this one that waits for it.

    So it does where the terminal was closed; what CM has to say after that would be an error to it.
    """
    if threading.current_thread() is not threading.main_thread():
        return process.wait()
    handlers: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.SIG_IGN,
        signal.SIGTERM: lambda *_: process.terminate(),
    }
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        handlers[signal.SIGHUP] = handlers[signal.SIGTERM]
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        drop_closed_streams()


def _sentence(path: str, code: int) -> str:
    try:
        with open_text(path) as stream:
            return str(json.load(stream)["error"])
    except (OSError, *MALFORMED):
        return f"the page ended with exit status {code or EXIT_UNFORESEEN}; see its output above"
