// The stem: convolution 7x7, stride 2, 3 -> 64 channels, requantization, max-pool 3x3 with stride 2, from NCHW int8 images.
//
// The product is transposed, sums[64 channels, 112 pixels] of one output row: weights are the A operand, half of them in registers
// and half in shared memory for the whole launch; the B operand comes from a ring of input rows. Input pixels are regrouped 2x2: one
// 16-byte unit contains [dy, dx, channel], channel 3 zero, so the convolution is 4x4 with stride 1 over units. 7x7x3 = 147 of K = 256
// are used.
// A row's 115 units are not consecutive: unit 14c + j is row c of core matrix j (j = 0 .. 16: the first three of each 14 are stored
// twice). The next tap is the next core matrix, so no pixel is copied for a tap, and thread column t of the product
// has 28 neighboring pixels, 28t .. 28t + 27: pooling needs one shuffle per row.
// Pooling operates on integer sums: requantization is monotonic (multipliers are positive), so the largest sum gives the largest byte.
// Every consumer warpgroup has a range of pooled rows of the whole batch, walks down it and keeps the running maximum of the rows
// above: each convolution row is computed once, plus one at the beginning of a range or an image.
//
// Warpgroup 0 is the producer: two warps per consumer regroup rows into its ring, loading one row ahead. Warpgroups 1 and 2 are
// consumers: 8 products per row, then the maximum over three neighbors in registers. Two rows have separate accumulators, so that a
// row's products run while the previous row is pooled; nothing is in flight at the loop boundary, as the compiler requires.
// Resident in shared memory: for each consumer ROWS rows of 17 core matrices and two staging rows, through which a pooled row
// (56 pixels x 64 channels) becomes 16-byte stores.
// Bytes: 150,528 in and 200,704 out per image (and a few rows twice at the beginning of a range).
// Barriers: `full[s]` (one arrival: the producer warp has written row slot s, after fence_async in every lane), `empty[s]` (4 arrivals:
// the consumer's warps have finished the last product that reads it); a consumer's named barrier orders staging stores before its loads.
//
// ROWS (ring, a power of two); POOL_PADDING: 1 if pooled pixel q covers columns 2q-1 .. 2q+1 (and rows likewise), 0 if it covers
// 2q .. 2q+2 (padding only at the end, as in TensorFlow's SAME).
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int SIDE = 224, OUT = 112, POOLED = 56, MATRICES = 17, SPAN = 14, PITCH = MATRICES * 128, RING = ROWS * PITCH;
constexpr int CONSUMERS = 2, THREADS = 128 * (1 + CONSUMERS);
constexpr int PIXEL_PITCH = 80, STAGING = POOLED * PIXEL_PITCH;  // 80: stores 7 pixels apart hit different banks
constexpr int IN_REGISTERS = 4, REST = 64 * 128;  // the second half of K is in shared memory, because registers are scarce
constexpr int SMALLEST = -2147483647 - 1;

// Consecutive pooled rows of one image, and the convolution rows from which they are computed.
struct Segment {
  int image, first, count, top, bottom;
};
DEVICE Segment segment_at(int row, int end) {
  Segment s;
  s.image = row / POOLED, s.first = row % POOLED, s.count = min(end - row, POOLED - s.first);
  s.top = max(2 * s.first - POOL_PADDING, 0), s.bottom = min(2 * (s.first + s.count) - POOL_PADDING, OUT - 1);
  return s;
}

// The first pooled row of a consumer's range, which ends where the next one begins.
DEVICE int first_row(int consumer, int images) {
  const int total = images * POOLED, consumers = gridDim.x * CONSUMERS, each = (total + consumers - 1) / consumers;
  return min((blockIdx.x * CONSUMERS + consumer) * each, total);
}

// ---- producer ----------------------------------------------------------------------------------------------------
constexpr int PAIRS = 2;  // of units, for each lane: lane (c = lane % 8, i = lane / 8) has core matrices 2(4p + i) and the next one
constexpr int AHEAD = 6;  // rows between a row and the one that is prefetched into L2

