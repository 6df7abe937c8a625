// A whole bottleneck block of stage 2 (56x56): 1x1 to 64, 3x3, 1x1 to 256, addend, as one persistent kernel.
//
// INPUT_CHANNELS = 256: the addend is the block's input (residual). INPUT_CHANNELS = 64: the first block, whose addend is a 1x1
// projection of the input with accumulators of its own. A tile is 8x8 output pixels (56 = 7 * 8) and belongs to one warpgroup:
//   reduce   10x10 pixels of the input (halo included) as two products of 64 rows -> bytes in shared memory, zeros outside
//   middle   nine taps, each a window descriptor into those bytes; the result stays in registers as the A operand of
//   expand   which adds the input tile, still in shared memory (or its projection), and stores 256 channels.
// Resident in shared memory: all weights (68 KB; with projection 80 KB), constants of the first two convolutions; STAGES input
// tiles of 100 pixels, shared by the block's warpgroups; for each warpgroup its reduced tile: four planes of 16 channels, so that
// eight neighbouring pixels of a tap are one core matrix (plane pitch = 32 mod 128 bytes keeps the stores free of bank conflicts).
// Bytes: input once (halos from L2), output once.
// Barriers: `weights_full` once; `full[s]` orders the copy of a tile before its use. Tile j uses stage j % STAGES and warpgroup
// j % WARPGROUPS, and the warpgroup that finishes it loads tile j + STAGES. Since successive users of a stage differ, parity
// alone is ambiguous (a load two phases old may still be in flight): `loading[s]` says which tile the stage was last told to load.
// The named barrier of a warpgroup orders its stores of the reduced tile before the middle product, and everything before a refill.
//
// INPUT_CHANNELS, WARPGROUPS, STAGES.
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr bool PROJECTION = INPUT_CHANNELS == 64;
constexpr int SIDE = 56, ACROSS = SIDE / 8, HALO = 10, NARROW = 64, WIDE = 256;
constexpr int CHUNK = PROJECTION ? 64 : 128, CHUNKS = INPUT_CHANNELS / CHUNK;      // channels of the input loaded as one box
constexpr int CHUNK_BYTES = (HALO * HALO * CHUNK + 1023) / 1024 * 1024, STAGE = CHUNKS * CHUNK_BYTES;
constexpr int READ_PAST = PROJECTION ? 4096 : 0;  // the second product of `reduce` reads rows 100..127
constexpr int PLANE = 1696, REDUCED = 4 * PLANE, PASS = PROJECTION ? 64 : 128;
constexpr int REDUCE_BYTES = NARROW * INPUT_CHANNELS, MIDDLE_BYTES = 9 * NARROW * NARROW, EXPAND_BYTES = WIDE * NARROW;
constexpr int WEIGHT_BYTES = REDUCE_BYTES + MIDDLE_BYTES + EXPAND_BYTES * (PROJECTION ? 2 : 1);
static_assert(PLANE % 128 == 32 && PLANE >= HALO * HALO * 16, "planes hold the halo tile and spread over the banks");

