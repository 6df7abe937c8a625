// Adds ADDEND to rows of 64 bytes: one tile of 16 rows a block, fetched with TMA. The smallest kernel with a tensor map.
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(128) KERNEL_NAME(const __grid_constant__ TensorMap map, uint8* out, int rows) {
  __shared__ alignas(128) uint8 tile[16 * 64];
  __shared__ alignas(8) uint64 full;
  const uint32 barrier = (uint32)__cvta_generic_to_shared(&full), destination = (uint32)__cvta_generic_to_shared(tile);
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier));
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" ::"r"(barrier) : "memory");
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(destination),
        "l"(&map), "r"(barrier), "r"(0), "r"((int)blockIdx.x * 16)
        : "memory");
  }
  __syncthreads();
  asm volatile("{\n.reg .pred p;\nL: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n@p bra D;\nbra L;\nD:\n}" ::"r"(barrier) : "memory");
  for (int i = threadIdx.x; i < 1024; i += 128)
    if ((int)blockIdx.x * 16 + i / 64 < rows) out[blockIdx.x * 1024 + i] = tile[i] + ADDEND;
}
