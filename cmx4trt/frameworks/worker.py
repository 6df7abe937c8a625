"""The process that a script's run.sh starts, seen from the framework: how it finds this package, and what it leaves."""

from __future__ import annotations

import os
import signal
from typing import Any

import cmx4trt
from cmx4trt.base.damage import parse_json
from cmx4trt.base.files import open_text
from cmx4trt.errors import EXIT_INTERRUPTED, EXIT_UNFORESEEN


def root_of_clone() -> str:
    """The folder that makes this package importable for the worker; empty for an installed one, which already is."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(cmx4trt.__file__)))
    return root if os.path.isfile(os.path.join(root, "_cm.yaml")) else ""


def read_result(path: str, status: int) -> dict[str, Any]:
    """What the worker wrote to its result file, or an error that says how it ended; ``status`` as the shell sees it."""
    try:
        with open_text(path) as file:
            result: dict[str, Any] = parse_json(file.read())
        if isinstance(result, dict):
            return result
    except (OSError, ValueError):
        pass
    return {"error": _how_it_ended(status), "exit_code": status or EXIT_UNFORESEEN}


def _how_it_ended(status: int) -> str:
    """One sentence for a worker that could not write its result; ``status`` as the shell sees it (128 + signal)."""
    if status == EXIT_INTERRUPTED:
        return "interrupted"
    if status <= 128:
        return f"the build process ended with exit status {status} and without a result; see its output above"
    number = status - 128
    name = signal.Signals(number).name if number in {s.value for s in signal.Signals} else "unknown"
    hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
    return f"the build process was ended by signal {number} ({name}){hint}; nothing was published"
