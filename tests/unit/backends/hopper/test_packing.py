"""Orders of weights and constants: permutations, and what a thread of a product ends up with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.backends.hopper import packing

ORDERS = [packing.channel_of_column, packing.register_channels, packing.channel_of_row]


@pytest.mark.parametrize("order", ORDERS)
def test_orders_are_permutations(order: object) -> None:
    assert sorted(order()) == list(range(64))  # type: ignore[operator]


def test_a_thread_owns_sixteen_consecutive_channels() -> None:
    """Columns 8j + 2t + e of thread column t (PTX ISA, wgmma accumulator fragment) hold channels 16t .. 16t + 15 in order."""
    order = packing.channel_of_column()
    for t in range(4):
        owned = [order[8 * j + 2 * t + e] for j in range(8) for e in range(2)]
        assert owned == list(range(16 * t, 16 * t + 16))


def test_an_epilogues_bytes_are_the_next_operand() -> None:
    """Of the A fragment (PTX ISA) a thread gives, for each 32 of K, bytes 4t .. 4t + 3 and 16 + 4t .. 16 + 4t + 3."""
    order = packing.register_channels()
    for t in range(4):
        for h in range(2):
            given_bytes = [order[32 * h + 16 * m + 4 * t + i] for m in range(2) for i in range(4)]
            assert given_bytes == [16 * t + 8 * h + i for i in range(8)]


def test_rows_g_and_g_plus_8_are_neighbours() -> None:
    order = packing.channel_of_row()
    for warp in range(4):
        for g in range(8):
            assert (order[16 * warp + g], order[16 * warp + g + 8]) == (16 * warp + 2 * g, 16 * warp + 2 * g + 1)


@given(st.sampled_from([64, 128, 256]), st.sampled_from([64, 128]), st.integers(0, 2**32 - 1))
def test_a_product_with_packed_weights_is_the_product(outputs: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (outputs, 1, 1, inputs), dtype=np.int8)
    x = rng.integers(0, 256, inputs)
    exact = weights.reshape(outputs, inputs).astype(int) @ x
    columns = packing.matrix(weights).astype(int) @ x
    order = np.add.outer(np.arange(0, outputs, 64), packing.channel_of_column()).reshape(-1)
    np.testing.assert_array_equal(columns, exact[order])
    k_order = np.add.outer(np.arange(0, inputs, 64), packing.register_channels()).reshape(-1)
    np.testing.assert_array_equal(packing.matrix(weights, k_from_registers=True).astype(int) @ x[k_order], exact[order])


def test_the_stems_taps_cover_the_window() -> None:
    """4x4 taps of 2x2 pixels, beginning one pixel before the 7x7 window: the same sums as the plain convolution."""
    rng = np.random.default_rng(1)
    weights = rng.integers(-128, 128, (64, 7, 7, 3), dtype=np.int8)
    image = rng.integers(-128, 128, (8, 8, 3)).astype(int)  # the window and the pixels before it
    exact = np.einsum("nyxc,yxc->n", weights.astype(int), image[1:, 1:])
    units = np.zeros((4, 4, 2, 2, 4), int)
    units[..., :3] = image.reshape(4, 2, 4, 2, 3).transpose(0, 2, 1, 3, 4)
    found = packing.stem_matrix(weights).astype(int) @ units.reshape(-1)
    np.testing.assert_array_equal(found, exact[packing.channel_of_row()])


def test_constants_lie_where_threads_look() -> None:
    """As float4 [group][4 q][2][4 t]: multiplier, then bias, of channels 16t + 4q .. 16t + 4q + 3."""
    multiplier, bias = np.arange(128, dtype=np.float32), np.arange(128, dtype=np.float32) + 1000
    table = packing.constants(multiplier, bias).reshape(-1, 4)
    for group in range(2):
        for q in range(4):
            for t in range(4):
                first = 64 * group + 16 * t + 4 * q
                np.testing.assert_array_equal(table[32 * group + 8 * q + t], multiplier[first : first + 4])
                np.testing.assert_array_equal(table[32 * group + 8 * q + 4 + t], bias[first : first + 4])


def test_pieces_are_aligned_and_added_once() -> None:
    weights = packing.Weights()
    assert weights.add("a", np.ones(3, np.int8)) == 0
    assert weights.add("b", np.ones(300, np.int8)) == 256
    assert weights.add("a", np.ones(3, np.int8)) == 0
    assert len(weights.data()) == 256 + 512
    assert packing.padded_rows(np.ones((3, 2)), 4).shape == (4, 2)
