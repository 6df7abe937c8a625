"""``python -m cmx4trt``: the same as the command ``cmx4trt``."""

from __future__ import annotations

import sys

from cmx4trt.cli import program

sys.exit(program())
