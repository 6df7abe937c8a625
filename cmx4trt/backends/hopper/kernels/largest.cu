// Argmax: logits [images, classes] float32 -> class [images] int32, the first of the largest. One warp per image.
#include "hopper.cuh"

extern "C" __global__ void __launch_bounds__(32) KERNEL_NAME(const float* logits, int* output, const int classes) {
  const int image = blockIdx.x, lane = threadIdx.x;
  wait_for_predecessor();
  let_successor_start();
  const float* row = logits + (size_t)image * classes;
  float best = row[0];
  int index = 0;
  for (int i = lane; i < classes; i += 32)
    if (row[i] > best || (row[i] == best && i < index)) best = row[i], index = i;
#pragma unroll
  for (int distance = 16; distance; distance >>= 1) {
    const float other = __shfl_down_sync(0xffffffffu, best, distance);
    const int other_index = __shfl_down_sync(0xffffffffu, index, distance);
    if (other > best || (other == best && other_index < index)) best = other, index = other_index;
  }
  if (lane == 0) output[image] = index;
}
