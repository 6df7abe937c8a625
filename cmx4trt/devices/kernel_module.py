"""The version of NVIDIA's driver, as the Linux kernel shows it."""

from __future__ import annotations

VERSION_FILE = "/sys/module/nvidia/version"


def driver_version(path: str = VERSION_FILE) -> str:
    """The content of the kernel's file at ``path``; empty where there is none, as in some containers."""
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
