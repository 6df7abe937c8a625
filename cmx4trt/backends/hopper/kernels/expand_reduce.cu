// A block's expansion 1x1 (128 -> 512) with residual and ReLU, and the next block's reduction 1x1 (512 -> 128), as one kernel.
//
// The wide activation is written once and not read again for the reduction: packed to bytes, accumulators are the A operand of
// the next product, whose K dimension follows the accumulators' order (packing.py, REGISTER_CHANNELS).
// Resident in shared memory: both weights (64 KB each) and all constants. Per warpgroup: STAGES tiles of the input (64 pixels x 128
// channels) and RESIDUAL_STAGES pieces of the residual (64 pixels x 128 channels).
// Bytes: input, residual and both outputs once.
// Barriers: as in resident.cu.
//
// WARPGROUPS, STAGES, RESIDUAL_STAGES.
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int NARROW = 128, WIDE = 512, SLOT = 64 * 128, PIECES = WIDE / 128;

extern "C" __global__ void __launch_bounds__(WARPGROUPS * 128, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap expand,
                const __grid_constant__ TensorMap reduce, const __grid_constant__ TensorMap residual, const int pixels, u8* wide,
                u8* narrow, const float4* expand_constants, const float4* reduce_constants, const float residual_multiplier) {
  extern __shared__ __align__(1024) u8 shared[];
  u8* inputs = shared + 2 * NARROW * WIDE;
  u8* residuals = inputs + WARPGROUPS * STAGES * SLOT;
  float4* table = (float4*)(residuals + WARPGROUPS * RESIDUAL_STAGES * SLOT);
  float4* reduce_table = table + WIDE / 2;
  const int thread = threadIdx.x, group = thread >> 7, in_group = thread & 127, g = (thread & 31) >> 2, t = thread & 3;
  const u32 weights_full = shared_address(reduce_table + NARROW / 2);
  const u32 input_full = weights_full + 8 + group * (STAGES + RESIDUAL_STAGES) * 8, residual_full = input_full + 8 * STAGES;
  const u32 b_expand = shared_address(shared), b_reduce = b_expand + NARROW * WIDE;
  const u32 a = shared_address(inputs) + group * STAGES * SLOT, added = shared_address(residuals) + group * RESIDUAL_STAGES * SLOT;
  for (int i = thread; i < WIDE / 2; i += WARPGROUPS * 128) table[i] = expand_constants[i];
  for (int i = thread; i < NARROW / 2; i += WARPGROUPS * 128) reduce_table[i] = reduce_constants[i];
  if (thread == 0) {
    for (int i = 0; i < 1 + WARPGROUPS * (STAGES + RESIDUAL_STAGES); i++) barrier_init(weights_full + 8 * i, 1);
    barrier_init_fence();
    barrier_expect(weights_full, 2 * NARROW * WIDE);
    for (int n = 0; n < WIDE; n += 256) copy_2d(b_expand + n * 128, &expand, weights_full, 0, n);
    for (int k = 0; k < WIDE; k += 128) copy_2d(b_reduce + k * 128, &reduce, weights_full, k, 0);
  }
  __syncthreads();
  wait_for_predecessor();

  const int tiles = (pixels + 63) >> 6, step = gridDim.x * WARPGROUPS, first = blockIdx.x + group * gridDim.x;
  auto load = [&](int count) {
    const int tile = first + count * step, slot = count % STAGES;
    if (tile >= tiles) return;
    barrier_expect(input_full + 8 * slot, SLOT);
    copy_2d(a + slot * SLOT, &input, input_full + 8 * slot, 0, tile * 64);
  };
  auto load_residual = [&](int count) {
    const int tile = first + count / PIECES * step, slot = count % RESIDUAL_STAGES;
    if (tile >= tiles) return;
    barrier_expect(residual_full + 8 * slot, SLOT);
    copy_2d(added + slot * SLOT, &residual, residual_full + 8 * slot, count % PIECES * 128, tile * 64);
  };
  if (in_group == 0) {
    for (int i = 0; i < STAGES; i++) load(i);
    for (int i = 0; i < RESIDUAL_STAGES; i++) load_residual(i);
  }
  let_successor_start();
  barrier_wait(weights_full, 0);

  int count = 0;
  for (int tile = first; tile < tiles; tile += step, count++) {
    const int row = tile * 64 + (in_group >> 5) * 16 + g, slot = count % STAGES;
    barrier_wait(input_full + 8 * slot, (count / STAGES) & 1);
    int reduced[NARROW / 2];
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
      int sums[64];
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < NARROW; i += 32)
        multiply_u8_s8(sums, row_descriptor<128>(a + slot * SLOT + i), row_descriptor<128>(b_expand + piece * 128 * 128 + i), i != 0);
      wgmma_commit();
      const int residual_count = count * PIECES + piece, residual_slot = residual_count % RESIDUAL_STAGES;
      barrier_wait(residual_full + 8 * residual_slot, (residual_count / RESIDUAL_STAGES) & 1);
      RowPair plus[2];
      const int at = (in_group >> 5) * 16 + g;
      load_added(added + residual_slot * SLOT, at, at + 8, g, t, plus);
      wgmma_wait<0>();
      fence_async();
      sync_threads(1 + group, 128);
      if (in_group == 0) {
        load_residual(residual_count + RESIDUAL_STAGES);
        if (piece == PIECES - 1) load(count + STAGES);
      }
      u32 next[4][4];  // the A operand of four products of the reduction
#pragma unroll
      for (int q = 0; q < 2; q++) {
        const RowPair rows = epilogue_residual(sums + 32 * q, table + (piece * 2 + q) * 32, t, plus[q], residual_multiplier);
        u8* to = wide + (size_t)row * WIDE + piece * 128 + 64 * q + 16 * t;
        if (row < pixels) store_global(to, rows.low);
        if (row + 8 < pixels) store_global(to + 8 * WIDE, rows.high);
        next[2 * q][0] = rows.low.x, next[2 * q][1] = rows.high.x, next[2 * q][2] = rows.low.y, next[2 * q][3] = rows.high.y;
        next[2 * q + 1][0] = rows.low.z, next[2 * q + 1][1] = rows.high.z;
        next[2 * q + 1][2] = rows.low.w, next[2 * q + 1][3] = rows.high.w;
      }
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; i++)
        multiply_u8_s8(reduced, next[i], row_descriptor<128>(b_reduce + piece * 128 * 128 + i * 32), (piece | i) != 0);
      wgmma_commit();
      wgmma_wait<0>();
    }
    u8* to = narrow + (size_t)row * NARROW + 16 * t;
#pragma unroll
    for (int q = 0; q < 2; q++) {
      const RowPair rows = epilogue(reduced + 32 * q, reduce_table + q * 32, t);
      if (row < pixels) store_global(to + 64 * q, rows.low);
      if (row + 8 < pixels) store_global(to + 8 * NARROW + 64 * q, rows.high);
    }
  }
}