extern "C" __global__ void __launch_bounds__(WARPGROUPS * 128, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap reduce,
                const __grid_constant__ TensorMap middle, const __grid_constant__ TensorMap expand,
                const __grid_constant__ TensorMap project, const int images, u8* output, const float4* reduce_constants,
                const float4* middle_constants, const float4* expand_constants, const float4* projection_constants,
                const float residual_multiplier) {
  extern __shared__ __align__(1024) u8 shared[];
  u8* tiles_at = shared + WEIGHT_BYTES;
  u8* reduced_at = tiles_at + STAGES * STAGE + READ_PAST;
  float4* reduce_table = (float4*)(reduced_at + WARPGROUPS * REDUCED);
  float4* middle_table = reduce_table + 32;
  const u32 weights_full = shared_address(middle_table + 32), full = weights_full + 8, loading = full + 8 * STAGES;
  const u32 b_reduce = shared_address(shared), b_middle = b_reduce + REDUCE_BYTES, b_expand = b_middle + MIDDLE_BYTES;
  const u32 b_project = b_expand + EXPAND_BYTES, stages = shared_address(tiles_at);
  const int thread = threadIdx.x, group = thread >> 7, in_group = thread & 127, warp = in_group >> 5;
  const int g = (thread & 31) >> 2, t = thread & 3;
  const u32 reduced = shared_address(reduced_at) + group * REDUCED;
  const int tiles = images * ACROSS * ACROSS;

  if (thread < 32) reduce_table[thread] = reduce_constants[thread], middle_table[thread] = middle_constants[thread];
  if (thread == 0) {
    for (int i = 0; i < 1 + STAGES; i++) barrier_init(weights_full + 8 * i, 1);
    for (int i = 0; i < STAGES; i++) store_release(loading + 4 * i, -1);
    barrier_init_fence();
  }
  __syncthreads();
  auto load = [&](int j) {  // tile j of this block
    const int tile = blockIdx.x + j * gridDim.x;
    if (tile >= tiles) return;
    const int stage = j % STAGES, image = tile / (ACROSS * ACROSS), y = tile / ACROSS % ACROSS, x = tile % ACROSS;
    barrier_expect(full + 8 * stage, HALO * HALO * INPUT_CHANNELS);
    for (int k = 0; k < CHUNKS; k++)
      copy_4d(stages + stage * STAGE + k * CHUNK_BYTES, &input, full + 8 * stage, k * CHUNK, x * 8 - 1, y * 8 - 1, image);
    store_release(loading + 4 * stage, j);
  };
  if (thread == 0) {
    barrier_expect(weights_full, WEIGHT_BYTES);
    for (int k = 0; k < CHUNKS; k++) copy_2d(b_reduce + k * NARROW * CHUNK, &reduce, weights_full, k * CHUNK, 0);
    for (int tap = 0; tap < 9; tap++) copy_2d(b_middle + tap * NARROW * NARROW, &middle, weights_full, tap * NARROW, 0);
    copy_2d(b_expand, &expand, weights_full, 0, 0);
    if (PROJECTION) copy_2d(b_project, &project, weights_full, 0, 0);
  }
  wait_for_predecessor();
  if (thread == 0)
    for (int j = 0; j < STAGES; j++) load(j);
  let_successor_start();
  barrier_wait(weights_full, 0);

  int halo_y[4], halo_x[4];  // where this thread's four rows of `reduce` lie in the halo tile
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int pixel = (i >> 1) * 64 + warp * 16 + g + (i & 1) * 8;
    halo_y[i] = pixel / HALO, halo_x[i] = pixel % HALO;
  }
  for (int j = group;; j += WARPGROUPS) {
    const int tile = blockIdx.x + j * gridDim.x;
    if (tile >= tiles) break;
    const int stage = j % STAGES, image = tile / (ACROSS * ACROSS), y = tile / ACROSS % ACROSS, x = tile % ACROSS;
    const u32 from = stages + stage * STAGE;
    while (load_acquire(loading + 4 * stage) != j) {
    }
    barrier_wait(full + 8 * stage, (j / STAGES) & 1);
    {
      int first[32], second[32];
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < INPUT_CHANNELS; k += 32)
        multiply_u8_s8(first, row_descriptor<CHUNK>(from + k / CHUNK * CHUNK_BYTES + k % CHUNK),
                       row_descriptor<CHUNK>(b_reduce + k / CHUNK * NARROW * CHUNK + k % CHUNK), k != 0);
      wgmma_commit();
#pragma unroll
      for (int k = 0; k < INPUT_CHANNELS; k += 32)
        multiply_u8_s8(second, row_descriptor<CHUNK>(from + 64 * CHUNK + k / CHUNK * CHUNK_BYTES + k % CHUNK),
                       row_descriptor<CHUNK>(b_reduce + k / CHUNK * NARROW * CHUNK + k % CHUNK), k != 0);
      wgmma_commit();
      auto put = [&](int i, uint4 bytes) {
        const int row = y * 8 - 1 + halo_y[i], column = x * 8 - 1 + halo_x[i];
        if ((unsigned)row >= SIDE || (unsigned)column >= SIDE) bytes = make_uint4(0, 0, 0, 0);
        if (halo_y[i] < HALO) store_shared(reduced + t * PLANE + (halo_y[i] * HALO + halo_x[i]) * 16, bytes);
      };
      Constants c[4];
#pragma unroll
      for (int q = 0; q < 4; q++) c[q] = constants_of(reduce_table, q, t);
      auto finish = [&](const int* sums, int i) {
        RowPair rows;
#pragma unroll
        for (int q = 0; q < 4; q++)
          set_quarter(rows, q, requantize(sums + 8 * q, c[q].multiplier, c[q].bias),
                      requantize(sums + 8 * q + 2, c[q].multiplier, c[q].bias));
        put(i, rows.low), put(i + 1, rows.high);
      };
      wgmma_wait<1>();
      finish(first, 0);
      wgmma_wait<0>();
      finish(second, 2);
    }
    fence_async();
    sync_threads(1 + group, 128);
    u32 next[2][4];  // the A operand of `expand`
    {
      int sums[32];
      wgmma_fence();
#pragma unroll
      for (int tap = 0; tap < 9; tap++)
#pragma unroll
        for (int k = 0; k < 2; k++)
          multiply_u8_s8(sums,
                         matrix_descriptor(reduced + (tap / 3 * HALO + tap % 3) * 16 + 2 * k * PLANE, PLANE, HALO * 16, SWIZZLE_NONE),
                         row_descriptor<64>(b_middle + tap * NARROW * NARROW + 32 * k), (tap | k) != 0);
      wgmma_commit();
      wgmma_wait<0>();
      const RowPair rows = epilogue(sums, middle_table, t);
      next[0][0] = rows.low.x, next[0][1] = rows.high.x, next[0][2] = rows.low.y, next[0][3] = rows.high.y;
      next[1][0] = rows.low.z, next[1][1] = rows.high.z, next[1][2] = rows.low.w, next[1][3] = rows.high.w;
    }
    // Row g of the warp's 16 is output pixel (2 * warp, g) of the tile, row g + 8 is (2 * warp + 1, g).
    u8* to = output + (((size_t)image * SIDE + y * 8 + 2 * warp) * SIDE + x * 8 + g) * WIDE + 16 * t;
    const int low = (2 * warp + 1) * HALO + g + 1, high = low + HALO;  // the same pixels in the halo tile
