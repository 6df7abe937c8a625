"""The null backend in the registry of child processes: CMX4TRT_BACKENDS=null_backend, with this folder on PYTHONPATH."""

from cmx4trt.backends.null import NullBackend

BACKENDS = (NullBackend(),)
