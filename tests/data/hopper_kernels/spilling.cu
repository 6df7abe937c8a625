// Indexes an array with what is known only at run time, so that it lies in local memory.
extern "C" __global__ void KERNEL_NAME(float* data, int where) {
  float values[64];
  for (int i = 0; i < 64; i++) values[i] = data[i * 32 + threadIdx.x];
  for (int i = 0; i < 64; i++) values[(i * where) & 63] += values[(i + where) & 63];
  for (int i = 0; i < 64; i++) data[i * 32 + threadIdx.x] = values[i];
}
