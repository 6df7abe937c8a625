// From integer sums to stored bytes: the arithmetic of reference.py, and which thread has which value.
//
// A warpgroup's accumulators of one 64 x 64 piece: thread (warp w, g = lane / 4, t = lane % 4) has rows 16w+g and 16w+g+8
// and columns 8j+2t, 8j+2t+1 for j = 0..7. Weights are packed so that column 8j+2t+e is channel 16t+2j+e
// (packing.py, CHANNEL_OF_COLUMN): a thread owns 16 consecutive channels of its two rows, one 16-byte store each.
#pragma once
#include "hopper.cuh"

// Four floats to four bytes: round to nearest even, saturate to 0..255, the ReLU (cvt.rni, cvt.pack.sat: 9.7.8).
DEVICE u32 pack_bytes(float a, float b, float c, float d) {
  u32 packed;
  asm("{\n.reg .s32 a, b, c, d;\n.reg .b32 high;\n"
      "cvt.rni.s32.f32 a, %1;\ncvt.rni.s32.f32 b, %2;\ncvt.rni.s32.f32 c, %3;\ncvt.rni.s32.f32 d, %4;\n"
      "cvt.pack.sat.u8.s32.b32 high, d, c, 0;\ncvt.pack.sat.u8.s32.b32 %0, b, a, high;\n}"
      : "=r"(packed)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return packed;
}

// Byte I of `word`, value x, as the float 128 + x / 256: one permutation. The constants of a layer with a residual are
// 256 * multiplier and bias - 32768 * multiplier (packing.py).
template <int I> DEVICE float byte_as_float(u32 word) {
  return __uint_as_float(__byte_perm(word, 0x43000000u, I == 0 ? 0x7404 : I == 1 ? 0x7414 : I == 2 ? 0x7424 : 0x7434));
}

// Bias plus residual for four channels of one row.
DEVICE float4 add_residual(float4 bias, u32 residual, float multiplier) {
  return make_float4(__fmaf_rn(byte_as_float<0>(residual), multiplier, bias.x),
                     __fmaf_rn(byte_as_float<1>(residual), multiplier, bias.y),
                     __fmaf_rn(byte_as_float<2>(residual), multiplier, bias.z),
                     __fmaf_rn(byte_as_float<3>(residual), multiplier, bias.w));
}

// Bias plus projection for four channels of one row; a: first of the sums, in the order of an accumulator (0, 1, 4, 5).
DEVICE float4 add_projection(float4 bias, float4 multiplier, const int* a) {
  return make_float4(__fmaf_rn((float)a[0], multiplier.x, bias.x), __fmaf_rn((float)a[1], multiplier.y, bias.y),
                     __fmaf_rn((float)a[4], multiplier.z, bias.z), __fmaf_rn((float)a[5], multiplier.w, bias.w));
}

// Four sums of one row to four bytes.
DEVICE u32 requantize(const int* a, float4 multiplier, float4 bias) {
  return pack_bytes(__fmaf_rn((float)a[0], multiplier.x, bias.x), __fmaf_rn((float)a[1], multiplier.y, bias.y),
                    __fmaf_rn((float)a[4], multiplier.z, bias.z), __fmaf_rn((float)a[5], multiplier.w, bias.w));
}

// Constants of 64 channels: for thread column t and quarter q, multiplier and bias of channels 16t+4q .. 16t+4q+3, as
// float4 [4 q][2][4 t] (packing.py, epilogue_constants).
struct Constants {
  float4 multiplier, bias;
};
DEVICE Constants constants_of(const float4* table, int q, int t) {
  return {table[8 * q + t], table[8 * q + 4 + t]};
}

// Two rows of 16 channels each: `low` is row 16w+g, `high` row 16w+g+8.
struct RowPair {
  uint4 low, high;
};
DEVICE void set_quarter(RowPair& rows, int q, u32 low, u32 high) {
  if (q == 0) rows.low.x = low, rows.high.x = high;
  if (q == 1) rows.low.y = low, rows.high.y = high;
  if (q == 2) rows.low.z = low, rows.high.z = high;
  if (q == 3) rows.low.w = low, rows.high.w = high;
}
DEVICE u32 quarter(const uint4& v, int q) { return q == 0 ? v.x : q == 1 ? v.y : q == 2 ? v.z : v.w; }

// The 32 accumulators of a 64 x 64 piece -> bytes.
DEVICE RowPair epilogue(const int* sums, const float4* table, int t) {
  RowPair rows;
#pragma unroll
  for (int q = 0; q < 4; q++) {
    const Constants c = constants_of(table, q, t);
    set_quarter(rows, q, requantize(sums + 8 * q, c.multiplier, c.bias), requantize(sums + 8 * q + 2, c.multiplier, c.bias));
  }
  return rows;
}
// The same with a residual; `multiplier` is 256 times the residual's.
DEVICE RowPair epilogue_residual(const int* sums, const float4* table, int t, const RowPair& residual, float multiplier) {
  RowPair rows;
#pragma unroll
  for (int q = 0; q < 4; q++) {
    const Constants c = constants_of(table, q, t);
    set_quarter(rows, q,
                requantize(sums + 8 * q, c.multiplier, add_residual(c.bias, quarter(residual.low, q), multiplier)),
                requantize(sums + 8 * q + 2, c.multiplier, add_residual(c.bias, quarter(residual.high, q), multiplier)));
  }
  return rows;
}
// The same with a projection's sums; `projection_table` has its multipliers in the same layout (its biases are unused).
DEVICE RowPair epilogue_projection(const int* sums, const float4* table, int t, const int* projection,
                                   const float4* projection_table) {
  RowPair rows;
#pragma unroll
  for (int q = 0; q < 4; q++) {
    const Constants c = constants_of(table, q, t);
    const float4 m = projection_table[8 * q + t];
    set_quarter(rows, q, requantize(sums + 8 * q, c.multiplier, add_projection(c.bias, m, projection + 8 * q)),
                requantize(sums + 8 * q + 2, c.multiplier, add_projection(c.bias, m, projection + 8 * q + 2)));
  }
  return rows;
}

// Bytes of two rows and 128 channels from a tile of 128-byte rows with a 128-byte swizzle (16-byte unit i of row r is at unit
// i xor (r mod 8)): the addends of a thread's 16 channels in both 64-channel pieces. `low` and `high` are the rows' indices in the
// tile at `tile`. Neighboring g take the pieces in opposite order, so that eight lanes read all eight units.
DEVICE void load_added(u32 tile, int low, int high, int g, int t, RowPair (&added)[2]) {
  const int first_low = (low >> 2 ^ g) & 1, first_high = (high >> 2 ^ g) & 1;
  const u32 at_low = tile + low * 128, at_high = tile + high * 128;
  const uint4 a = load_shared(at_low + (((4 * first_low + t) ^ (low & 7)) << 4));
  const uint4 b = load_shared(at_low + (((4 * (first_low ^ 1) + t) ^ (low & 7)) << 4));
  const uint4 c = load_shared(at_high + (((4 * first_high + t) ^ (high & 7)) << 4));
  const uint4 d = load_shared(at_high + (((4 * (first_high ^ 1) + t) ^ (high & 7)) << 4));
  added[0] = {first_low ? b : a, first_high ? d : c};
  added[1] = {first_low ? a : b, first_high ? c : d};
}