struct Pixels {  // for each pair of units four pixels of two image rows in three channels
  u32 of[PAIRS][2][3];
};
DEVICE Pixels load_pixels(const u8* image, int unit_row, int lane) {
  Pixels pixels;
#pragma unroll
  for (int p = 0; p < PAIRS; p++) {
    const int matrix = 2 * (4 * p + lane / 8), column = 2 * (SPAN * (lane % 8) + matrix) - 4;
    const bool wanted = (matrix < SPAN || lane % 8 == 7) && (unsigned)column < SIDE;
#pragma unroll
    for (int dy = 0; dy < 2; dy++) {
      const int row = 2 * unit_row - 4 + dy;
#pragma unroll
      for (int c = 0; c < 3; c++)
        pixels.of[p][dy][c] = wanted && (unsigned)row < SIDE ? __ldg((const u32*)(image + (c * SIDE + row) * SIDE + column)) : 0;
    }
  }
  return pixels;
}
DEVICE void prefetch_pixels(const u8* image, int unit_row, int lane) {
  const int row = 2 * unit_row - 4, line = lane % 5 * 128;
  if (lane < 15 && (unsigned)row < SIDE - 1 && line < 2 * SIDE) prefetch(image + (lane / 5 * SIDE + row) * SIDE + line);
}
DEVICE void store_units(u32 to, const Pixels& pixels, int lane) {
#pragma unroll
  for (int p = 0; p < PAIRS; p++) {
    const int matrix = 2 * (4 * p + lane / 8), c = lane % 8;
    if (matrix >= SPAN && c < 7) continue;  // written below, by the lane with the same units among the first of its 14
    u32 word[2][4];  // [dy][pixel]: bytes of channels 0, 1, 2 and zero
#pragma unroll
    for (int dy = 0; dy < 2; dy++) {
      const u32 r = pixels.of[p][dy][0], g = pixels.of[p][dy][1], b = pixels.of[p][dy][2];
      const u32 rg_low = __byte_perm(r, g, 0x5140), rg_high = __byte_perm(r, g, 0x7362);  // r0 g0 r1 g1, r2 g2 r3 g3
      const u32 b_low = __byte_perm(b, 0, 0x4140), b_high = __byte_perm(b, 0, 0x4342);    // b0 0 b1 0, b2 0 b3 0
      word[dy][0] = __byte_perm(rg_low, b_low, 0x5410), word[dy][1] = __byte_perm(rg_low, b_low, 0x7632);
      word[dy][2] = __byte_perm(rg_high, b_high, 0x5410), word[dy][3] = __byte_perm(rg_high, b_high, 0x7632);
    }
    const uint4 first = make_uint4(word[0][0], word[0][1], word[1][0], word[1][1]);
    const uint4 second = make_uint4(word[0][2], word[0][3], word[1][2], word[1][3]);
    const u32 unit = to + matrix * 128 + c * 16, again = unit + SPAN * 128 - 16;  // row c - 1 of the core matrix 14 later
    store_shared(unit, first);
    store_shared(unit + 128, second);
    if (p == 0 && c > 0 && matrix <= 2) store_shared(again, first);
    if (p == 0 && c > 0 && matrix == 0) store_shared(again + 128, second);
  }
}

// ---- consumer ----------------------------------------------------------------------------------------------------
struct Consumer {
  u32 weights[IN_REGISTERS][4];  // products 0 .. IN_REGISTERS - 1; those of the others are at `rest`
  u32 rest, ring, full, empty;
  int row, released;  // rows of the ring: the first one of the next convolution row, and how many were released

  DEVICE void wait_row(int ahead) const { barrier_wait(full + 8 * ((row + ahead) % ROWS), ((row + ahead) / ROWS) & 1); }
  // Begin one convolution row: four rows of the ring, two pairs of taps in each. Without `wanted` they need not be present, and the
  // result is not used: a product inside a branch would serialize all of them.
  DEVICE void start(int (&sums)[56], bool wanted) {
    if (wanted) wait_row(3);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 8; k++) {
      const u64 b = matrix_descriptor(ring + (row + (k >> 1)) % ROWS * PITCH + (k & 1) * 256, 128, 128, SWIZZLE_NONE);
      if (k < IN_REGISTERS)
        multiply_s8_s8(sums, weights[k], b, k != 0);
      else
        multiply_s8_s8(sums, row_descriptor<128>(rest + (k & 3) * 32), b, 1);
    }
    wgmma_commit();
    row += wanted;
  }
  DEVICE void release_row(bool wanted) {
    if (wanted && (threadIdx.x & 31) == 0) barrier_arrive(empty + 8 * (released % ROWS));
    released += wanted;
  }
};

