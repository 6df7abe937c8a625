"""The hook CM calls; its code is cmx4trt/cm/gui.py of the same copy as this file (a clone or an installed package)."""

import os
import sys

_root = os.path.abspath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", ".."))

sys.path.insert(0, _root)
try:
    from cmx4trt.cm.gui import predeps  # noqa: F401
finally:
    sys.path.remove(_root)
