"""Generates the header ``wgmma.cuh``: one C++ function for each shape of int8 wgmma that the kernels use.

PTX needs every accumulator register by name, so the functions are generated. PTX ISA, 9.7.15.5 (wgmma.mma_async): D is
[64, N] int32, A [64, 32] from shared memory or from registers, B [N, 32] int8 from shared memory.
"""

from __future__ import annotations

WIDTHS = (64, 112, 128, 256)
"""The values of N that the kernels use; for integers, PTX allows 8, 16, 24, 32 and then multiples of 16 up to 256."""


def header() -> str:
    """The text of ``wgmma.cuh``: overloads of ``multiply``, distinguished by the number of accumulators and by the location of
    A."""
    functions = [
        _function(width, a_type, b_type, registers)
        for width in WIDTHS
        for a_type, b_type in (("u8", "s8"), ("s8", "u8"), ("s8", "s8"))
        for registers in (False, True)
    ]
    return "// Written by wgmma.py.\n#pragma once\n" + "\n".join(functions)


def _function(width: int, a_type: str, b_type: str, registers: bool) -> str:
    """``accumulate`` 0 starts a new sum. ``multiply_u8_s8`` takes A as uint8 and B as int8, and so on."""
    count = width // 2
    sums = ", ".join(f"%{i}" for i in range(count))
    a_operands = 4 if registers else 1
    a_text = "{" + ", ".join(f"%{count + i}" for i in range(4)) + "}" if registers else f"%{count}"
    b_index = count + a_operands
    a_parameter = "const unsigned int (&a)[4]" if registers else "unsigned long long a"
    a_inputs = ", ".join(f'"r"(a[{i}])' for i in range(4)) if registers else '"l"(a)'
    outputs = ", ".join(f'"+r"(sums[{i}])' for i in range(count))
    return (
        f"__device__ __forceinline__ void multiply_{a_type}_{b_type}(int (&sums)[{count}], {a_parameter}, "
        "unsigned long long b, int accumulate) {\n"
        f'  asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{b_index + 1}, 0;\\n"\n'
        f'               "wgmma.mma_async.sync.aligned.m64n{width}k32.s32.{a_type}.{b_type} {{{sums}}}, {a_text}, '
        f'%{b_index}, p;\\n}}"\n'
        f'               : {outputs} : {a_inputs}, "l"(b), "r"(accumulate));\n}}'
    )
