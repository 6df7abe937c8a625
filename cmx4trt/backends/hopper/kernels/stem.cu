// The stem: convolution 7x7, stride 2, 3 -> 64 channels, requantization, max-pool 3x3 with stride 2, from NCHW int8 images.
//
// The product is transposed, sums[64 channels, 112 pixels] of one output row: weights are the A operand, resident in shared
// memory; the B operand comes from a ring of input rows. Input pixels are regrouped 2x2: one 16-byte unit holds [dy, dx, channel],
// channel 3 zero, so the convolution is 4x4 with stride 1 over units. A unit is one row of a core matrix; horizontally neighbouring
// taps are 16 bytes apart (overlapping descriptors): no copy of any pixel. 7x7x3 = 147 of K = 256 are in use.
// Pooling happens on integer sums: requantization is monotone (multipliers are positive), so the largest sum gives the largest byte.
// Every consumer warpgroup has a range of pooled rows of the whole batch, walks down it and keeps the running maximum of the rows
// above: each convolution row is computed once, and one more where a range or an image begins.
//
// Warpgroup 0 produces: a warp for each consumer regroups rows into its ring, loading two rows ahead. Warpgroups 1 to 3 consume:
// 8 products a row, then the maximum over three neighbours in registers (one shuffle for each pair of pixels).
// Resident in shared memory: the weights (two chunks of 64 rows x 128 bytes, swizzled); for each consumer ROWS rows of 115 units (zero columns at both ends written once) and two staging rows,
// through which a pooled row (56 pixels x 64 channels) becomes 16-byte stores.
// Bytes: 150,528 in and 200,704 out for each image (and a few rows twice where a range begins).
// Barriers: `full[s]` (one arrival: the producer warp has written row slot s, after fence_async in every lane), `empty[s]` (4 arrivals:
// the consumer's warps have done the last product that reads it); a consumer's named barrier orders staging stores before its loads.
//
// ROWS (ring, a power of two).
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int SIDE = 224, POOLED = 56, UNITS = 115, PITCH = UNITS * 16, RING = ROWS * PITCH;
constexpr int CONSUMERS = 3, THREADS = 128 * (1 + CONSUMERS);
constexpr int PIXEL_PITCH = 80, STAGING = POOLED * PIXEL_PITCH;  // 80: 16-bit stores of a warp hit different banks
constexpr int WEIGHT_CHUNK = 64 * 128;
constexpr int SMALLEST = -2147483647 - 1;

// Consecutive pooled rows of one image, and the convolution rows that they are made from.
struct Segment {
  int image, first, count, top, bottom;
};
DEVICE Segment segment_at(int row, int end) {
  Segment s;
  s.image = row / POOLED, s.first = row % POOLED, s.count = min(end - row, POOLED - s.first);
  s.top = s.first ? 2 * s.first - 1 : 0, s.bottom = 2 * (s.first + s.count) - 1;
  return s;
}

// ---- producer ----------------------------------------------------------------------------------------------------
struct Pixels {  // 8 pixels of two image rows in three channels
  uint2 of[2][3];
};
DEVICE Pixels load_pixels(const u8* image, int unit_row, int lane) {
  Pixels p;
#pragma unroll
  for (int dy = 0; dy < 2; dy++) {
    const int row = 2 * unit_row - 4 + dy;
    const bool inside = lane < 28 && (unsigned)row < SIDE;
#pragma unroll
    for (int c = 0; c < 3; c++)
      p.of[dy][c] = inside ? __ldg((const uint2*)(image + (c * SIDE + row) * SIDE + 8 * lane)) : make_uint2(0, 0);
  }
  return p;
}
// Four units: pixels 8 lane .. 8 lane + 7 of both rows.
DEVICE void store_units(u32 row, const Pixels& p, int lane) {
  if (lane >= 28) return;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    u32 word[2][4];  // [dy][pixel]: bytes of channels 0, 1, 2 and zero
#pragma unroll
    for (int dy = 0; dy < 2; dy++) {
      const u32 r = half ? p.of[dy][0].y : p.of[dy][0].x, g = half ? p.of[dy][1].y : p.of[dy][1].x;
      const u32 b = half ? p.of[dy][2].y : p.of[dy][2].x;
      const u32 rg_low = __byte_perm(r, g, 0x5140), rg_high = __byte_perm(r, g, 0x7362);  // r0 g0 r1 g1, r2 g2 r3 g3
      const u32 b_low = __byte_perm(b, 0, 0x4140), b_high = __byte_perm(b, 0, 0x4342);    // b0 0 b1 0, b2 0 b3 0
      word[dy][0] = __byte_perm(rg_low, b_low, 0x5410), word[dy][1] = __byte_perm(rg_low, b_low, 0x7632);
      word[dy][2] = __byte_perm(rg_high, b_high, 0x5410), word[dy][3] = __byte_perm(rg_high, b_high, 0x7632);
    }
    const u32 to = row + (2 + 4 * lane + 2 * half) * 16;
    store_shared(to, make_uint4(word[0][0], word[0][1], word[1][0], word[1][1]));
    store_shared(to + 16, make_uint4(word[0][2], word[0][3], word[1][2], word[1][3]));
  }
}

