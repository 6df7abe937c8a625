"""How to install more of this package: the one place that decides what to hand to pip. Standard library only.

A copy from the index is asked for by name. A clone, a wheel or a git address is asked for as it was: the name may not be on
the index, or be another version there.
"""

from __future__ import annotations

import json
import os
import shlex

import cmx4trt

NAME = "cmx4trt"


def requirement(extras: str = "") -> str:
    """What pip is to install for these extras, separated by commas."""
    wanted = f"[{extras}]" if extras else ""
    clone = os.path.dirname(os.path.dirname(os.path.realpath(cmx4trt.__file__)))
    if os.path.isfile(os.path.join(clone, "pyproject.toml")):
        return f"{clone}{wanted}"
    origin = _origin()
    if not origin:
        return f"{NAME}{wanted}"
    path = _path_of(origin)
    if origin.startswith("file:") and os.path.exists(path):
        return f"{path}{wanted}"
    return f"{NAME}{wanted} @ {origin}" if not origin.startswith("file:") else f"{NAME}{wanted}"


def lost_origin() -> str:
    """The file or folder that this copy was installed from, if it is gone; else empty."""
    origin = "" if requirement() != NAME else _origin()
    return _path_of(origin)


def release(extras: str) -> str:
    """What pip is to install of this very release, from wherever it finds one: the index, or a folder of wheels."""
    return f"{NAME}[{extras}]=={cmx4trt.__version__}"


def pip_line(extras: str = "") -> str:
    """The command that installs them, as typed in a shell."""
    wanted = requirement(extras)
    editable = "-e " if os.path.isfile(os.path.join(wanted.partition("[")[0], "pyproject.toml")) else ""
    quoted = f"'{wanted}'" if "'" not in wanted else shlex.quote(wanted)
    return f"pip install {editable}{quoted}"


def _path_of(origin: str) -> str:
    from urllib.parse import unquote, urlsplit  # as slow as all else here

    return unquote(urlsplit(origin).path)


def _origin() -> str:
    """The address that pip recorded for a copy that is not from an index (PEP 610)."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow, and only errors ask

    try:
        recorded = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
        vcs = recorded.get("vcs_info", {}).get("vcs")
        return f"{vcs}+{recorded['url']}" if vcs else str(recorded.get("url", ""))
    except (PackageNotFoundError, ValueError, KeyError, AttributeError):
        return ""
