"""Loads a library's shared objects while Python does something else.

An import loads them, too, but holds Python's lock meanwhile: of the 45 ms that importing ``tensorrt_rtx`` takes, 30 are the
dynamic linker's. What is loaded already, the import finds.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from importlib.machinery import PathFinder


def load_shared_objects(package: str) -> None:
    """Load every shared object in the folder of an installed package, which is not imported. Of one that cannot be loaded, or is
    not there, the import itself will tell."""
    linker = ctypes.CDLL(None)  # functions of a CDLL are called without Python's lock
    for path in shared_objects(package):
        linker.dlopen(os.fsencode(path), os.RTLD_NOW)


def shared_objects(package: str) -> Sequence[str]:
    """Paths of the shared objects in the folder of an installed package; none where there is no such package."""
    spec = PathFinder.find_spec(package)
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    return [os.path.join(folder, name) for folder in folders for name in sorted(os.listdir(folder)) if ".so" in name]
