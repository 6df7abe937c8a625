// float32 or float16 -> int8, element by element, as ONNX QuantizeLinear: saturate(round half even(x / scale)), divided in float32.
// Four elements per thread.
//
// HALF (1: the input is float16).
#include "hopper.cuh"

DEVICE u32 quantize(float x, float scale) {
  const int rounded = __float2int_rn(__fdiv_rn(x, scale));
  return (u32)min(max(rounded, -128), 127) & 0xff;
}
DEVICE float from_half(u16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}

extern "C" __global__ void __launch_bounds__(256) KERNEL_NAME(const u8* input, u32* output, const int quads, const float scale) {
  wait_for_predecessor();
  let_successor_start();
  for (int i = blockIdx.x * 256 + threadIdx.x; i < quads; i += gridDim.x * 256) {
    float4 v;
    if (HALF) {
      const ushort4 h = ((const ushort4*)input)[i];
      v = make_float4(from_half(h.x), from_half(h.y), from_half(h.z), from_half(h.w));
    } else {
      v = ((const float4*)input)[i];
    }
    output[i] = quantize(v.x, scale) | quantize(v.y, scale) << 8 | quantize(v.z, scale) << 16 | quantize(v.w, scale) << 24;
  }
}
