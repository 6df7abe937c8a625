// Convolution for small batches: one tile of 64 pixels x 64 channels per cluster, whose blocks share the sum over K.
//
// With few pixels, one tile per SM leaves most SMs idle, and a block that sums over all of K alone takes long. Here SPLIT blocks
// of a cluster take the chunks of K in turn, each with all its chunks in flight at once (no ring), then add their integer sums through
// distributed shared memory: integer addition is exact in any order, so the result is that of the specification.
// Resident: CHUNKS_EACH stages of 64 pixels + 64 weight rows, 128 bytes of K each; then the block's partial sums, int32.
// Weights are fetched before the previous launch has ended: they do not depend on it.
// A chunk is a tap and 128 channels of the input (im2col with WINDOW), or of the projection's input (im2col, 1x1 with a stride).
// Bytes: every weight once per tile of pixels, the input once per 64 channels, the output once.
// Barriers: `full[i]` orders the copies of chunk i before its products; the cluster's barriers order all partial sums before they are
// read, and all reads before a block exits.
//
// SPLIT (1, 2, 4 or 8), CHUNKS (of the main branch), PROJECTION_CHUNKS, WINDOW, RESIDUAL, LOGITS.
#include "epilogue.cuh"
#include "wgmma.cuh"

constexpr int TOTAL = CHUNKS + PROJECTION_CHUNKS, CHUNKS_EACH = (TOTAL + SPLIT - 1) / SPLIT, STAGE = 2 * 64 * 128;
constexpr int PAIRS = 8 / SPLIT;  // column pairs of a thread that one block finishes
constexpr int PARTIAL = 8 * 128 * 16;  // bytes: [column pair][thread] of four sums

