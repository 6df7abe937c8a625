"""What an engine does on the GPU, as data: kernels, buffers, and launches for every range of batch sizes.

Everything that depends on the batch is an ``Amount``; everything that depends on addresses is a ``Place``. Both become numbers
only after loading, so a plan can be written, read and checked without a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Amount:
    """An integer that scales with the batch: ``per_image * batch + constant``."""

    per_image: int
    constant: int = 0

    def at(self, batch: int) -> int:
        """The number for one batch size."""
        return self.per_image * batch + self.constant


@dataclass(frozen=True, slots=True)
class Place:
    """An address: ``offset`` bytes into a buffer of the arena, the weights, or an input or output of the engine.

    ``space`` is "buffer", "weights", "input" or "output"; ``name`` identifies it (empty for the weights).
    """

    space: str
    name: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class TiledMap:
    """Recipe of a tiled CUtensorMap over uint8 elements (CUDA driver API, cuTensorMapEncodeTiled).

    ``extents`` are the tensor's, innermost first; ``strides`` in bytes for all but the innermost; ``box`` what one copy moves;
    ``swizzle`` 0, 32, 64 or 128 bytes. Elements out of bounds read as zero.
    """

    place: Place
    extents: tuple[Amount, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int


@dataclass(frozen=True, slots=True)
class WindowMap:
    """Recipe of an im2col CUtensorMap over [N, H, W, C] uint8 (CUDA driver API, cuTensorMapEncodeIm2col).

    The window's corners follow from ``kernel``, ``padding`` and ``stride``: lower (-padding, -padding), upper
    (padding - (kernel - 1), …). One copy moves ``pixels`` output pixels of ``channels_per_pixel`` channels at one tap.
    """

    place: Place
    images: Amount
    height: int
    width: int
    channels: int
    kernel: int
    padding: int
    stride: int
    channels_per_pixel: int
    pixels: int
    swizzle: int


@dataclass(frozen=True, slots=True)
class Float:
    """A float32 argument."""

    value: float


Argument = Amount | Place | TiledMap | WindowMap | Float
"""A kernel's arguments in order: int32, pointer, CUtensorMap by value (twice), float32."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The number of blocks of a launch.

    ``blocks`` exactly; or, if that is None, ``per_multiprocessor`` for each SM of the GPU, rounded down to
    ``multiple_of`` (a persistent kernel); never more than ``most`` (rounded up to ``multiple_of``) if that is given.
    """

    blocks: Amount | None = None
    per_multiprocessor: int = 1
    multiple_of: int = 1
    most: Amount | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """One compiled instance of a kernel family: ``source`` in ``kernels/`` with its compile-time constants."""

    name: str
    source: str
    constants: dict[str, int]
    """Macro -> value. The instance's symbol is ``name``, which the source takes from the macro KERNEL_NAME."""
    threads: int
    shared_bytes: int
    """Dynamic shared memory in bytes."""
    cluster: int = 1
    """Blocks per cluster."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch."""

    kernel: str
    grid: Grid
    arguments: tuple[Argument, ...]
    operations: tuple[str, ...]
    """Names of the operations that it computes, for checks and reports."""
    reads: tuple[str, ...]
    """Buffers and inputs that it reads; the memory plan is derived from these and from ``writes``."""
    writes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Device memory for one activation, ``offset`` bytes into the arena, which is planned for the largest batch.

    It includes ``before`` and ``after`` bytes around it, which are zero (kernels may read them).
    """

    name: str
    bytes_per_image: int
    before: int = 0
    after: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """The launches for batches ``first`` to ``last``, in order on one stream."""

    first: int
    last: int
    launches: tuple[Launch, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole engine without its bytes (cubins, weights)."""

    max_batch: int
    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    programs: tuple[Program, ...]
    arena_bytes: int
    inputs: dict[str, dict[str, object]] = field(default_factory=dict)
    """name -> {"dtype", "shape" (per image), "scale" (int8 inputs)}."""
    outputs: dict[str, dict[str, object]] = field(default_factory=dict)

    def program(self, batch: int) -> Program:
        """The program for a batch size between 1 and ``max_batch``."""
        return next(program for program in self.programs if program.first <= batch <= program.last)
