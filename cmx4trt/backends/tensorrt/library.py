"""The part of the modules ``tensorrt`` (10, 11) and ``tensorrt_rtx`` that we use: one interface, which both implement.

The types are those of ``tensorrt``; a type check against stubs of either library verifies that both match
(tests/typing/check_vendor_types.sh).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tensorrt


class Library(Protocol):
    """A module that builds and runs engines."""

    __version__: str

    @property
    def Builder(self) -> type[tensorrt.Builder]: ...  # noqa: D102, N802
    @property
    def ILogger(self) -> type[tensorrt.ILogger]: ...  # noqa: D102, N802
    @property
    def IProgressMonitor(self) -> type[tensorrt.IProgressMonitor]: ...  # noqa: D102, N802
    @property
    def LayerInformationFormat(self) -> type[tensorrt.LayerInformationFormat]: ...  # noqa: D102, N802
    @property
    def MemoryPoolType(self) -> type[tensorrt.MemoryPoolType]: ...  # noqa: D102, N802
    @property
    def NetworkDefinitionCreationFlag(self) -> type[tensorrt.NetworkDefinitionCreationFlag]: ...  # noqa: D102, N802
    @property
    def OnnxParser(self) -> type[tensorrt.OnnxParser]: ...  # noqa: D102, N802
    @property
    def ProfilingVerbosity(self) -> type[tensorrt.ProfilingVerbosity]: ...  # noqa: D102, N802
    @property
    def Runtime(self) -> type[tensorrt.Runtime]: ...  # noqa: D102, N802
    @property
    def TensorIOMode(self) -> type[tensorrt.TensorIOMode]: ...  # noqa: D102, N802

    def nptype(self, trt_type: tensorrt.DataType) -> type:
        """The numpy dtype of a TensorRT data type."""
