"""Which version of a distribution is installed, found without ``importlib.metadata`` (whose import costs 50 ms)."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection


def installed_version(distributions: Collection[str]) -> str | None:
    """The version in the name of the first ``<distribution>-<version>.dist-info`` folder on ``sys.path``, or None.

    ``distributions`` are normalized with underscores, as in those names (packaging.python.org, "Recording installed
    projects").
    """
    wanted = {name.lower() for name in distributions}
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in sorted(entries):
            if entry.endswith(".dist-info"):
                name, _, version = entry[: -len(".dist-info")].rpartition("-")
                if name.lower().replace("-", "_") in wanted:
                    return version
    return None
