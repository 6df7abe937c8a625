"""Compares the stand-in tests/data/fake_tensorrt with TensorRT's type stubs: compare_fake.py STUB.

Every public method of the stand-in's classes must be there in the stub, with the same parameters in the same order. Names
that only the stand-in has (``Behaviour``, ``profiles``, …) are not methods or not classes of TensorRT.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FAKE = Path(__file__).parents[1] / "data" / "fake_tensorrt" / "tensorrt.py"
ONLY_OURS = {"Behaviour"}


def methods_by_class(path: Path) -> dict[str, dict[str, list[list[str]]]]:
    """Class -> method -> parameter lists (several where overloaded), without ``self``."""
    found: dict[str, dict[str, list[list[str]]]] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            methods = found.setdefault(node.name, {})
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                    methods.setdefault(item.name, []).append([a.arg for a in item.args.args[1:]])
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    methods.setdefault(item.target.id, [[]])
    return found


def differences(stub: Path) -> list[str]:
    real, ours = methods_by_class(stub), methods_by_class(FAKE)
    texts = []
    for name, methods in ours.items():
        if name.startswith("_") or name in ONLY_OURS:
            continue
        if name not in real:
            texts.append(f"the stub has no class {name}")
            continue
        for method, lists in methods.items():
            # ILogger.log is declared in the stub's documentation only.
            declared = real[name].get(method, [["severity", "msg"]] if (name, method) == ("ILogger", "log") else [])
            if not declared:
                texts.append(f"the stub's {name} has no {method}")
            elif lists[0] not in [parameters[: len(lists[0])] for parameters in declared]:
                texts.append(f"{name}.{method} takes {lists[0]}, in the stub {declared}")
    return texts


if __name__ == "__main__":
    found = differences(Path(sys.argv[1]))
    print("\n".join(found) or "the stand-in fits the stub")
    sys.exit(bool(found))
