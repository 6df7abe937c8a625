// A whole bottleneck block of stage 2 (56x56): 1x1 to 64, 3x3, 1x1 to 256, addend, as one persistent kernel.
//
// INPUT_CHANNELS = 256: the addend is the block's input (residual). INPUT_CHANNELS = 64: the first block, whose addend is a 1x1
// projection of the input with separate accumulators. A tile is 8x8 output pixels (56 = 7 * 8) and belongs to one warpgroup:
//   reduce   10x10 pixels of the input (halo included), transposed: sums[64 channels, 112 pixels], so that a thread has two channels and
//            their constants in registers -> bytes in shared memory, zeros outside the image
//   middle   nine taps, each a window descriptor into those bytes; the result stays in registers as the A operand of
//   expand   which adds the input tile, still in shared memory (or its projection), and stores 256 channels. With NEXT those bytes
//            are, still in registers, also the A operand of the next block's reduction to 128 channels, which is stored too.
// Resident in shared memory: all weights (68 KB; with projection 80 KB, with NEXT 100 KB), constants of the first two convolutions;
// STAGES input tiles of 100 pixels, shared by the block's warpgroups; each warpgroup's reduced tile: four planes of 16 channels, so
// that eight neighboring pixels of a tap are one core matrix. A warp of `reduce` writes one plane, 8 pixels per stmatrix.
// Bytes: input once (halos from L2), output once.
// Barriers: `weights_full` once; `full[s]` orders the copy of a tile before its use. Tile j uses stage j % STAGES and warpgroup
// j % WARPGROUPS, and the warpgroup that finishes it loads tile j + STAGES. Because successive users of a stage differ, parity
// alone is ambiguous (a load from two phases earlier may still be in flight): `loading[s]` is the tile the stage was last told to load.
// The named barrier of a warpgroup orders its stores of the reduced tile before the middle product, and everything before a refill.
//
// INPUT_CHANNELS, WARPGROUPS, STAGES, NEXT (0 or 1; only with a residual).
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr bool PROJECTION = INPUT_CHANNELS == 64;
constexpr int SIDE = 56, ACROSS = SIDE / 8, HALO = 10, NARROW = 64, WIDE = 256;
constexpr int CHUNK = PROJECTION ? 64 : 128, CHUNKS = INPUT_CHANNELS / CHUNK;      // channels of the input loaded as one box
constexpr int CHUNK_BYTES = (HALO * HALO * CHUNK + 1023) / 1024 * 1024, STAGE = CHUNKS * CHUNK_BYTES;
constexpr int COLUMNS = 112, READ_PAST = PROJECTION ? 1024 : 0;  // `reduce` reads rows 100..111 past the tile
constexpr int STORED = (HALO * HALO + 7) / 8, PLANE = STORED * 128, REDUCED = 4 * PLANE, PASS = PROJECTION || NEXT ? 64 : 128;
constexpr int REDUCE_BYTES = NARROW * INPUT_CHANNELS, MIDDLE_BYTES = 9 * NARROW * NARROW, EXPAND_BYTES = WIDE * NARROW;
constexpr int NEXT_CHANNELS = 128, NEXT_BYTES = NEXT ? NEXT_CHANNELS * WIDE : 0;
constexpr int WEIGHT_BYTES = REDUCE_BYTES + MIDDLE_BYTES + EXPAND_BYTES * (PROJECTION ? 2 : 1) + NEXT_BYTES;
static_assert(!(PROJECTION && NEXT), "registers do for one of them");
static_assert(COLUMNS >= HALO * HALO, "a product covers the halo tile");

// Which of a thread's 28 pixels in `reduce`, 8i + 2t + e as bit 2i + e, lie on an edge of the halo tile.
struct Edges {
  u32 left, right, top, bottom;
  DEVICE Edges(int t) : left(0), right(0), top(0), bottom(0) {
#pragma unroll
    for (int i = 0; i < COLUMNS / 4; i++) {
      const int pixel = i / 2 * 8 + 2 * t + i % 2;
      left |= (u32)(pixel % HALO == 0) << i, right |= (u32)(pixel % HALO == HALO - 1) << i;
      top |= (u32)(pixel < HALO) << i, bottom |= (u32)(pixel >= HALO * (HALO - 1)) << i;
    }
  }
  // The pixels of tile (x, y) that are outside the image.
  DEVICE u32 outside(int x, int y) const {
    return (x == 0 ? left : 0) | (x == ACROSS - 1 ? right : 0) | (y == 0 ? top : 0) | (y == ACROSS - 1 ? bottom : 0);
  }
};

