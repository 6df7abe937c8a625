"""``cmx4trt cm-setup``: make CM run this package's script, and prove it.

CM remembers where scripts are (``$CM_REPOS/index.json``) and does not look again when pip installs something. The draft
with the same name, in cmx4mlops, then still answers. Steps, each only when the one before was not enough: ask CM; let CM
rebuild its index; link the script into CM's ``local`` repository, which CM searches first. Standard library only: CM
runs as a command, because a CM already imported has its index in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import cmx4trt
from cmx4trt.errors import MissingSoftwareError, OutputError

PLAIN_TAGS = "generate,engine,mlperf,inference,nvidia"
"""The tags that the draft has too: what users type."""
_NAME = "generate-nvidia-engine"
_LINK = "cmx4trt-" + _NAME


def script_folder() -> str:
    """The folder of this package's CM script: of the clone, or inside the installed package."""
    package = os.path.dirname(os.path.realpath(cmx4trt.__file__))
    for folder in (os.path.dirname(package), os.path.join(package, "script", _NAME)):
        if os.path.isfile(os.path.join(folder, "_cm.yaml")):
            return os.path.realpath(folder)
    raise OutputError(f"{package} holds no CM script; install cmx4trt with pip, or use a complete clone")


def register() -> list[tuple[str, str]]:
    """Make the plain tags select this package's script; each step taken, and the folder CM resolved to after it.

    The last row is ours. Raises MissingSoftwareError without CM, OutputError where CM still selects another script.
    """
    ours = script_folder()
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("CM resolves to", lambda: None),
        ("with its index rebuilt", _rebuild_index),
        ("with the script linked into CM's local repository", lambda: _link(ours)),
    )
    rows: list[tuple[str, str]] = []
    for name, step in steps:
        step()
        found = _resolved()
        rows.append((name, found or "nothing"))
        if found and os.path.realpath(found) == ours:
            return rows
    raise OutputError(
        f"CM still resolves {PLAIN_TAGS} to {found or 'nothing'}, expected {ours}; remove the other script from CM"
    )


def _resolved() -> str:
    """The first script that the plain tags select (CM may say more than the folders)."""
    lines = _cm("find", "script", f"--tags={PLAIN_TAGS}").splitlines()
    return next((line.strip() for line in lines if os.path.isdir(line.strip())), "")


def _rebuild_index() -> None:
    _cm("reindex", "repo")


def _link(ours: str) -> None:
    home = os.environ.get("CM_REPOS", "").strip() or os.path.join(os.path.expanduser("~"), "CM")
    link = os.path.join(home, "repos", "local", "script", _LINK)
    try:
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(ours, link)
    except OSError as error:
        raise OutputError(f"could not link {link} to {ours} ({error.strerror}); make its folder writable") from error
    _rebuild_index()


def _cm(*words: str) -> str:
    """Standard output of a CM command; the folder it runs in does not matter to it."""
    done = subprocess.run(
        [sys.executable, "-m", "cmind", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if "No module named cmind" in done.stderr:
        raise MissingSoftwareError(f"CM is not installed for {sys.executable}; run: pip install cmx4trt")
    if done.returncode:
        words_of_cm = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise OutputError(f"'cm {' '.join(words)}' failed: {words_of_cm[-1]}")
    return done.stdout
