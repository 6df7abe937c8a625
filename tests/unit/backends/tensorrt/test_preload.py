"""Shared objects that are there before a library is imported."""

from __future__ import annotations

import subprocess
import sys

from cmx4trt.backends.tensorrt.preload import load_shared_objects, shared_objects


def test_the_library_is_there_and_its_package_is_not_imported(tensorrt_rtx: str) -> None:
    program = (
        "import sys; from cmx4trt.backends.tensorrt.preload import load_shared_objects as load; load('tensorrt_rtx_libs'); "
        "print('libtensorrt_rtx.so' in open('/proc/self/maps').read(), [name for name in sys.modules if 'tensorrt_rtx' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "[]"]


def test_what_is_not_installed_has_no_shared_objects() -> None:
    assert list(shared_objects("a_package_that_nobody_has")) == []
    load_shared_objects("a_package_that_nobody_has")
