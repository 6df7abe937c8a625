"""The sliding window of a convolution or pooling, as used by the kernels."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.ir.model import Node


@dataclass(frozen=True, slots=True)
class Window:
    """A square window: ``padding`` rows and columns precede the input, ``size`` is the output's height and width.

    ``symmetric``: the same padding after the input gives the same output.
    """

    kernel: int
    stride: int
    padding: int
    size: tuple[int, int]
    symmetric: bool


def window_of(node: Node, kernel: list[int], size: tuple[int, int]) -> Window | None:
    """The window of an ONNX Conv or MaxPool over an input of ``size``; None if it is not square, or dilated."""
    strides = node.ints("strides", [1, 1])
    if len(kernel) != 2 or len({*kernel}) > 1 or len({*strides}) > 1 or node.ints("dilations", [1, 1]) != [1, 1]:
        return None
    width, stride = kernel[0], strides[0]
    pads = _pads(node, width, stride, size)
    if pads is None or pads[0] != pads[1]:
        return None
    rounding = stride - 1 if node.attributes.get("ceil_mode", 0) else 0
    spans = [extent + pads[i] + pads[i + 2] - width for i, extent in enumerate(size)]
    found = ((spans[0] + rounding) // stride + 1, (spans[1] + rounding) // stride + 1)
    equal = tuple((extent + 2 * pads[0] - width) // stride + 1 for extent in size)
    return Window(width, stride, pads[0], found, found == equal)


def _pads(node: Node, kernel: int, stride: int, size: tuple[int, int]) -> list[int] | None:
    """[top, left, bottom, right], however the node specifies it (ONNX Operators, Conv, auto_pad)."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return node.ints("pads", [0] * 4)
    if auto == "VALID":
        return [0] * 4
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    totals = [max((-(-extent // stride) - 1) * stride + kernel - extent, 0) for extent in size]
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return less + more if auto == "SAME_UPPER" else more + less
