// Gather: samples in the host's page-locked memory, selected by a list of rows -> a small batch in device memory.
//
// A thread moves 16 bytes at a time, with IN_FLIGHT loads in flight: one load over PCIe takes more than a microsecond, so the amount
// in flight determines the rate (grid x 64 x 16 x IN_FLIGHT bytes). The list is in page-locked memory, too: one word per 4 KB.
// Bytes: each sample once over the link, once to device memory.
//
// Large batches are copied by the copy engines instead. Measured on an H100 with PCIe 5 x16, images/s of the network at batch 256
// while the next batch is fetched: 99,200 with nothing to fetch, 99,400 with copies, at best 93,500 with this kernel (8 to 132
// blocks of low priority, whole or in slices), because the network's blocks fill an SM, and wait for those that fetch.
//
// IN_FLIGHT.
#include "hopper.cuh"

constexpr int THREADS = 64;

// A load from host memory that bypasses caches, because every byte is read once.
DEVICE uint4 load_host(const uint4* address) {
  uint4 v;
  asm volatile("ld.global.cv.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address));
  return v;
}

// rows: which sample each image of the batch is; units: 16-byte units of a sample.
extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(const uint4* samples, const int* rows, uint4* batch, const int images, const int units) {
  wait_for_predecessor();
  let_successor_start();
  const int total = (units + THREADS * IN_FLIGHT - 1) / (THREADS * IN_FLIGHT);  // pieces of a sample
  for (int piece = blockIdx.x; piece < images * total; piece += gridDim.x) {
    const int image = piece / total, first = (piece - image * total) * THREADS * IN_FLIGHT + threadIdx.x;
    const uint4* from = samples + (size_t)__ldg(rows + image) * units;
    uint4* to = batch + (size_t)image * units;
    uint4 held[IN_FLIGHT];
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++)
      if (first + i * THREADS < units) held[i] = load_host(from + first + i * THREADS);
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++)
      if (first + i * THREADS < units) to[first + i * THREADS] = held[i];
  }
}