#pragma unroll
    for (int pass = 0; pass < WIDE / PASS; pass++) {
      int sums[PASS / 2], projection[PASS / 2];
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 2; k++) multiply_u8_s8(sums, next[k], row_descriptor<64>(b_expand + pass * PASS * NARROW + 32 * k), k != 0);
      if (PROJECTION) {
#pragma unroll
        for (int k = 0; k < 2; k++)  // the tile's inner 8x8 pixels: rows of the halo tile are 10 pixels apart
          multiply_u8_s8(projection, matrix_descriptor(from + (HALO + 1) * 64 + 32 * k, 16, HALO * 64, SWIZZLE_64),
                         row_descriptor<64>(b_project + pass * PASS * NARROW + 32 * k), k != 0);
      }
      wgmma_commit();
      wgmma_wait<0>();
#pragma unroll
      for (int q = 0; q < PASS / 64; q++) {
        const float4* table = expand_constants + (pass * PASS / 64 + q) * 32;
        RowPair rows;
        if (PROJECTION) {
          rows = epilogue_projection(sums + 32 * q, table, t, projection + 32 * q, projection_constants + (pass * PASS / 64 + q) * 32);
        } else {
          const u32 chunk = from + pass * CHUNK_BYTES;
          const RowPair added = {load_shared(chunk + low * 128 + (((4 * q + t) ^ (low & 7)) << 4)),
                                 load_shared(chunk + high * 128 + (((4 * q + t) ^ (high & 7)) << 4))};
          rows = epilogue_residual(sums + 32 * q, table, t, added, residual_multiplier);
        }
        store_global(to + pass * PASS + 64 * q, rows.low);
        store_global(to + pass * PASS + 64 * q + SIDE * WIDE, rows.high);
      }
    }
    fence_async();
    sync_threads(1 + group, 128);
    if (in_group == 0) load(j + STAGES);
  }
}
