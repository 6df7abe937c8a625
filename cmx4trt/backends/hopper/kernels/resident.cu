// Convolution 1x1, stride 1, with resident weights: output[pixels, N] = requantize(input[pixels, C] * weights[N, C] + addend).
// The addend is nothing, a residual, or a projection: a second product over another input, with separate accumulators.
//
// Resident in shared memory for the whole launch: N_BLOCK rows of the weights (all of C, followed by all channels of the projection,
// if any) and their constants. Per warpgroup: a ring of STAGES chunks of the input (then of the projection's input), 64 pixels x CHUNK
// channels each, and with RESIDUAL_STAGES a second ring with pieces of the residual, 64 pixels x 128 channels. Every warpgroup walks
// its own 64-pixel tiles, and its thread 0 refills a slot as soon as the warpgroup has consumed it: no producer warp, no barrier
// between warpgroups, and the epilogue of one warpgroup overlaps with the products and loads of the others.
// Bytes: the input once for each N_BLOCK (from L2 after the first), the output once, the residual once, the weights once per block.
// Barriers: `weights` once; `full[s]` orders the copy into slot s before its use; the named barrier of the warpgroup orders all
// its warps' use of a slot before thread 0 refills it (with fence_async where they read it with ordinary loads).
//
// CHANNELS output channels, N_BLOCK of them per block, in passes of N_PASS; K_CHUNKS chunks of 128 input channels;
// PROJECTION_CHUNKS (0: none; in one pass only); WARPGROUPS; STAGES; RESIDUAL_STAGES (0: none).
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int BLOCKS_N = CHANNELS / N_BLOCK, PASSES = N_BLOCK / N_PASS, PIECES = N_PASS / 64, CHUNK = 128;
constexpr int CHUNKS = K_CHUNKS + PROJECTION_CHUNKS, SLOT = 64 * CHUNK, RESIDUAL_SLOT = 64 * 128;
constexpr int TABLES = PROJECTION_CHUNKS ? 2 : 1;
constexpr int RINGS = STAGES + RESIDUAL_STAGES, RESIDUAL_RING = RESIDUAL_STAGES ? RESIDUAL_STAGES : 1;
static_assert(RESIDUAL_STAGES == 0 || N_PASS == 128, "a piece of the residual has 128 channels");
static_assert(PROJECTION_CHUNKS == 0 || (PASSES == 1 && RESIDUAL_STAGES == 0), "one addend; a projection in one pass");

struct Rings {
  u32 input, residual;            // shared addresses of this warpgroup's rings
  u32 input_full, residual_full;  // and of their barriers
};

struct Inputs {
  const TensorMap *input, *projected;
  int width, height, stride;  // of the output; of the projection
};

// Thread 0 of a warpgroup: load chunk number `count` of its tiles, or nothing after the last one.
DEVICE void load_chunk(const Inputs& from, const Rings& rings, int count, int first_tile, int step, int tiles) {
  const int tile = first_tile + (count / CHUNKS) * step, slot = count % STAGES, k = count % CHUNKS;
  if (tile >= tiles) return;
  barrier_expect(rings.input_full + 8 * slot, SLOT);
  if (PROJECTION_CHUNKS && k >= K_CHUNKS) {
    const int pixel = tile * 64, column = pixel % from.width, row = pixel / from.width % from.height;
    copy_window(rings.input + slot * SLOT, from.projected, rings.input_full + 8 * slot, (k - K_CHUNKS) * CHUNK, column * from.stride,
                row * from.stride, pixel / from.width / from.height, 0, 0);
  } else {
    copy_2d(rings.input + slot * SLOT, from.input, rings.input_full + 8 * slot, k * CHUNK, tile * 64);
  }
}
DEVICE void load_residual(const TensorMap* map, const Rings& rings, int count, int first_tile, int step, int tiles, int channel) {
  const int tile = first_tile + (count / PASSES) * step, slot = count % RESIDUAL_RING;
  if (tile >= tiles) return;
  barrier_expect(rings.residual_full + 8 * slot, RESIDUAL_SLOT);
  copy_2d(rings.residual + slot * RESIDUAL_SLOT, map, rings.residual_full + 8 * slot, channel + (count % PASSES) * 128, tile * 64);
}