extern "C" __global__ void __launch_bounds__(WARPGROUPS * 128, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap reduce,
                const __grid_constant__ TensorMap middle, const __grid_constant__ TensorMap expand,
                const __grid_constant__ TensorMap project, const __grid_constant__ TensorMap next_reduce, const int images,
                u8* output, u8* next_output, const float4* reduce_constants,
                const float4* middle_constants, const float4* expand_constants, const float4* projection_constants,
                const float4* next_constants, const float residual_multiplier) {
  extern __shared__ __align__(1024) u8 shared[];
  u8* tiles_at = shared + WEIGHT_BYTES;
  u8* reduced_at = tiles_at + STAGES * STAGE + READ_PAST;
  float4* middle_table = (float4*)(reduced_at + WARPGROUPS * REDUCED);
  const u32 weights_full = shared_address(middle_table + 64), full = weights_full + 8, loading = full + 8 * STAGES;
  const u32 b_reduce = shared_address(shared), b_middle = b_reduce + REDUCE_BYTES, b_expand = b_middle + MIDDLE_BYTES;
  const u32 b_project = b_expand + EXPAND_BYTES, b_next = b_project, stages = shared_address(tiles_at);
  const int thread = threadIdx.x, group = thread >> 7, in_group = thread & 127, warp = in_group >> 5;
  const int g = (thread & 31) >> 2, t = thread & 3;
  const u32 reduced = shared_address(reduced_at) + group * REDUCED;
  const int tiles = images * ACROSS * ACROSS;

  if (thread < 32) middle_table[thread] = middle_constants[thread], middle_table[32 + thread] = reduce_constants[thread];
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
    if (NEXT)
      for (int k = 0; k < WIDE; k += 128) copy_2d(b_next + k * NEXT_CHANNELS, &next_reduce, weights_full, k, 0);
  }
  wait_for_predecessor();
  if (thread == 0)
    for (int j = 0; j < STAGES; j++) load(j);
  let_successor_start();
  barrier_wait(weights_full, 0);

  const Edges edges(t);
  const int channel = 16 * warp + 2 * g;  // `reduce`: this thread's two channels, rows g and g + 8 of its warp
  const u32 reduce_table = shared_address(middle_table + 32) + 4 * channel;
  for (int j = group;; j += WARPGROUPS) {
    const int tile = blockIdx.x + j * gridDim.x;
    if (tile >= tiles) break;
    const int stage = j % STAGES, image = tile / (ACROSS * ACROSS), y = tile / ACROSS % ACROSS, x = tile % ACROSS;
    const u32 from = stages + stage * STAGE;
    while (load_acquire(loading + 4 * stage) != j) {
    }
    barrier_wait(full + 8 * stage, (j / STAGES) & 1);
    {
      int sums[COLUMNS / 2];
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < INPUT_CHANNELS; k += 32)
        multiply_s8_u8(sums, row_descriptor<CHUNK>(b_reduce + k / CHUNK * NARROW * CHUNK + k % CHUNK),
                       row_descriptor<CHUNK>(from + k / CHUNK * CHUNK_BYTES + k % CHUNK), k != 0);
      wgmma_commit();
      wgmma_wait<0>();
      const float2 reduce_multiplier = load_shared_pair(reduce_table), reduce_bias = load_shared_pair(reduce_table + 4 * NARROW);
      const u32 outside = edges.outside(x, y), plane = reduced + warp * PLANE + (thread & 7) * 16;
#pragma unroll
      for (int i = 0; i < STORED; i++) {  // pixels 8i + 2t and 8i + 2t + 1, two channels each
        u32 bytes = pack_bytes(__fmaf_rn((float)sums[4 * i], reduce_multiplier.x, reduce_bias.x),
                               __fmaf_rn((float)sums[4 * i + 2], reduce_multiplier.y, reduce_bias.y),
                               __fmaf_rn((float)sums[4 * i + 1], reduce_multiplier.x, reduce_bias.x),
                               __fmaf_rn((float)sums[4 * i + 3], reduce_multiplier.y, reduce_bias.y));
        bytes &= ~((outside >> 2 * i & 1) * 0xffffu | (outside >> 2 * i & 2) * 0x7fff8000u);
        store_matrix(plane + i * 128, bytes);
      }
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
    const size_t pixel = ((size_t)image * SIDE + y * 8 + 2 * warp) * SIDE + x * 8 + g;
    u8* to = output + pixel * WIDE + 16 * t;
    const int low = (2 * warp + 1) * HALO + g + 1, high = low + HALO;  // the same pixels in the halo tile
    int next_sums[NEXT_CHANNELS / 2];
    RowPair added[2];
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
      if (!PROJECTION && pass * PASS % 128 == 0) load_added(from + pass * PASS / 128 * CHUNK_BYTES, low, high, g, t, added);
      wgmma_wait<0>();
#pragma unroll
      for (int q = 0; q < PASS / 64; q++) {
        const int piece = pass * PASS / 64 + q;
        const RowPair rows =
            PROJECTION ? epilogue_projection(sums + 32 * q, expand_constants + piece * 32, t, projection + 32 * q,
                                             projection_constants + piece * 32)
                       : epilogue_residual(sums + 32 * q, expand_constants + piece * 32, t, added[piece & 1], residual_multiplier);
        store_global(to + piece * 64, rows.low);
        store_global(to + piece * 64 + SIDE * WIDE, rows.high);
        if (NEXT) {
          const u32 a[2][4] = {{rows.low.x, rows.high.x, rows.low.y, rows.high.y}, {rows.low.z, rows.high.z, rows.low.w, rows.high.w}};
          wgmma_fence();
#pragma unroll
          for (int k = 0; k < 2; k++)
            multiply_u8_s8(next_sums, a[k], row_descriptor<128>(b_next + piece / 2 * NEXT_CHANNELS * 128 + piece % 2 * 64 + 32 * k),
                           (piece | k) != 0);
          wgmma_commit();
          wgmma_wait<0>();
        }
      }
    }
    if (NEXT) {
      u8* narrow = next_output + pixel * NEXT_CHANNELS + 16 * t;
#pragma unroll
      for (int q = 0; q < NEXT_CHANNELS / 64; q++) {
        const RowPair rows = epilogue(next_sums + 32 * q, next_constants + q * 32, t);
        store_global(narrow + 64 * q, rows.low);
        store_global(narrow + 64 * q + SIDE * NEXT_CHANNELS, rows.high);
      }
    }
    fence_async();
    sync_threads(1 + group, 128);
    if (in_group == 0) load(j + STAGES);
  }
}
