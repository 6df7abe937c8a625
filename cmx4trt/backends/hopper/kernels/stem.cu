// The stem: convolution 7x7, stride 2, 3 -> 64 channels, requantization, max-pool 3x3 with stride 2, from NCHW int8 images.
//
// The product is transposed, sums[64 channels, 112 pixels] of one output row: weights are the A operand, in registers for the whole
// launch; the B operand comes from a ring of input rows. Input pixels are regrouped 2x2: one 16-byte unit holds [dy, dx, channel],
// channel 3 zero, so the convolution is 4x4 with stride 1 over units. A unit is one row of a core matrix; horizontally neighbouring
// taps are 16 bytes apart (overlapping descriptors): no copy of any pixel. 7x7x3 = 147 of K = 256 are in use.
// Pooling happens on integer sums: requantization is monotone (multipliers are positive), so the largest sum gives the largest byte.
// A warpgroup walks down a strip of an image and keeps the running maximum of the rows above; each row is computed once.
//
// Warpgroup 0 produces: two warps for each consumer regroup rows into its ring. Warpgroups 1 and 2 consume: 8 products a row.
// Resident in shared memory: for each consumer ROWS rows of 115 units (zero columns at both ends written once) and two staging rows,
// through which a pooled row (56 pixels x 64 channels) becomes 16-byte stores.
// Bytes: 150,528 in and 200,704 out for each image (and 3 rows more for each strip).
// Barriers: `full[s]` (one arrival: a producer warp has written row slot s, after fence_async in every lane), `empty[s]` (4 arrivals:
// the consumer's warps have done the last product that reads it); a consumer's named barrier orders staging stores before its loads.
//
// ROWS (ring, a power of two).
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int SIDE = 224, POOLED = 56, UNITS = 115, PITCH = UNITS * 16, RING = ROWS * PITCH;
constexpr int PIXEL_PITCH = 80, STAGING = POOLED * PIXEL_PITCH;  // 80: 16-bit stores of a warp hit different banks
constexpr int SMALLEST = -2147483647 - 1;

// A strip: pooled rows first .. first + count - 1 of one image, made from convolution rows top .. bottom.
struct Strip {
  int image, first, count, top, bottom;
};
DEVICE Strip strip_of(int index, int strips) {
  Strip s;
  s.count = POOLED / strips;
  s.image = index / strips, s.first = index % strips * s.count;
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
  u32 weights[8][4];
  u32 ring, full, empty;
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
      multiply_s8_s8(sums, weights[k], matrix_descriptor(ring + (row + (k >> 1)) % ROWS * PITCH + (k & 1) * 32, 16, 128, SWIZZLE_NONE),
                     k != 0);
    wgmma_commit();
    wgmma_wait<0>();
    release_row();
  }
};

// Pooled bytes of one row: thread (g, t) of warp w holds channels 16w+2g and 16w+2g+1 of pooled pixels 4j+t.
DEVICE void pool_and_stage(const int (&above)[56], const int (&below)[56], float2 multiplier, float2 bias, u32 staging, int lane) {
  const int t = lane & 3, left = (lane & ~3) | ((t + 3) & 3);
  int previous[2] = {SMALLEST, SMALLEST};  // the odd pixel of the group before, which thread t = 3 hands to t = 0
#pragma unroll
  for (int j = 0; j < 14; j += 2) {
    float value[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int at = 4 * (j + i / 2) + 2 * (i & 1);
      const int even = max(above[at], below[at]), odd = max(above[at + 1], below[at + 1]);
      const int neighbour = __shfl_sync(0xffffffffu, t == 3 ? previous[i & 1] : odd, left);
      previous[i & 1] = odd;
      const int largest = max(max(even, odd), neighbour);
      value[i] = i & 1 ? __fmaf_rn((float)largest, multiplier.y, bias.y) : __fmaf_rn((float)largest, multiplier.x, bias.x);
    }
    const u32 bytes = pack_bytes(value[0], value[1], value[2], value[3]);
    store_shared_16(staging + (4 * j + t) * PIXEL_PITCH, bytes);
    store_shared_16(staging + (4 * j + 4 + t) * PIXEL_PITCH, bytes >> 16);
  }
}

