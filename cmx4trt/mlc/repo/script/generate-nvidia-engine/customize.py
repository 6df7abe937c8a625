"""The hooks MLC calls; their code is cmx4trt/mlc/hooks.py of the same copy as this file (a clone or an installed package)."""

import importlib
import os
import sys

_root = os.path.abspath(os.path.join(os.path.dirname(os.path.realpath(__file__)), *[os.pardir] * 5))

sys.path.insert(0, _root)
try:
    # By name: MLC reads the import statements of this file and has pip install what it cannot import.
    _hooks = importlib.import_module("cmx4trt.mlc.hooks")
finally:
    sys.path.remove(_root)

predeps, preprocess, postprocess = _hooks.predeps, _hooks.preprocess, _hooks.postprocess
