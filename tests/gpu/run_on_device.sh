#!/usr/bin/env bash
# Runs the GPU tests on a machine with an NVIDIA GPU, without a network.
# WHEELS: folder with wheels of pycuda and what it needs (pytools, platformdirs, mako, markupsafe, siphash24,
#   typing_extensions) and of hatchling (pathspec, pluggy, trove-classifiers), as far as the machine lacks them.
# OUT: folder for the transcript (default: the current one). PYTHON: interpreter (default: python3).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
python=${PYTHON:-python3}
out=${OUT:-$PWD}
site=$(mktemp -d)
export PYTHONPATH=$site PYTHONUNBUFFERED=1
{
  echo "== machine"
  nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader
  nvcc --version | tail -n 2
  "$python" --version
  echo "== install"
  if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-cache-dir --target "$site" "$WHEELS"/*.whl || exit 1
  fi
  "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --no-cache-dir --target "$site" . || exit 1
  "$python" -m pip list --path "$site"
  echo "== tests"
  # From another folder, so that the installed package is tested, not the clone.
  tests=$PWD/tests/gpu
  (cd "$site" && "$python" -m pytest -c "$OLDPWD/pyproject.toml" -p no:cacheprovider -rA -v "$tests")
} 2>&1 | tee "$out/gpu-tests.txt"
status=${PIPESTATUS[0]}
echo "exit status $status" | tee -a "$out/gpu-tests.txt"
exit "$status"
