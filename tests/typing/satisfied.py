"""Checked by check_vendor_types.sh only: the module as a whole offers what we use of it."""

import tensorrt

from cmx4trt.backends.tensorrt.library import Library

LIBRARY: Library = tensorrt
BUILDER: type[tensorrt.Builder] = tensorrt.Builder
