"""Which state of NVIDIA's code an engine comes from: commit, and content of everything used in a build."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator

from cmx4trt.base.files import open_file

_SHARED_FOLDERS = ("code/common", "code/actionhandler", "code/fields", "code/ops", "configs", "build/plugins")
_SKIPPED_FOLDERS = {"__pycache__"}
_SUFFIXES = (".py", ".json", ".cache", ".so", ".yaml", ".yml", ".txt")


def commit_of(folder: str) -> str:
    """The checked-out commit of the repository around ``folder``; 'unknown' outside one, or without git."""
    command = ["git", "-C", folder, "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def digest_of_tree(folder: str, network: str) -> str:
    """SHA-256 over paths and bytes of the sources, configurations and plugins that shape an engine of ``network``.

    People patch these trees; the commit alone would not reveal that.
    """
    digest = hashlib.sha256()
    for path in sorted(_files(folder, (*_SHARED_FOLDERS, f"code/{network}"))):
        with open_file(os.path.join(folder, path)) as stream:
            content = stream.read()
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _files(folder: str, parts: tuple[str, ...]) -> Iterator[str]:
    yield from (name for name in os.listdir(folder) if name.startswith("Makefile") or name == "VERSION")
    for part in parts:
        for parent, folders, names in os.walk(os.path.join(folder, part)):
            folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
            for name in names:
                if name.endswith(_SUFFIXES):
                    yield os.path.relpath(os.path.join(parent, name), folder)
