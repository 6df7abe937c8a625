// Average pool: input [images, PIXELS, channels] bytes -> output [images, channels] bytes.
//
// A thread sums 16 channels of one image: pairs of 16-bit sums in one register (49 * 255 < 65536). Input read once.
// PIXELS (at most 257).
#include "epilogue.cuh"

static_assert(PIXELS * 255 < 65536, "sums are 16 bit");

extern "C" __global__ void __launch_bounds__(128) KERNEL_NAME(const uint4* input, uint4* output, const int units, const float multiplier) {
  const int blocks = (units + 127) / 128;  // of one image; a unit is 16 channels
  const int unit = blockIdx.x % blocks * 128 + threadIdx.x, image = blockIdx.x / blocks;
  wait_for_predecessor();
  let_successor_start();
  if (unit >= units) return;
  u32 even[4] = {0, 0, 0, 0}, odd[4] = {0, 0, 0, 0};
#pragma unroll 7
  for (int i = 0; i < PIXELS; i++) {
    const uint4 v = input[((size_t)image * PIXELS + i) * units + unit];
#pragma unroll
    for (int q = 0; q < 4; q++) even[q] += quarter(v, q) & 0x00ff00ff, odd[q] += quarter(v, q) >> 8 & 0x00ff00ff;
  }
  u32 bytes[4];
#pragma unroll
  for (int q = 0; q < 4; q++)
    bytes[q] = pack_bytes(__fmul_rn((float)(int)(even[q] & 0xffff), multiplier), __fmul_rn((float)(int)(odd[q] & 0xffff), multiplier),
                          __fmul_rn((float)(int)(even[q] >> 16), multiplier), __fmul_rn((float)(int)(odd[q] >> 16), multiplier));
  output[(size_t)image * units + unit] = make_uint4(bytes[0], bytes[1], bytes[2], bytes[3]);
}
