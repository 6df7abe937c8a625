// Convolution as a streamed matrix product: weights and input pass through shared memory chunk by chunk.
//
// A block computes 128 output pixels x N_TILE channels; the two blocks of a cluster take neighboring pixels and share every
// weight chunk: each loads half of it for both (multicast). Warpgroup 0 is the producer (one thread issues copies), warpgroups
// 1 and 2 are consumers of 64 pixels each. Persistent: a cluster walks tiles, channels first, so that the input comes from L2.
// Resident: STAGES stages of 128 pixels + N_TILE weight rows, 128 bytes of K each.
// WINDOW: the input comes in im2col mode (kernel x kernel taps, any stride), so no pixel is computed in vain.
// PROJECTION: after C channels of the main branch (one tap, tiled), further chunks of a second input (im2col, 1x1 with a
// stride) go to separate accumulators: a block's projection is never stored.
// Bytes: input once from DRAM and channels / N_TILE times from L2, weights once per pair of blocks, output once.
// Barriers: `full[s]` (this block's copies of stage s), `empty[s]` (16 arrivals: one for each consumer warp of both blocks, since
// a stage's weights are written by both). Waits use default semantics (hopper.cuh, barrier_arrive_at).
//
// N_TILE, STAGES, WINDOW, PROJECTION, LOGITS (float32 logits [images, classes] instead of bytes).
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int ROWS = 128, STAGE = (ROWS + N_TILE) * 128, SUMS = N_TILE / 2;

struct Tile {
  int n0, m0;
};
DEVICE Tile tile_of(int index, int tiles_n, int rank) {
  return {(index % tiles_n) * N_TILE, ((index / tiles_n) * 2 + rank) * ROWS};
}

// The producer's copies of one chunk. Tiles beyond the last pixel start at pixel 0: their results are not stored.
struct Producer {
  const TensorMap *input, *weights;
  u32 stages, full, rank;
  DEVICE void load(int slot, int k, int n0, int m0) const {  // tiled
    start(slot);
    copy_2d(stages + slot * STAGE, input, full + 8 * slot, k * 128, m0);
    load_weights(slot, k, n0);
  }
  DEVICE void load_window(int slot, int k, int n0, int channel, int column, int row, int image, int tap_x, int tap_y) const {
    start(slot);
    copy_window(stages + slot * STAGE, input, full + 8 * slot, channel, column, row, image, tap_x, tap_y);
    load_weights(slot, k, n0);
  }
  DEVICE void start(int slot) const { barrier_expect(full + 8 * slot, STAGE); }
  DEVICE void load_weights(int slot, int k, int n0) const {
    copy_2d_multicast(stages + slot * STAGE + ROWS * 128 + rank * (N_TILE / 2) * 128, weights, full + 8 * slot, k * 128,
                      n0 + rank * (N_TILE / 2), 3);
  }
};

