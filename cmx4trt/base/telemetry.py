"""Libraries that report home are told not to, in this process and in those it starts. Standard library only."""

from __future__ import annotations

import os

SWITCHES = {"ORT_DISABLE_TELEMETRY": "1"}
"""ONNX Runtime (official wheels from 1.32 on): without it a device id and a database of events, with names of the model's nodes,
go to ~/.cache/Microsoft, and to Microsoft. It is read when the library is loaded (Privacy.md in its wheel)."""


def switch_off() -> None:
    """Set the switches in the environment, which processes inherit; what the user has set already stays."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