// The largest sums of three neighboring pixels of one row: thread (g, t) of warp w passes channel 16w+2g+i of pooled pixel 14t+q
// to `use(2q+i, sum)`, in the order q = 0, 7, 1, 8, ... Its own pixel p is column 2t + p / 14 of core matrix p % 14.
template <typename Use> DEVICE void pool_row(const int (&sums)[56], int lane, Use use) {
  int edge[2];  // the last pixel of thread t - 1, or the first one of thread t + 1
#pragma unroll
  for (int i = 0; i < 2; i++) {
    edge[i] = POOL_PADDING ? __shfl_up_sync(0xffffffffu, sums[4 * 13 + 2 * i + 1], 1) : __shfl_down_sync(0xffffffffu, sums[2 * i], 1);
    if ((lane & 3) == (POOL_PADDING ? 0 : 3)) edge[i] = SMALLEST;
  }
  auto pixel = [&](int p, int i) { return p < 0 || p == 2 * SPAN ? edge[i] : sums[4 * (p % SPAN) + 2 * i + p / SPAN]; };
#pragma unroll
  for (int m = 0; m < 7; m++)
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int q = m + k / 2 * 7, i = k % 2;
      const int p = 2 * q - POOL_PADDING;
      use(2 * q + i, max(max(pixel(p, i), pixel(p + 1, i)), pixel(p + 2, i)));
    }
}