// Consumers: `chunks` chunks into `sums`, releasing each stage one chunk later.
DEVICE int accumulate(int (&sums)[SUMS], int chunks, int count, u32 stages, u32 full, u32 empty, int consumer) {
  const int lane = threadIdx.x & 31;
#pragma unroll 1
  for (int k = 0; k < chunks; k++, count++) {
    const int slot = count % STAGES;
    barrier_wait(full + 8 * slot, (count / STAGES) & 1);
    const u32 a = stages + slot * STAGE + consumer * 64 * 128, b = stages + slot * STAGE + ROWS * 128;
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 128; i += 32) multiply_u8_s8(sums, row_descriptor<128>(a + i), row_descriptor<128>(b + i), (k | i) != 0);
    wgmma_commit();
    if (k > 0) {
      wgmma_wait<1>();
      if (lane < 2) barrier_arrive_at(empty + 8 * ((count - 1) % STAGES), lane);
    }
  }
  wgmma_wait<0>();
  if (lane < 2) barrier_arrive_at(empty + 8 * ((count - 1) % STAGES), lane);
  return count;
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
                const __grid_constant__ TensorMap projected, const __grid_constant__ TensorMap projection_weights, const int pixels,
                const int height, const int width, const int channels, const int stride, const int padding, const int kernel,
                const int outputs, const int chunks, const int projection_chunks, const int projection_stride, const int classes,
                u8* output, const float4* constants, const float4* projection_constants) {
  extern __shared__ __align__(1024) u8 shared[];
  const u32 stages = shared_address(shared), full = stages + STAGES * STAGE, empty = full + 8 * STAGES;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31, g = lane >> 2, t = lane & 3;
  const u32 rank = cluster_rank();
  const int tiles_n = outputs / N_TILE, tiles = tiles_n * ((pixels + 2 * ROWS - 1) / (2 * ROWS));
  const int first = blockIdx.x >> 1, step = gridDim.x >> 1;
  if (thread == 0) {
    for (int i = 0; i < STAGES; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, 16);
    barrier_init_fence();
  }
  sync_cluster();
  wait_for_predecessor();
  let_successor_start();

  if (group == 0) {
    release_registers<40>();
    if (thread == 0) {
      const Producer main = {&input, &weights, stages, full, rank};
      const Producer side = {&projected, &projection_weights, stages, full, rank};
      int count = 0;
      auto next_slot = [&]() {
        const int slot = count % STAGES;
        if (count >= STAGES) barrier_wait(empty + 8 * slot, (count / STAGES - 1) & 1);
        count++;
        return slot;
      };
      for (int index = first; index < tiles; index += step) {
        const Tile tile = tile_of(index, tiles_n, rank);
        const int pixel = tile.m0 < pixels ? tile.m0 : 0;
        const int column = pixel % width, row = pixel / width % height, image = pixel / width / height;
        int channel = 0, tap_x = 0, tap_y = 0;
        for (int k = 0; k < chunks; k++) {
          const int slot = next_slot();
          if (!WINDOW) {
            main.load(slot, k, tile.n0, tile.m0);
            continue;
          }
          main.load_window(slot, k, tile.n0, channel, column * stride - padding, row * stride - padding, image, tap_x, tap_y);
          channel += 128;
          if (channel == channels) {
            channel = 0;
            if (++tap_x == kernel) tap_x = 0, tap_y++;
          }
        }
        if (PROJECTION)
          for (int k = 0; k < projection_chunks; k++)
            side.load_window(next_slot(), k, tile.n0, k * 128, column * projection_stride, row * projection_stride, image, 0, 0);
      }
    }
  } else {
    take_registers<232>();
    int count = 0;
    for (int index = first; index < tiles; index += step) {
      const Tile tile = tile_of(index, tiles_n, rank);
      int sums[SUMS], projection[SUMS];
      count = accumulate(sums, chunks, count, stages, full, empty, group - 1);
      if (PROJECTION) count = accumulate(projection, projection_chunks, count, stages, full, empty, group - 1);
      const int row = tile.m0 + (group - 1) * 64 + ((thread & 127) >> 5) * 16 + g;
#if LOGITS
      float* logits = (float*)output;
#pragma unroll
      for (int i = 0; i < SUMS; i += 8) {
        const int channel = tile.n0 + (i / 32) * 64 + 16 * t + (i % 32) / 8 * 4;
        const Constants c = constants_of(constants + (tile.n0 / 64 + i / 32) * 32, (i % 32) / 8, t);
        const float m[4] = {c.multiplier.x, c.multiplier.y, c.multiplier.z, c.multiplier.w};
        const float b[4] = {c.bias.x, c.bias.y, c.bias.z, c.bias.w};
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int at = i + (e & 1) + (e & 2) * 2;
          if (channel + e >= classes) continue;
          if (row < pixels) logits[(size_t)row * classes + channel + e] = __fmaf_rn((float)sums[at], m[e], b[e]);
          if (row + 8 < pixels) logits[(size_t)(row + 8) * classes + channel + e] = __fmaf_rn((float)sums[at + 2], m[e], b[e]);
        }
      }
#else
      u8* to = output + (size_t)row * outputs + tile.n0 + 16 * t;
#pragma unroll
      for (int q = 0; q < N_TILE / 64; q++) {
        const float4* table = constants + (tile.n0 / 64 + q) * 32;
        RowPair rows;
        if (PROJECTION)
          rows = epilogue_projection(sums + 32 * q, table, t, projection + 32 * q, projection_constants + (tile.n0 / 64 + q) * 32);
        else
          rows = epilogue(sums + 32 * q, table, t);
        if (row < pixels) store_global(to + 64 * q, rows.low);
        if (row + 8 < pixels) store_global(to + 64 * q + (size_t)8 * outputs, rows.high);
      }
#endif
    }
  }
  __syncwarp();
  sync_cluster();  // no block exits while its partner may still signal it or write to it
}
