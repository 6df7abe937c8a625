// float32 -> int8, element by element, as ONNX QuantizeLinear: saturate(round half even(x / scale)). Four elements a thread.
#include "hopper.cuh"

DEVICE u32 quantize(float x, float scale) {
  const int rounded = __float2int_rn(__fdiv_rn(x, scale));
  return (u32)min(max(rounded, -128), 127) & 0xff;
}

extern "C" __global__ void __launch_bounds__(256) KERNEL_NAME(const float4* input, u32* output, const int quads, const float scale) {
  wait_for_predecessor();
  let_successor_start();
  for (int i = blockIdx.x * 256 + threadIdx.x; i < quads; i += gridDim.x * 256) {
    const float4 v = input[i];
    output[i] = quantize(v.x, scale) | quantize(v.y, scale) << 8 | quantize(v.z, scale) << 16 | quantize(v.w, scale) << 24;
  }
}
