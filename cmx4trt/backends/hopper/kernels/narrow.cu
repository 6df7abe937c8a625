// float32 -> float16, element by element, round to nearest even.
#include "hopper.cuh"

extern "C" __global__ void __launch_bounds__(256) KERNEL_NAME(const float* input, u16* output, const int count) {
  wait_for_predecessor();
  let_successor_start();
  for (int i = blockIdx.x * 256 + threadIdx.x; i < count; i += gridDim.x * 256) {
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(input[i]));
    output[i] = half;
  }
}
