#!/usr/bin/env bash
# Type-checks the code that calls TensorRT and TensorRT-RTX against what these libraries declare:
# - tensorrt: the type stubs of the distribution tensorrt-stubs (TensorRT itself cannot be installed everywhere);
# - tensorrt_rtx: stubs that mypy's stubgen reads off the installed module.
# Both stand in for the name 'tensorrt', which the annotations use.
# Usage: check_vendor_types.sh [FOLDER]; FOLDER holds an unpacked tensorrt-stubs (default: pip downloads it).
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stubs=${1:-$work/download}
[ -d "$stubs" ] || python -m pip install --quiet --no-deps --target "$stubs" 'tensorrt-stubs==10.13.*'

# stub FILE NAME: the stub FILE as module tensorrt in folder NAME, mended:
# parameters called 'in', and one without a default after one with a default, are no Python; that pybind11 takes a tuple
# for Dims, and that Dims can be iterated, is not declared; the two names at the end are in the package around the binding.
stub() {
  mkdir -p "$work/$2/tensorrt"
  sed -E -e 's/\bin: /in_: /' \
    -e '/def add_scale_nd/s/channel_axis: ([A-Za-z_.]+)\)/channel_axis: \1 = ...)/' \
    -e '/def set_shape\(/s/: Dims\b/: Dims | tuple[int, ...]/g' \
    -e 's/^class Dims:/&\n    def __iter__(self) -> typing.Iterator[int]: .../' "$1" >"$work/$2/tensorrt/__init__.pyi"
  printf '__version__: str\ndef nptype(trt_type: DataType) -> type: ...\n__all__ += ["__version__", "nptype"]\n' \
    >>"$work/$2/tensorrt/__init__.pyi"
  # Errors inside the stubs are the library's own business.
  printf '[mypy]\nstrict = True\ndisallow_untyped_calls = False\nwarn_unused_ignores = False\nmypy_path = %s\n[mypy-tensorrt]\nignore_errors = True\n' \
    "$work/$2" >"$work/$2/mypy.ini"
  printf '[mypy-pycuda.*,tensorrt_rtx.*]\nignore_missing_imports = True\n' >>"$work/$2/mypy.ini"
}

stub "$stubs/tensorrt_bindings/tensorrt.pyi" native
python tests/typing/compare_fake.py "$work/native/tensorrt/__init__.pyi"
(cd "$work" && stubgen --quiet -m tensorrt_rtx_bindings.tensorrt_rtx -o generated)
stub "$work/generated/tensorrt_rtx_bindings/tensorrt_rtx.pyi" rtx

for library in native rtx; do
  echo "types of $library"
  mypy --config-file "$work/$library/mypy.ini" --follow-imports=silent --cache-dir "$work/$library/cache" \
    tests/typing/satisfied.py cmx4trt/backends/tensorrt/session.py \
    cmx4trt/backends/tensorrt/{serialize,native,rtx,timing_cache,inspection,library}.py
done
