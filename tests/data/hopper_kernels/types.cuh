// What NVRTC lacks without the headers of a CUDA toolkit.
#pragma once
typedef unsigned char uint8;
typedef unsigned int uint32;
typedef unsigned long long uint64;
struct alignas(64) TensorMap {
  uint64 opaque[16];
};