// ---- consumer ----------------------------------------------------------------------------------------------------
struct Consumer {
  u32 weights, ring, full, empty;
  int row;  // rows of the ring used so far

  DEVICE void wait_row(int ahead) const { barrier_wait(full + 8 * ((row + ahead) % ROWS), ((row + ahead) / ROWS) & 1); }
  DEVICE void release_row() {
    if ((threadIdx.x & 31) == 0) barrier_arrive(empty + 8 * (row % ROWS));
    row++;
  }
  // One output row: four rows of the ring, two pairs of taps in each.
  DEVICE void convolve(int (&sums)[56]) {
    wait_row(3);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 8; k++)
      multiply_s8_s8(sums, row_descriptor<128>(weights + (k >> 2) * WEIGHT_CHUNK + (k & 3) * 32),
                     matrix_descriptor(ring + (row + (k >> 1)) % ROWS * PITCH + (k & 1) * 32, 16, 128, SWIZZLE_NONE), k != 0);
    wgmma_commit();
    wgmma_wait<0>();
    release_row();
  }
};

// The largest sums of three neighbouring pixels of one row: thread (g, t) of warp w hands channel 16w+2g+i of pooled pixel
// 4j+t to `use(2j+i, sum)`, in order. The left neighbour is the odd pixel of thread t - 1, for t = 0 that of thread 3 one group
// earlier.
template <typename Use> DEVICE void pool_row(const int (&sums)[56], int lane, Use use) {
  const int left = (lane & ~3) | ((lane + 3) & 3);
  int before[2] = {SMALLEST, SMALLEST};
#pragma unroll
  for (int k = 0; k < 28; k++) {
    const int odd = sums[2 * k + 1], moved = __shfl_sync(0xffffffffu, odd, left);
    const int neighbour = lane & 3 ? moved : before[k & 1];
    before[k & 1] = moved;
    use(k, max(max(sums[2 * k], odd), neighbour));
  }
}

