"""``cmx4trt cm-setup``: make CM run this package's scripts, and prove it.

CM remembers where scripts are (``$CM_REPOS/index.json``) and does not look again when pip installs something. The draft
with the same name, in cmx4mlops, then still answers. Steps, each only when the one before was not enough: ask CM; let CM
rebuild its index; link the scripts into CM's ``local`` repository, which CM searches first. Standard library only: CM
runs as a command, because a CM already imported has its index in memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

import cmx4trt
from cmx4trt.base.commands import output_of_module
from cmx4trt.base.install import pip_line
from cmx4trt.errors import OutputError

PLAIN_TAGS = "generate,engine,mlperf,inference,nvidia"
"""The tags that the draft has too: what users type."""
_ENGINE, _GUI = "generate-nvidia-engine", "gui"
_TAGS = {_ENGINE: PLAIN_TAGS, _GUI: "cm,gui"}
"""Our scripts, and what users type for them; those of the same name in cmx4mlops do not parse."""


def script_folder(name: str = _ENGINE) -> str:
    """The folder of one of this package's CM scripts: of the clone, or inside the installed package."""
    package = os.path.dirname(os.path.realpath(cmx4trt.__file__))
    inside = os.path.join(package, "script", name)
    for folder in (os.path.dirname(package), inside) if name == _ENGINE else (inside,):
        if os.path.isfile(os.path.join(folder, "_cm.yaml")):
            return os.path.realpath(folder)
    raise OutputError(f"{package} holds no CM script; install cmx4trt with pip, or use a complete clone")


def register() -> list[tuple[str, str]]:
    """Make the plain tags select this package's scripts; for each step taken, the folders CM resolved to after it.

    Raises MissingSoftwareError without CM, OutputError where CM still selects another script.
    """
    ours = {name: script_folder(name) for name in _TAGS}
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("", lambda: None),
        (" with CM's index rebuilt", _rebuild_index),
        (" linked into CM's local repository", lambda: _link(ours)),
    )
    rows: list[tuple[str, str]] = []
    for step, act in steps:
        act()
        found = {name: _resolved(tags) for name, tags in _TAGS.items()}
        rows += [(f"{name}{step}", folder or "nothing") for name, folder in found.items()]
        wrong = [name for name, folder in found.items() if not folder or os.path.realpath(folder) != ours[name]]
        if not wrong:
            return rows
    raise OutputError(
        f"CM still resolves {_TAGS[wrong[0]]} to {found[wrong[0]] or 'nothing'}, expected {ours[wrong[0]]}; "
        "remove the other script from CM"
    )


def _resolved(tags: str) -> str:
    """The first script that the tags select (CM may say more than the folders)."""
    lines = run_cm("find", "script", f"--tags={tags}").splitlines()
    return next((line.strip() for line in lines if os.path.isdir(line.strip())), "")


def _rebuild_index() -> None:
    run_cm("reindex", "repo")


def _link(ours: Mapping[str, str]) -> None:
    home = os.environ.get("CM_REPOS", "").strip() or os.path.join(os.path.expanduser("~"), "CM")
    for name, folder in ours.items():
        link = os.path.join(home, "repos", "local", "script", f"cmx4trt-{name}")
        try:
            os.makedirs(os.path.dirname(link), exist_ok=True)
            if os.path.islink(link):
                os.unlink(link)
            os.symlink(folder, link)
        except OSError as error:
            raise OutputError(
                f"could not link {link} to {folder} ({error.strerror}); make its folder writable"
            ) from error
    _rebuild_index()


def run_cm(*words: str) -> str:
    """Standard output of a CM command; the folder it runs in does not matter to it. Raises CmxError."""
    missing = f"CM is not installed for {sys.executable}; run: {pip_line('cm')}"
    return output_of_module("cmind", *words, shown=f"cm {' '.join(words)}", missing=missing)