// weights: int8 [64 rows][256], row m = channel 16(m/16) + 2(m%8) + m/8%2 (packing.py); constants: multipliers, then biases.
extern "C" __global__ void __launch_bounds__(384, 1)
    KERNEL_NAME(const u8* images, const u8* weights, const float* constants, u8* output, const int count, const int strips) {
  extern __shared__ __align__(1024) u8 shared[];
  const u32 rings = shared_address(shared), stagings = rings + 2 * RING, barriers = stagings + 4 * STAGING;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31, warp = (thread & 127) >> 5;
  for (int i = thread; i < 2 * RING / 16; i += 384) store_shared(rings + 16 * i, make_uint4(0, 0, 0, 0));
  if (thread == 0) {
    for (int i = 0; i < 2 * ROWS; i++) barrier_init(barriers + 8 * i, 1), barrier_init(barriers + 16 * ROWS + 8 * i, 4);
    barrier_init_fence();
  }
  fence_async();
  __syncthreads();
  wait_for_predecessor();
  let_successor_start();

  const int total = count * strips, step = gridDim.x * 2;
  if (group == 0) {
    release_registers<72>();
    const int consumer = warp >> 1;
    const u32 ring = rings + consumer * RING, full = barriers + consumer * ROWS * 8, empty = full + 16 * ROWS;
    int row = 0;  // of the ring; this warp takes every other one
    for (int index = blockIdx.x * 2 + consumer; index < total; index += step) {
      const Strip strip = strip_of(index, strips);
      const u8* image = images + (size_t)strip.image * 3 * SIDE * SIDE;
      const int rows = strip.bottom + 4 - strip.top;
      int i = (warp ^ row) & 1;
      Pixels now = load_pixels(image, strip.top + i, lane);
      for (; i < rows; i += 2) {
        const Pixels next = load_pixels(image, strip.top + min(i + 2, rows - 1), lane);
        const int slot = (row + i) % ROWS;
        if (row + i >= ROWS) barrier_wait(empty + 8 * slot, ((row + i) / ROWS - 1) & 1);
        store_units(ring + slot * PITCH, now, lane);
        fence_async();
        __syncwarp();
        if (lane == 0) barrier_arrive(full + 8 * slot);
        now = next;
      }
      row += rows;
    }
  } else {
    take_registers<216>();
    const int consumer = group - 1, g = lane >> 2, t = lane & 3, channel = 16 * warp + 2 * g;
    Consumer c;
    c.ring = rings + consumer * RING, c.full = barriers + consumer * ROWS * 8, c.empty = c.full + 16 * ROWS, c.row = 0;
#pragma unroll
    for (int k = 0; k < 8; k++)
#pragma unroll
      for (int i = 0; i < 4; i++)  // A fragment: rows g and g + 8, K 4t and 16 + 4t
        c.weights[k][i] = __ldg((const u32*)(weights + (16 * warp + g + (i & 1) * 8) * 256 + k * 32 + (i >> 1) * 16 + 4 * t));
    const float2 multiplier = __ldg((const float2*)(constants + channel)), bias = __ldg((const float2*)(constants + 64 + channel));
    const u32 staging = stagings + consumer * 2 * STAGING;
    int buffer = 0;
    for (int index = blockIdx.x * 2 + consumer; index < total; index += step) {
      const Strip strip = strip_of(index, strips);
      u8* to = output + ((size_t)strip.image * POOLED + strip.first) * POOLED * 64;
      int even[56], odd[56];
      auto finish = [&](const int (&above)[56], const int (&below)[56]) {
        pool_and_stage(above, below, multiplier, bias, staging + buffer * STAGING + channel, lane);
        sync_threads(group, 128);
        for (int unit = thread & 127; unit < POOLED * 4; unit += 128)
          store_global(to + 16 * unit, load_shared(staging + buffer * STAGING + unit / 4 * PIXEL_PITCH + unit % 4 * 16));
        buffer ^= 1, to += POOLED * 64;
      };
      // `above` holds the convolution row above the pooled row's two; afterwards `below` does for the next one.
      auto pooled_row = [&](int (&above)[56], int (&below)[56]) {
        c.convolve(below);
#pragma unroll
        for (int i = 0; i < 56; i++) above[i] = max(above[i], below[i]);
        c.convolve(below);
        finish(above, below);
      };
      for (int i = 0; i < 3; i++) c.wait_row(i);
      if (strip.first) {
        c.convolve(even);
      } else {
#pragma unroll
        for (int i = 0; i < 56; i++) even[i] = SMALLEST;
      }
      int p = 0;
      for (; p + 2 <= strip.count; p += 2) pooled_row(even, odd), pooled_row(odd, even);
      if (p < strip.count) pooled_row(even, odd);
      for (int i = 0; i < 3; i++) c.release_row();
    }
  }
}
