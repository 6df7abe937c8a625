"""``cmx4trt mlc-setup``: make MLC run this package's script, and prove it.

MLC keeps a list of repositories (``$MLC_REPOS/repos.json``, else below ``~/MLC``) and looks into them at every start; the
package holds one. Another copy of it, from an earlier installation, is unregistered first: MLC takes the first of a name.
Standard library only: MLC runs as a command, because one already imported has its index in memory.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import cmx4trt
from cmx4trt.base.commands import output_of_module
from cmx4trt.base.install import pip_line
from cmx4trt.errors import OutputError

_TAGS = "generate,engine,mlperf,inference,nvidia"
_NAME = "generate-nvidia-engine"
_ALIAS = "cmx4trt"
_NEEDED = ("detect,os", "detect,cpu")
"""What every run depends on: scripts of MLCommons' repository."""


def repository() -> str:
    """The folder of this package's MLC repository."""
    folder = os.path.join(os.path.dirname(os.path.realpath(cmx4trt.__file__)), "mlc", "repo")
    if not os.path.isfile(os.path.join(folder, "meta.yaml")):
        raise OutputError(f"{folder} holds no MLC repository; install cmx4trt with pip, or use a complete clone")
    return folder


def register() -> list[tuple[str, str]]:
    """Make the tags select this package's script; the folders that MLC resolves them to.

    Raises MissingSoftwareError without MLC, OutputError where MLC still selects another script.
    """
    folder = repository()
    _forget_others(folder)
    ours = os.path.join(folder, "script", _NAME)
    found = _resolved(_TAGS)
    if ours not in found:
        run_mlc("add", "repo", folder)
        found = _resolved(_TAGS)
    if found != [ours]:
        raise OutputError(
            f"MLC resolves {_TAGS} to {', '.join(found) or 'nothing'}, expected {ours}; remove the other script from MLC"
        )
    rows = [(_NAME, ours)]
    for tags in _NEEDED:
        there = _resolved(tags)
        rows.append((tags, there[0] if there else "nothing; run: mlc pull repo mlcommons@mlperf-automations"))
    return rows


def _forget_others(folder: str) -> None:
    """Take repositories of our name that lie elsewhere, or nowhere any more, off MLC's list; their files stay."""
    home = os.environ.get("MLC_REPOS", "").strip() or os.path.join(os.path.expanduser("~"), "MLC", "repos")
    path = os.path.join(home, "repos.json")
    try:
        with open(path, encoding="utf-8") as file:
            listed = json.load(file)
        kept = [place for place in listed if place == folder or not _is_ours(place)]
        if kept != listed:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(kept, file, indent=2)
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"cannot change MLC's list of repositories {path} ({error}); repair or remove it") from error


def _is_ours(place: str) -> bool:
    return place.endswith(os.path.join(_ALIAS, "mlc", "repo"))


def _resolved(tags: str) -> list[str]:
    """The folders of the scripts that the tags select."""
    lines = run_mlc("find", "script", f"--tags={tags}", "--path_only").splitlines()
    return [line.strip() for line in lines if os.path.isdir(line.strip())]


def run_mlc(*words: str) -> str:
    """Standard output of an MLC command, which writes its log into the folder it runs in: into none of the user's.

    Raises CmxError.
    """
    missing = f"MLCFlow is not installed for {sys.executable}; run: {pip_line('mlc')}"
    with tempfile.TemporaryDirectory(prefix="cmx4trt-mlc-") as scratch:
        return output_of_module("mlc", *words, shown=f"mlc {' '.join(words)}", missing=missing, cwd=scratch)
