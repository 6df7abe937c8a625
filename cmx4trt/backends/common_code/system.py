"""Asks NVIDIA's code, in its own Python, how it identifies this machine and what it would build with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cmx4trt.backends.common_code.prepare import Tree
from cmx4trt.backends.common_code.run import Log, unknown_system
from cmx4trt.backends.options import BuildOptions
from cmx4trt.errors import MissingSoftwareError, UnsupportedError

_MARK = "cmx4trt-system "
_SECONDS = 300
"""Importing NVIDIA's code takes seconds; with a network file system and TensorRT behind it, minutes."""
UNREGISTERED = "UNREGISTERED"
"""From r5.1 on, the prefix of ids of systems that are not in NVIDIA's list."""
_QUESTION = f"""
import importlib.metadata, importlib.util, json
import code.common.systems.system_list as systems

def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""

detected = systems.DETECTED_SYSTEM
if hasattr(detected, "extras"):  # from r5.0 on; before, MATCHED_SYSTEM says whether the system is known
    system = detected.extras.get("id")
else:
    system = None if systems.MATCHED_SYSTEM is None else detected.get_id()
loadgen = importlib.util.find_spec("mlperf_loadgen") is not None
versions = {{name: version(name) for name in ("tensorrt", "nvmitten")}}
print("\\n{_MARK}" + json.dumps({{"id": system, "loadgen": loadgen, "versions": versions}}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class System:
    """NVIDIA's id of this machine, and the versions of the libraries in its Python."""

    id: str
    versions: Mapping[str, str]


def ask_system(tree: Tree, request: BuildOptions, environment: Mapping[str, str]) -> System:
    """The system as identified by the release. Raises DeviceError for an unknown one, UnsupportedError without a
    configuration."""
    what = f"NVIDIA's code {tree.release.name}"
    answer = _ask(tree, environment, what)
    if tree.release.needs_loadgen and not answer["loadgen"]:
        raise MissingSoftwareError(
            f"{what} needs the Python module mlperf_loadgen, which is missing; "
            'pip install mlcommons-loadgen (cmr "get mlperf inference loadgen")'
        )
    if not answer["id"]:
        raise unknown_system(what)
    system = System(answer["id"], answer["versions"])
    _check_configuration(tree, request, system, what)
    return system


def _ask(tree: Tree, environment: Mapping[str, str], what: str) -> dict[str, Any]:
    python = next((found for name in tree.release.pythons if (found := shutil.which(name))), None)
    if python is None:
        raise MissingSoftwareError(f"{what} needs {tree.release.pythons[-1]}, which is not on the PATH")
    with suppress(OSError):
        os.mkdir(tree.path("build"))  # r5.1 lists it when imported
    try:
        done = subprocess.run(
            [python, "-c", _QUESTION],
            cwd=tree.folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingSoftwareError(
            f"{what} did not start within {_SECONDS} seconds ({python} in {tree.folder})"
        ) from error
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            answer: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return answer
    log = Log()
    for line in done.stderr.splitlines():
        log.add(line)
    raise MissingSoftwareError(f"{what} does not start here: {log.reason()}; install what its README requires")


def _check_configuration(tree: Tree, request: BuildOptions, system: System, what: str) -> None:
    """From r5.1 on, a build without a configuration file ends with a traceback."""
    paths = [
        name.format(system=system.id, scenario=request.scenario, model=request.network)
        for name in tree.release.workload_configs
    ]
    if not paths or any(os.path.isfile(tree.path(path)) for path in paths):
        return
    if system.id.startswith(UNREGISTERED):
        raise unknown_system(what)
    raise UnsupportedError(
        f"{what} has no configuration for {request.network} {request.scenario} on the system {system.id}; "
        f"write {paths[0]}, or use the builder _tensorrt"
    )
