"""Other Python programs of this environment, run as ``python -m MODULE``. Standard library only."""

from __future__ import annotations

import subprocess
import sys

from cmx4trt.errors import MissingSoftwareError, OutputError


def output_of_module(module: str, *words: str, shown: str, missing: str, cwd: str | None = None) -> str:
    """Standard output of ``python -m module words``, run by this Python with its standard input closed.

    ``shown``: the command as users type it; ``missing``: the sentence if the module is not installed.
    Raises MissingSoftwareError, OutputError.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    if f"No module named {module}" in done.stderr:
        raise MissingSoftwareError(missing)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise OutputError(f"'{shown}' failed: {said[-1]}")
    return done.stdout
