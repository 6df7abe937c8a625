// The PTX instructions that the kernels use, one function each, and the wgmma descriptors.
// Sections refer to the PTX ISA manual, version 8.7. "Shared address" means a 32-bit address in the shared::cta window.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__

// CUtensorMap: 128 opaque bytes, passed by value as a __grid_constant__ argument.
struct alignas(64) TensorMap {
  u8 bytes[128];
};

// The 32-bit shared address of a generic pointer into shared memory.
DEVICE u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// ---- mbarrier (9.7.13.15) ----------------------------------------------------------------------------------------
// A barrier in shared memory that counts thread arrivals and bytes delivered by TMA. Its phase flips when both counts
// are reached; waiters specify the parity of the phase.

// mbarrier.init: a phase ends after `arrivals` arrivals (and all expected bytes).
DEVICE void barrier_init(u32 barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// fence.mbarrier_init: makes initialized barriers visible to TMA and to the other blocks of the cluster.
DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// mbarrier.arrive.expect_tx: one arrival, with `bytes` more expected from TMA in this phase.
DEVICE void barrier_expect(u32 barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// mbarrier.arrive: one arrival at a barrier of this block.
DEVICE void barrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// mapa + mbarrier.arrive: one arrival at the barrier at the same address in block `rank` of the cluster. Without .release
// and .cluster semantics, which compile to memory barriers (measured: 37 % of all stalls).
DEVICE void barrier_arrive_at(u32 barrier, u32 rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier), "r"(rank)
      : "memory");
}
// mbarrier.try_wait.parity: returns once the phase with this parity has ended.
DEVICE void barrier_wait(u32 barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra READY;\n"
      "bra AGAIN;\nREADY:\n}" ::"r"(barrier), "r"(parity)
      : "memory");
}

// ---- TMA: cp.async.bulk (9.7.9.25) -------------------------------------------------------------------------------
// Each copy is issued by one thread; its bytes count toward `barrier`. Coordinates are those of the first element.

// One box of a 2-dimensional tensor.
DEVICE void copy_2d(u32 to, const TensorMap* map, u32 barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}
// The same, delivered at the same shared address to every block of the cluster whose bit is set in `blocks`.
DEVICE void copy_2d_multicast(u32 to, const TensorMap* map, u32 barrier, int x, int y, u16 blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "h"(blocks)
      : "memory");
}
// One box of [image, row, column, channel]; elements outside an image arrive as zeros.
DEVICE void copy_4d(u32 to, const TensorMap* map, u32 barrier, int channel, int column, int row, int image) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(channel), "r"(column), "r"(row), "r"(image)
      : "memory");
}
// im2col mode (5.5.4): consecutive output pixels of a convolution, across rows and images, at tap (tap_x, tap_y) of its window.
DEVICE void copy_window(u32 to, const TensorMap* map, u32 barrier, int channel, int column, int row, int image, int tap_x,
                        int tap_y) {
  asm volatile(
      "cp.async.bulk.tensor.4d.im2col.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(to),
      "l"(map), "r"(barrier), "r"(channel), "r"(column), "r"(row), "r"(image), "h"((u16)tap_x), "h"((u16)tap_y)
      : "memory");
}
// Contiguous bytes; both addresses and the size are multiples of 16.
DEVICE void copy_bytes(u32 to, const void* from, int bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
               "r"(bytes), "r"(barrier)
               : "memory");
}

// ---- ordering between threads, and between threads and TMA or the tensor cores -----------------------------------

// fence.proxy.async (9.7.13.4): orders this thread's accesses to shared memory before those of TMA or wgmma after the
// next barrier. Needed after stores that wgmma reads, and after loads from memory that a copy will overwrite.
DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// bar.sync (9.7.13.1): waits for `threads` threads at named barrier `id`; 0 is __syncthreads.
DEVICE void sync_threads(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
// barrier.cluster (9.7.13.3): all threads of all blocks of the cluster.
DEVICE void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// %cluster_ctarank (10.19): which block of its cluster this is.
DEVICE u32 cluster_rank() {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// st.release / ld.acquire (9.7.9): a word of shared memory with which threads of one block synchronize.
DEVICE void store_release(u32 address, int value) {
  asm volatile("st.release.cta.shared::cta.s32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
DEVICE int load_acquire(u32 address) {
  int value;
  asm volatile("ld.acquire.cta.shared::cta.s32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}
// griddepcontrol (9.7.13.13): a programmatic dependent launch starts while its predecessor is still running. `wait` returns
// when the predecessor has finished and its writes are visible; in other launches both do nothing.
DEVICE void wait_for_predecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
DEVICE void let_successor_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- registers (9.7.19.5): setmaxnreg moves registers between the warpgroups of a block --------------------------
// All warpgroups together must not request more than the launch provides (registers per thread times threads), or the block
// waits forever.
template <int COUNT> DEVICE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> DEVICE void release_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }

// ---- memory ------------------------------------------------------------------------------------------------------
DEVICE uint4 load_shared(u32 address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
  return v;
}
DEVICE float2 load_shared_pair(u32 address) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(address));
  return v;
}
DEVICE void store_shared(u32 address, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
// stmatrix (9.7.15.6), transposed: a matrix of 8x8 16-bit elements, of which lane (g, t) has row g, columns 2t (low half) and 2t + 1.
// Column r goes, as 16 contiguous bytes, to the address given by lane r; the other lanes' addresses are not used.
DEVICE void store_matrix(u32 address, u32 elements) {
  asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(address), "r"(elements) : "memory");
}
// A load that bypasses L1, because every byte is read once.
DEVICE uint4 load_once(const void* address) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}
// Prefetches a line into L2 (9.7.9.15).
DEVICE void prefetch(const void* address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address)); }
DEVICE void store_global(void* address, uint4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// ---- wgmma (9.7.15): the matrix product of a warpgroup (4 warps), D[64, N] += A[64, 32] * B[N, 32] ----------------
// The products themselves (wgmma.cuh) are asynchronous: fence before the first, commit after the last, then wait.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory"); }

// Matrix descriptor (9.7.15.5.1) of a K-major operand: 8 rows of 16 bytes are a core matrix. Without swizzle, `leading` is the
// distance in bytes of the two core matrices along K, `stride` that of core matrices along M or N. Both may overlap, and a
// start address may be shifted by whole rows inside a swizzled tile: the swizzle works on address bits (base_offset stays 0).
enum Swizzle { SWIZZLE_NONE = 0, SWIZZLE_128 = 1, SWIZZLE_64 = 2 };
DEVICE u64 matrix_descriptor(u32 address, u32 leading, u32 stride, Swizzle swizzle) {
  return (u64)((address & 0x3FFFF) >> 4) | ((u64)(leading >> 4) << 16) | ((u64)(stride >> 4) << 32) | ((u64)swizzle << 62);
}
// Consecutive rows of ROW bytes (64 or 128), swizzled over ROW bytes, as written by a copy with the same swizzle.
template <int ROW> DEVICE u64 row_descriptor(u32 address) {
  static_assert(ROW == 64 || ROW == 128, "rows are 64 or 128 bytes");
  return ROW == 128 ? matrix_descriptor(address, 16, 1024, SWIZZLE_128) : matrix_descriptor(address, 16, 512, SWIZZLE_64);
}
