// Convolution 3x3, stride 1, 128 -> 128 channels, with resident weights and one halo window for all nine taps.
//
// Resident in shared memory: all weights (9 taps x 128 x 128 bytes = 144 KB) and their constants. Per warpgroup: STAGES windows
// of 4 rows x (WIDTH + 1) pixels x 128 channels. A tile is two output rows of an image (2 * (WIDTH + 1) <= 64 matrix rows, of which
// 2 * WIDTH are output pixels); tap (r, s) is the same window with a start address r * (WIDTH + 1) + s pixels later, inside the
// swizzled tile. Rows and columns outside the image arrive as zeros; the column after the last one is the first of the next row.
// Bytes: the input twice (4 rows for every 2), mostly from L2; the output once.
// Barriers: `weights` once; `full[s]` orders the copy of a window before its use; the warpgroup's named barrier orders its
// warps' products before thread 0 refills the slot.
//
// WARPGROUPS, STAGES, WIDTH (28). The window slot is 16 KB, zeroed first: products read past the 4 rows, into rows that are not stored.
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int C = 128, PITCH = WIDTH + 1, WINDOW_BYTES = 4 * PITCH * C, SLOT = 16384, TAPS = 9 * C * C;
static_assert(WINDOW_BYTES <= SLOT && 2 * PITCH <= 64, "a window fits its slot, two rows fit one tile");

extern "C" __global__ void __launch_bounds__(WARPGROUPS * 128, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights, const int images,
                const int height, u8* output, const float4* constants) {
  extern __shared__ __align__(1024) u8 shared[];
  u8* windows = shared + TAPS;
  float4* table = (float4*)(windows + WARPGROUPS * STAGES * SLOT);
  const u32 weights_full = shared_address(table + C / 2), b = shared_address(shared);
  const int thread = threadIdx.x, group = thread >> 7, in_group = thread & 127, g = (thread & 31) >> 2, t = thread & 3;
  const u32 a = shared_address(windows) + group * STAGES * SLOT, full = weights_full + 8 + group * STAGES * 8;
  for (int i = thread; i < C / 2; i += WARPGROUPS * 128) table[i] = constants[i];
  for (int i = thread; i < WARPGROUPS * STAGES * SLOT / 16; i += WARPGROUPS * 128) ((uint4*)windows)[i] = make_uint4(0, 0, 0, 0);
  if (thread == 0) {
    for (int i = 0; i < 1 + WARPGROUPS * STAGES; i++) barrier_init(weights_full + 8 * i, 1);
    barrier_init_fence();
    barrier_expect(weights_full, TAPS);
    for (int tap = 0; tap < 9; tap++) copy_2d(b + tap * C * C, &weights, weights_full, tap * C, 0);
  }
  fence_async();
  __syncthreads();
  wait_for_predecessor();

  const int pairs = height / 2, tiles = images * pairs, step = gridDim.x * WARPGROUPS, first = blockIdx.x + group * gridDim.x;
  auto load = [&](int count) {
    const int tile = first + count * step, slot = count % STAGES;
    if (tile >= tiles) return;
    barrier_expect(full + 8 * slot, WINDOW_BYTES);
    copy_4d(a + slot * SLOT, &input, full + 8 * slot, 0, -1, tile % pairs * 2 - 1, tile / pairs);
  };
  if (in_group == 0)
    for (int i = 0; i < STAGES; i++) load(i);
  let_successor_start();
  barrier_wait(weights_full, 0);

  const int low = (in_group >> 5) * 16 + g, high = low + 8;  // this thread's rows of a tile, as positions in the window
  const bool keep_low = low < 2 * PITCH && low % PITCH < WIDTH, keep_high = high < 2 * PITCH && high % PITCH < WIDTH;
  const int pixel_low = low / PITCH * WIDTH + low % PITCH, pixel_high = high / PITCH * WIDTH + high % PITCH;
  int count = 0;
  for (int tile = first; tile < tiles; tile += step, count++) {
    const int slot = count % STAGES;
    barrier_wait(full + 8 * slot, (count / STAGES) & 1);
    int sums[64];
    wgmma_fence();
#pragma unroll
    for (int tap = 0; tap < 9; tap++)
#pragma unroll
      for (int i = 0; i < C; i += 32)
        multiply_u8_s8(sums, row_descriptor<128>(a + slot * SLOT + (tap / 3 * PITCH + tap % 3) * C + i),
                       row_descriptor<128>(b + tap * C * C + i), (tap | i) != 0);
    wgmma_commit();
    wgmma_wait<0>();
    sync_threads(1 + group, 128);
    if (in_group == 0) load(count + STAGES);
    u8* to = output + ((size_t)(tile / pairs) * height * WIDTH + tile % pairs * 2 * WIDTH) * C + 16 * t;
#pragma unroll
    for (int q = 0; q < 2; q++) {
      const RowPair rows = epilogue(sums + 32 * q, table + q * 32, t);
      if (keep_low) store_global(to + pixel_low * C + 64 * q, rows.low);
      if (keep_high) store_global(to + pixel_high * C + 64 * q, rows.high);
    }
  }
}