// weights: int8 [64 rows][256], row m = channel 16(m/16) + 2(m%8) + m/8%2 (packing.py); constants: multipliers, then biases.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(const u8* images, const u8* weights, const float* constants, u8* output, const int count) {
  extern __shared__ __align__(1024) u8 shared[];
  const u32 weights_at = shared_address(shared), rings = weights_at + 2 * WEIGHT_CHUNK, stagings = rings + CONSUMERS * RING, barriers = stagings + 2 * CONSUMERS * STAGING;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31, warp = (thread & 127) >> 5;
  for (int i = thread; i < CONSUMERS * RING / 16; i += THREADS) store_shared(rings + 16 * i, make_uint4(0, 0, 0, 0));
  for (int i = thread; i < 2 * WEIGHT_CHUNK / 16; i += THREADS) {  // 16-byte unit i % 16 of row i / 16
    const int row = i >> 4, unit = i & 15;
    const u32 to = weights_at + (unit >> 3) * WEIGHT_CHUNK + row * 128 + (((unit & 7) ^ (row & 7)) << 4);
    store_shared(to, __ldg((const uint4*)weights + i));
  }
  if (thread == 0) {
    for (int i = 0; i < CONSUMERS * ROWS; i++) {
      barrier_init(barriers + 8 * i, 1);
      barrier_init(barriers + 8 * (CONSUMERS * ROWS + i), 4);
    }
    barrier_init_fence();
  }
  fence_async();
  __syncthreads();
  wait_for_predecessor();
  let_successor_start();

  const int consumer = group ? group - 1 : warp, total = count * POOLED;  // the consumer that this warp is or feeds
  const int each = (total + gridDim.x * CONSUMERS - 1) / (gridDim.x * CONSUMERS);
  const int begin = (blockIdx.x * CONSUMERS + consumer) * each, end = min(begin + each, total);
  const u32 ring = rings + consumer * RING, full = barriers + consumer * ROWS * 8, empty = full + CONSUMERS * ROWS * 8;
  if (group == 0) {
    release_registers<56>();
    if (consumer < CONSUMERS) {
      int used = 0;  // rows of the ring
      for (int at = begin; at < end;) {
        const Segment segment = segment_at(at, end);
        const u8* image = images + (size_t)segment.image * 3 * SIDE * SIDE;
        const int last = segment.bottom + 3;
        Pixels now = load_pixels(image, segment.top, lane), next = load_pixels(image, segment.top + 1, lane);
        for (int row = segment.top; row <= last; row++, used++) {
          const Pixels later = load_pixels(image, min(row + 2, last), lane);
          const int slot = used % ROWS;
          if (used >= ROWS) barrier_wait(empty + 8 * slot, (used / ROWS - 1) & 1);
          store_units(ring + slot * PITCH, now, lane);
          fence_async();
          __syncwarp();
          if (lane == 0) barrier_arrive(full + 8 * slot);
          now = next, next = later;
        }
        at += segment.count;
      }
    }
  } else {
    take_registers<152>();
    const int g = lane >> 2, t = lane & 3, channel = 16 * warp + 2 * g;
    Consumer c;
    c.weights = weights_at, c.ring = ring, c.full = full, c.empty = empty, c.row = 0;
    const float2 multiplier = __ldg((const float2*)(constants + channel)), bias = __ldg((const float2*)(constants + 64 + channel));
    const u32 staging = stagings + consumer * 2 * STAGING;
    int buffer = 0;
    for (int at = begin; at < end;) {
      const Segment segment = segment_at(at, end);
      u8* to = output + (size_t)at * POOLED * 64;
      int sums[56], above[28];  // above: of the convolution row above the pooled row's two
      for (int i = 0; i < 3; i++) c.wait_row(i);
#pragma unroll
      for (int k = 0; k < 28; k++) above[k] = SMALLEST;
      if (segment.first) {
        c.convolve(sums);
        pool_row(sums, lane, [&](int k, int sum) { above[k] = sum; });
      }
      for (int p = 0; p < segment.count; p++) {
        c.convolve(sums);
        pool_row(sums, lane, [&](int k, int sum) { above[k] = max(above[k], sum); });
        c.convolve(sums);
        const u32 row = staging + buffer * STAGING + channel;
        float value[4];
        pool_row(sums, lane, [&](int k, int sum) {
          const float largest = (float)max(above[k], sum);
          above[k] = sum;
          value[k & 3] = k & 1 ? __fmaf_rn(largest, multiplier.y, bias.y) : __fmaf_rn(largest, multiplier.x, bias.x);
          if ((k & 3) == 3) {  // two channels of pooled pixels 4j+t and 4(j+1)+t
            const u32 bytes = pack_bytes(value[0], value[1], value[2], value[3]);
            store_shared_16(row + (2 * k - 6 + t) * PIXEL_PITCH, bytes);
            store_shared_16(row + (2 * k - 2 + t) * PIXEL_PITCH, bytes >> 16);
          }
        });
        sync_threads(group, 128);
        for (int unit = thread & 127; unit < POOLED * 4; unit += 128)
          store_global(to + 16 * unit, load_shared(staging + buffer * STAGING + unit / 4 * PIXEL_PITCH + unit % 4 * 16));
        buffer ^= 1, to += POOLED * 64;
      }
      for (int i = 0; i < 3; i++) c.release_row();
      at += segment.count;
    }
  }
}