// weights: int8 [64 rows][256], row m = channel 16(m/16) + 2(m%8) + m/8%2 (packing.py); constants: multipliers, then biases.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(const u8* images, const u8* weights, const float* constants, u8* output, const int count) {
  extern __shared__ __align__(1024) u8 shared[];
  const u32 rest = shared_address(shared), rings = rest + REST, stagings = rings + CONSUMERS * RING, barriers = stagings + 2 * CONSUMERS * STAGING;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31, warp = (thread & 127) >> 5;
  for (int i = thread; i < REST / 16; i += THREADS)  // 16-byte unit i % 8 of row i / 8, swizzled
    store_shared(rest + i / 8 * 128 + ((i % 8 ^ i / 8 % 8) << 4), __ldg((const uint4*)weights + i / 8 * 16 + 8 + i % 8));
  for (int i = thread; i < CONSUMERS * ROWS; i += THREADS)  // the column after the last one: unit 114, row 7 of core matrix 16
    store_shared(rings + i * PITCH + 16 * 128 + 7 * 16, make_uint4(0, 0, 0, 0));
  fence_async();
  if (thread == 0) {
    for (int i = 0; i < CONSUMERS * ROWS; i++) {
      barrier_init(barriers + 8 * i, 1);
      barrier_init(barriers + 8 * (CONSUMERS * ROWS + i), 4);
    }
    barrier_init_fence();
  }
  __syncthreads();
  wait_for_predecessor();
  let_successor_start();

  const u32 fulls = barriers, empties = barriers + CONSUMERS * ROWS * 8;
  if (group == 0) {
    release_registers<72>();
    const int consumer = warp >> 1;  // the consumer that this warp feeds
    const u32 ring = rings + consumer * RING, full = fulls + consumer * ROWS * 8, empty = empties + consumer * ROWS * 8;
    const int begin = first_row(consumer, count), end = first_row(consumer + 1, count);
    int used = 0;  // rows of the ring; this warp writes every other one
    for (int at = begin; at < end;) {
      const Segment segment = segment_at(at, end);
      const u8* image = images + (size_t)segment.image * 3 * SIDE * SIDE;
      const int rows = segment.bottom + 4 - segment.top;
      int i = (warp ^ used) & 1;
      Pixels now = load_pixels(image, segment.top + i, lane);
      for (; i < rows; i += 2) {
        const Pixels next = load_pixels(image, segment.top + min(i + 2, rows - 1), lane);
        prefetch_pixels(image, segment.top + i + AHEAD, lane);
        const int slot = (used + i) % ROWS;
        if (used + i >= ROWS) barrier_wait(empty + 8 * slot, ((used + i) / ROWS - 1) & 1);
        store_units(ring + slot * PITCH, now, lane);
        fence_async();
        __syncwarp();
        if (lane == 0) barrier_arrive(full + 8 * slot);
        now = next;
      }
      used += rows;
      at += segment.count;
    }
  } else {
    take_registers<216>();
    const int g = lane >> 2, t = lane & 3, channel = 16 * warp + 2 * g, consumer = group - 1;
    const int begin = first_row(consumer, count), end = first_row(consumer + 1, count);
    Consumer c;
    c.rest = rest, c.ring = rings + consumer * RING;
    c.full = fulls + consumer * ROWS * 8, c.empty = empties + consumer * ROWS * 8, c.row = 0, c.released = 0;
#pragma unroll
    for (int k = 0; k < IN_REGISTERS; k++)
#pragma unroll
      for (int i = 0; i < 4; i++)  // A fragment: rows g and g + 8, K 4t and 16 + 4t
        c.weights[k][i] = __ldg((const u32*)(weights + (16 * warp + g + (i & 1) * 8) * 256 + k * 32 + (i >> 1) * 16 + 4 * t));
    const float2 multiplier = __ldg((const float2*)(constants + channel)), bias = __ldg((const float2*)(constants + 64 + channel));
    const u32 staging = stagings + consumer * 2 * STAGING;
    int buffer = 0;
    for (int at = begin; at < end;) {
      const Segment segment = segment_at(at, end);
      u8* to = output + (size_t)at * POOLED * 64;
      int first[56], second[56], above[28] = {};  // above: of the convolution row above the pooled row's two
      auto take_above = [&]() {  // ends the use of `first`, to save registers
        pool_row(first, lane, [&](int k, int sum) { above[k] = max(above[k], sum); });
#pragma unroll
        for (int k = 0; k < 28; k++) asm volatile("" : "+r"(above[k]));
      };
      // Pools the second row of a pair with the rows above it (`there`: whether that row is inside the image), and stores it.
      auto finish = [&](const int (&sums)[56], bool there) {
        const u32 row = staging + buffer * STAGING + (lane & 7) * 7 * PIXEL_PITCH + 16 * warp;
        float value[4];
        int done = 0;  // known at compile time
        pool_row(sums, lane, [&](int k, int sum) {
          const float largest = (float)max(above[k], POOL_PADDING || there ? sum : SMALLEST);
          above[k] = sum;
          value[done & 3] = k & 1 ? __fmaf_rn(largest, multiplier.y, bias.y) : __fmaf_rn(largest, multiplier.x, bias.x);
          if ((++done & 3) == 0)  // two channels of pooled pixels 14t+m and 14t+7+m
            store_matrix(row + (done / 4 - 1) * PIXEL_PITCH, pack_bytes(value[0], value[1], value[2], value[3]));
        });
        sync_threads(group, 128);
        for (int unit = thread & 127; unit < POOLED * 4; unit += 128)
          store_global(to + 16 * unit, load_shared(staging + buffer * STAGING + unit / 4 * PIXEL_PITCH + unit % 4 * 16));
        buffer ^= 1, to += POOLED * 64;
      };
      const bool topped = !POOL_PADDING || segment.first != 0;  // there is a row above
      for (int i = 0; i < 3; i++) c.wait_row(i);
      c.start(second, topped);
      wgmma_wait<0>();
      c.release_row(topped);
      pool_row(second, lane, [&](int k, int sum) { above[k] = topped ? sum : SMALLEST; });
      for (int p = 0; p < segment.count; p += 2) {  // two pooled rows, the other may be beyond the segment
        const int pooled = segment.first + p;
        const bool other = p + 1 < segment.count, there = POOL_PADDING || pooled + 1 < POOLED;
        const bool other_there = other && (POOL_PADDING || pooled + 2 < POOLED);
        c.start(first, true);
        c.start(second, there);
        wgmma_wait<1>();
        c.release_row(true);
        take_above();
        c.start(first, other);
        wgmma_wait<1>();
        c.release_row(there);
        finish(second, there);
        c.start(second, other_there);
        wgmma_wait<1>();
        c.release_row(other);
        take_above();
        wgmma_wait<0>();
        c.release_row(other_there);
        if (other) finish(second, other_there);
      }
      for (int i = 0; i < 3; i++) c.row++, c.release_row(true);
      at += segment.count;
    }
  }
}
