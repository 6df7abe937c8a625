"""What the image of a container takes from here: this package as a wheel, and the versions beside it. Standard library only.

The Dockerfiles of CM and MLC ask pip for this release by name (base/install.py). Where the name is not on an index, pip finds
the wheel: the folder made here goes into the image as pip's own configuration.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from cmx4trt.base.commands import output_of_module
from cmx4trt.base.install import NAME, lost_origin, requirement
from cmx4trt.errors import OutputError

INSIDE = "/etc/xdg/pip"
"""Where pip looks for the system's configuration, on Debian and in NVIDIA's containers."""
SOURCE = "pip"
"""The folder, beside the Dockerfile."""
_CONFIGURATION = f"[install]\nfind-links = {INSIDE}\nconstraint = {INSIDE}/constraints.txt\n"


def prepare(docker_path: str) -> list[tuple[str, str]]:
    """Fill ``<docker_path>/dockerfiles/pip``, anew; what is in it now. ``docker_path``: absolute, CM's and MLC's --docker_path.

    A copy of the package that came from an index needs no wheel: pip finds that release there. Raises CmxError.
    """
    if origin := lost_origin():
        raise OutputError(
            f"cmx4trt was installed from {origin}, which is no longer there; install it from a wheel or clone that stays"
        )
    folder = os.path.join(docker_path, "dockerfiles", SOURCE)
    try:
        os.makedirs(folder, exist_ok=True)
        for name in _wheels(folder):
            os.remove(os.path.join(folder, name))
        rows = [("release", f"{NAME} from pip's index")]
        if (wanted := requirement()) != NAME:
            _pip("wheel", "--no-deps", f"--wheel-dir={folder}", wanted)
            rows = [("wheel", os.path.join(folder, name)) for name in _wheels(folder)]
        files = {"constraints": ("constraints.txt", _pip("list", "--format=freeze", f"--exclude={NAME}"))}
        for title, (name, text) in {**files, "pip's configuration": ("pip.conf", _CONFIGURATION)}.items():
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
            rows.append((title, path))
    except OSError as error:
        raise OutputError(f"cannot write into {folder} ({error.strerror}); give another folder") from error
    return rows


def _wheels(folder: str) -> Iterable[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith(f"{NAME}-") and name.endswith(".whl"))


def _pip(*words: str) -> str:
    """Standard output of this Python's pip. Raises MissingSoftwareError, OutputError."""
    missing = f"pip is not installed for {sys.executable}; run: {sys.executable} -m ensurepip"
    return output_of_module("pip", *words, shown=f"pip {words[0]}", missing=missing)
