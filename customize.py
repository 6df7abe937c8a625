"""The hooks CM calls; their code is cmx4trt/cm/hooks.py of the same copy as this file (a clone or an installed package)."""

import os
import sys

_here = os.path.dirname(os.path.realpath(__file__))
_in_clone = os.path.isfile(os.path.join(_here, "cmx4trt", "cm", "hooks.py"))
_root = _here if _in_clone else os.path.abspath(os.path.join(_here, "..", "..", ".."))

sys.path.insert(0, _root)
try:
    from cmx4trt.cm.hooks import postprocess, predeps, preprocess  # noqa: F401
finally:
    sys.path.remove(_root)