// The address of `address` in block `rank` of the cluster (mapa), and a load from there (9.7.9.8).
DEVICE int4 load_cluster(u32 address, u32 rank) {
  int4 v;
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %4, %5;\n"
      "ld.shared::cluster.v4.s32 {%0, %1, %2, %3}, [remote];\n}"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "r"(address), "r"(rank)
      : "memory");
  return v;
}
// The sums of one column pair over all blocks: (low row, two channels), (high row, two channels).
DEVICE int4 sum_of_blocks(u32 address) {
  int4 sum = load_cluster(address, 0);
#pragma unroll
  for (int rank = 1; rank < SPLIT; rank++) {
    const int4 v = load_cluster(address, rank);
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  return sum;
}

extern "C" __global__ void __cluster_dims__(SPLIT, 1, 1) __launch_bounds__(128, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
                const __grid_constant__ TensorMap projected, const __grid_constant__ TensorMap projection_weights, const int pixels,
                const int height, const int width, const int channels, const int stride, const int padding, const int kernel,
                const int outputs, const int projection_stride, const int classes, const u8* residual, u8* output,
                const float4* constants, const float4* projection_constants, const float residual_multiplier) {
  extern __shared__ __align__(1024) u8 shared[];
  const u32 stages = shared_address(shared), partial = stages + CHUNKS_EACH * STAGE;
  const u32 full = partial + PARTIAL * (PROJECTION_CHUNKS ? 2 : 1);
  const int thread = threadIdx.x, g = (thread & 31) >> 2, t = thread & 3, rank = cluster_rank();
  const int tiles_n = outputs / 64, tile = blockIdx.x / SPLIT, n0 = tile % tiles_n * 64, m0 = tile / tiles_n * 64;
  if (m0 >= pixels) return;  // the whole cluster
  if (thread == 0) {
    for (int i = 0; i < CHUNKS_EACH; i++) barrier_init(full + 8 * i, 1);
    barrier_init_fence();
#pragma unroll 1
    for (int i = 0; i < CHUNKS_EACH; i++) {
      const int k = i * SPLIT + rank;
      if (k >= TOTAL) break;
      barrier_expect(full + 8 * i, STAGE);
      const bool side = k >= CHUNKS;
      copy_2d(stages + i * STAGE + 64 * 128, side ? &projection_weights : &weights, full + 8 * i, (side ? k - CHUNKS : k) * 128, n0);
    }
  }
  wait_for_predecessor();
  if (thread == 0) {
    const int column = m0 % width, row = m0 / width % height, image = m0 / width / height, chunks_a_tap = channels / 128;
#pragma unroll 1
    for (int i = 0; i < CHUNKS_EACH; i++) {
      const int k = i * SPLIT + rank;
      if (k >= TOTAL) break;
      const u32 to = stages + i * STAGE;
      if (k >= CHUNKS)
        copy_window(to, &projected, full + 8 * i, (k - CHUNKS) * 128, column * projection_stride, row * projection_stride, image, 0, 0);
      else if (WINDOW)
        copy_window(to, &input, full + 8 * i, k % chunks_a_tap * 128, column * stride - padding, row * stride - padding, image,
                    k / chunks_a_tap % kernel, k / chunks_a_tap / kernel);
      else
        copy_2d(to, &input, full + 8 * i, k * 128, m0);
    }
  }
  __syncthreads();
  let_successor_start();

  int sums[32], projection[32];
#pragma unroll
  for (int i = 0; i < 32; i++) sums[i] = projection[i] = 0;
  auto add_chunks = [&](int (&into)[32], int first, int last) {  // chunks first .. last - 1 of K, those of this block
#pragma unroll 1
    for (int i = (first - rank + SPLIT - 1) / SPLIT; i * SPLIT + rank < last; i++) {
      barrier_wait(full + 8 * i, 0);
      const u32 a = stages + i * STAGE;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 128; k += 32) multiply_u8_s8(into, row_descriptor<128>(a + k), row_descriptor<128>(a + 64 * 128 + k), 1);
      wgmma_commit();
      wgmma_wait<0>();
    }
  };
  add_chunks(sums, 0, CHUNKS);
  if (PROJECTION_CHUNKS) add_chunks(projection, CHUNKS, TOTAL);
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const u32 at = partial + (j * 128 + thread) * 16;
    store_shared(at, make_uint4(sums[4 * j], sums[4 * j + 1], sums[4 * j + 2], sums[4 * j + 3]));
    if (PROJECTION_CHUNKS)
      store_shared(at + PARTIAL, make_uint4(projection[4 * j], projection[4 * j + 1], projection[4 * j + 2], projection[4 * j + 3]));
  }
  sync_cluster();
  const int low = m0 + (thread >> 5) * 16 + g;
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    const int j = rank * PAIRS + i, channel = n0 + 16 * t + 2 * j;
    const int4 sum = sum_of_blocks(partial + (j * 128 + thread) * 16);
    // Two channels of quarter j / 2 in the table of 64 channels (epilogue.cuh, Constants).
    const float2* table = (const float2*)(constants + n0 / 64 * 32 + j / 2 * 8 + t) + (j & 1);
    const float2 multiplier = table[0], bias = table[8];
    float2 add_low = bias, add_high = bias;
    if (RESIDUAL) {
      const u16* added = (const u16*)(residual + (size_t)low * outputs + channel);
      const u32 bytes = (low < pixels ? added[0] : 0) | (u32)(low + 8 < pixels ? added[4 * outputs] : 0) << 16;
      add_low.x = __fmaf_rn(byte_as_float<0>(bytes), residual_multiplier, bias.x);
      add_low.y = __fmaf_rn(byte_as_float<1>(bytes), residual_multiplier, bias.y);
      add_high.x = __fmaf_rn(byte_as_float<2>(bytes), residual_multiplier, bias.x);
      add_high.y = __fmaf_rn(byte_as_float<3>(bytes), residual_multiplier, bias.y);
    }
    if (PROJECTION_CHUNKS) {
      const int4 side = sum_of_blocks(partial + PARTIAL + (j * 128 + thread) * 16);
      const float2 m = *((const float2*)(projection_constants + n0 / 64 * 32 + j / 2 * 8 + t) + (j & 1));
      add_low = make_float2(__fmaf_rn((float)side.x, m.x, bias.x), __fmaf_rn((float)side.y, m.y, bias.y));
      add_high = make_float2(__fmaf_rn((float)side.z, m.x, bias.x), __fmaf_rn((float)side.w, m.y, bias.y));
    }
    const float a = __fmaf_rn((float)sum.x, multiplier.x, add_low.x), b = __fmaf_rn((float)sum.y, multiplier.y, add_low.y);
    const float c = __fmaf_rn((float)sum.z, multiplier.x, add_high.x), d = __fmaf_rn((float)sum.w, multiplier.y, add_high.y);
    if (LOGITS) {
      float* logits = (float*)output + (size_t)low * classes + channel;
      if (low < pixels && channel < classes) logits[0] = a;
      if (low < pixels && channel + 1 < classes) logits[1] = b;
      if (low + 8 < pixels && channel < classes) logits[8 * classes] = c;
      if (low + 8 < pixels && channel + 1 < classes) logits[8 * classes + 1] = d;
    } else {
      const u32 bytes = pack_bytes(a, b, c, d);
      u16* to = (u16*)(output + (size_t)low * outputs + channel);
      if (low < pixels) to[0] = (u16)bytes;
      if (low + 8 < pixels) to[4 * outputs] = (u16)(bytes >> 16);
    }
  }
  sync_cluster();
}