extern "C" __global__ void __launch_bounds__(WARPGROUPS * 128, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
                const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap projected,
                const __grid_constant__ TensorMap projection_weights, const int pixels, const int width, const int height,
                const int projection_stride, u8* output, const float4* constants, const float4* projection_constants,
                const float residual_multiplier) {
  extern __shared__ __align__(1024) u8 shared[];
  u8* resident = shared;
  u8* input_rings = resident + CHUNKS * N_BLOCK * CHUNK;
  u8* residual_rings = input_rings + WARPGROUPS * STAGES * SLOT;
  float4* table = (float4*)(residual_rings + WARPGROUPS * RESIDUAL_STAGES * RESIDUAL_SLOT);
  const float4* projection_table = table + N_BLOCK / 2;
  const u32 weights_full = shared_address(table + TABLES * N_BLOCK / 2);
  const int thread = threadIdx.x, group = thread >> 7, in_group = thread & 127, g = (thread & 31) >> 2, t = thread & 3;
  const int n0 = (blockIdx.x % BLOCKS_N) * N_BLOCK, tiles = (pixels + 63) >> 6;
  const int columns = gridDim.x / BLOCKS_N;  // blocks with the same channels
  const int first_tile = blockIdx.x / BLOCKS_N + group * columns, step = columns * WARPGROUPS;
  Rings rings;
  rings.input = shared_address(input_rings) + group * STAGES * SLOT;
  rings.residual = shared_address(residual_rings) + group * RESIDUAL_STAGES * RESIDUAL_SLOT;
  rings.input_full = weights_full + 8 + group * RINGS * 8;
  rings.residual_full = rings.input_full + 8 * STAGES;
  const u32 b = shared_address(resident);

  const Inputs from = {&input, &projected, width, height, projection_stride};
  for (int i = thread; i < N_BLOCK / 2; i += WARPGROUPS * 128) {
    table[i] = constants[n0 / 2 + i];
    if (PROJECTION_CHUNKS) table[N_BLOCK / 2 + i] = projection_constants[n0 / 2 + i];
  }
  if (thread == 0) {
    for (int i = 0; i < 1 + WARPGROUPS * RINGS; i++) barrier_init(weights_full + 8 * i, 1);
    barrier_init_fence();
    barrier_expect(weights_full, CHUNKS * N_BLOCK * CHUNK);
    for (int k = 0; k < CHUNKS; k++)
      for (int n = 0; n < N_BLOCK; n += 256)  // a box has at most 256 rows
        copy_2d(b + (k * N_BLOCK + n) * CHUNK, k < K_CHUNKS ? &weights : &projection_weights, weights_full,
                (k < K_CHUNKS ? k : k - K_CHUNKS) * CHUNK, n0 + n);
  }
  __syncthreads();
  wait_for_predecessor();
  if (in_group == 0) {
    for (int i = 0; i < STAGES; i++) load_chunk(from, rings, i, first_tile, step, tiles);
    for (int i = 0; i < RESIDUAL_STAGES; i++) load_residual(&residual, rings, i, first_tile, step, tiles, n0);
  }
  let_successor_start();
  barrier_wait(weights_full, 0);

  int chunk = 0, piece = 0;
  for (int tile = first_tile; tile < tiles; tile += step) {
    const int row = tile * 64 + (in_group >> 5) * 16 + g;
#pragma unroll 1
    for (int pass = 0; pass < PASSES; pass++) {
      int sums[N_PASS / 2], projection[N_PASS / 2];
      if (PASSES == 1) {  // every chunk is used once: release it immediately
        auto accumulate = [&](int (&into)[N_PASS / 2], int first, int count) {
#pragma unroll 1
          for (int k = 0; k < count; k++, chunk++) {
            const int slot = chunk % STAGES;
            barrier_wait(rings.input_full + 8 * slot, (chunk / STAGES) & 1);
            wgmma_fence();
#pragma unroll
            for (int i = 0; i < CHUNK; i += 32)
              multiply_u8_s8(into, row_descriptor<CHUNK>(rings.input + slot * SLOT + i),
                             row_descriptor<CHUNK>(b + (first + k) * N_BLOCK * CHUNK + i), (k | i) != 0);
            wgmma_commit();
            if (k > 0) {
              wgmma_wait<1>();
              sync_threads(1 + group, 128);
              if (in_group == 0) load_chunk(from, rings, chunk - 1 + STAGES, first_tile, step, tiles);
            }
          }
          wgmma_wait<0>();
          sync_threads(1 + group, 128);
          if (in_group == 0) load_chunk(from, rings, chunk - 1 + STAGES, first_tile, step, tiles);
        };
        accumulate(sums, 0, K_CHUNKS);
        if (PROJECTION_CHUNKS) accumulate(projection, K_CHUNKS, PROJECTION_CHUNKS);
      } else {  // all passes use all chunks: release them after the last one
        if (pass == 0)
          for (int k = 0; k < K_CHUNKS; k++) barrier_wait(rings.input_full + 8 * ((chunk + k) % STAGES), ((chunk + k) / STAGES) & 1);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < K_CHUNKS; k++)
#pragma unroll
          for (int i = 0; i < CHUNK; i += 32)
            multiply_u8_s8(sums, row_descriptor<CHUNK>(rings.input + ((chunk + k) % STAGES) * SLOT + i),
                           row_descriptor<CHUNK>(b + (k * N_BLOCK + pass * N_PASS) * CHUNK + i), (k | i) != 0);
        wgmma_commit();
        wgmma_wait<0>();
        if (pass == PASSES - 1) {
          sync_threads(1 + group, 128);
          if (in_group == 0)
            for (int k = 0; k < K_CHUNKS; k++) load_chunk(from, rings, chunk + k + STAGES, first_tile, step, tiles);
          chunk += K_CHUNKS;
        }
      }
      RowPair added[2];
      if (RESIDUAL_STAGES) {
        const int slot = piece % RESIDUAL_RING, at = (in_group >> 5) * 16 + g;
        barrier_wait(rings.residual_full + 8 * slot, (piece / RESIDUAL_RING) & 1);
        load_added(rings.residual + slot * RESIDUAL_SLOT, at, at + 8, g, t, added);
        fence_async();
        sync_threads(1 + group, 128);
        if (in_group == 0) load_residual(&residual, rings, piece + RESIDUAL_STAGES, first_tile, step, tiles, n0);
        piece++;
      }
      u8* to = output + (size_t)row * CHANNELS + n0 + pass * N_PASS + 16 * t;
#pragma unroll
      for (int q = 0; q < PIECES; q++) {
        const float4* of_piece = table + (pass * PIECES + q) * 32;
        const RowPair rows =
            RESIDUAL_STAGES     ? epilogue_residual(sums + 32 * q, of_piece, t, added[q & 1], residual_multiplier)
            : PROJECTION_CHUNKS ? epilogue_projection(sums + 32 * q, of_piece, t, projection + 32 * q, projection_table + q * 32)
                                : epilogue(sums + 32 * q, of_piece, t);
        if (row < pixels) store_global(to + 64 * q, rows.low);
        if (row + 8 < pixels) store_global(to + 64 * q + 8 * CHANNELS, rows.high);
      }
    }
  }
}
