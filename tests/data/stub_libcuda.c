// A stand-in of NVIDIA's libcuda.so.1 for cuda-bindings: device memory is the host's, kernels only show their arguments.
// STUB_CUDA is the CUDA version it claims; as the real driver, it does not give out functions of later versions.
// STUB_FAIL names one function that fails with status STUB_STATUS.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int claimed(void) {
  const char* text = getenv("STUB_CUDA");
  return text ? atoi(text) : 12000;
}

static int status_of(const char* function) {
  const char* name = getenv("STUB_FAIL");
  return name && strcmp(name, function) == 0 ? atoi(getenv("STUB_STATUS")) : 0;
}

#define BEGIN                               \
  {                                         \
    const int status = status_of(__func__); \
    if (status) return status;              \
  }

static int recording, depth;
static const char* last_name;

// Handles of devices begin at 40; there are STUB_COUNT.
static int count(void) { return getenv("STUB_COUNT") ? atoi(getenv("STUB_COUNT")) : 1; }
static int unknown(int device) { return device < 40 || device >= 40 + count(); }

int cuInit(unsigned flags) { BEGIN return flags; }
int cuDriverGetVersion(int* version) { BEGIN *version = claimed(); return 0; }
int cuDeviceGetCount(int* number) { BEGIN *number = count(); return 0; }
int cuDeviceGet(int* device, int ordinal) { BEGIN *device = ordinal + 40; return 0; }
int cuDeviceGetName(char* name, int size, int device) { BEGIN strncpy(name, unknown(device) ? "?" : "Stub H100", size); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  BEGIN *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 132 : -1;
  return unknown(device);
}
int cuDeviceGetPCIBusId(char* id, int size, int device) { BEGIN strncpy(id, device == 40 ? "0000:1b:00.0" : "0000:5d:00.0", size); return unknown(device); }
int cuDeviceTotalMem(size_t* bytes, int device) { BEGIN *bytes = 80ull << 30; return unknown(device); }
int cuDevicePrimaryCtxRetain(void** context, int device) { BEGIN *context = (void*)0xC0; return unknown(device); }
int cuCtxPushCurrent(void* context) { BEGIN depth++; return context == (void*)0xC0 ? 0 : 201; }
int cuCtxPopCurrent(void** context) { BEGIN *context = (void*)0xC0; return depth-- > 0 ? 0 : 201; }
int cuMemGetInfo(size_t* available, size_t* total) { BEGIN *available = 70ull << 30; *total = 80ull << 30; return depth ? 0 : 201; }
int cuMemAlloc(uint64_t* address, size_t size) { BEGIN *address = (uint64_t)aligned_alloc(256, (size + 255) / 256 * 256); return depth ? 0 : 201; }
int cuMemFree(uint64_t address) { BEGIN free((void*)address); return 0; }
int cuMemHostAlloc(void** address, size_t size, unsigned flags) { BEGIN *address = malloc(size); return flags; }
int cuMemFreeHost(void* address) { BEGIN free(address); return 0; }
int cuMemcpyHtoDAsync(uint64_t to, const void* from, size_t size, void* stream) { BEGIN memcpy((void*)to, from, size); return stream != (void*)0x50; }
// Called by symbol: count copies, all with the first attributes.
int cuMemcpyBatchAsync(uint64_t* to, uint64_t* from, size_t* sizes, size_t count, const int* attributes, size_t* first, size_t kinds, size_t* failed, void* stream) {
  BEGIN
  for (size_t i = 0; i < count; i++) memcpy((void*)to[i], (void*)from[i], sizes[i]);
  *failed = -1;
  return claimed() < 12080 || attributes[0] != 1 || attributes[5] || *first || kinds != 1 || stream != (void*)0x50;
}
int cuMemcpyDtoHAsync(void* to, uint64_t from, size_t size, void* stream) { BEGIN memcpy(to, (void*)from, size); return stream != (void*)0x50; }
int cuMemcpyDtoDAsync(uint64_t to, uint64_t from, size_t size, void* stream) { BEGIN memcpy((void*)to, (void*)from, size); return stream != (void*)0x50; }
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void* stream) { BEGIN memset((void*)to, value, size); return stream != (void*)0x50; }
int cuStreamCreate(void** stream, unsigned flags) { BEGIN *stream = (void*)0x50; return flags != 1; }
int cuStreamDestroy(void* stream) { BEGIN return stream != (void*)0x50; }
int cuStreamSynchronize(void* stream) { BEGIN return stream != (void*)0x50; }
int cuStreamWaitEvent(void* stream, void* event, unsigned flags) { BEGIN return stream != (void*)0x50 || (uintptr_t)event >> 4 != 0xE || flags; }
int cuEventCreate(void** event, unsigned flags) { BEGIN *event = (void*)(uintptr_t)(0xE0 + flags); return flags != 0 && flags != 2; }
int cuEventRecord(void* event, void* stream) { BEGIN return (uintptr_t)event >> 4 != 0xE || stream != (void*)0x50; }
int cuEventSynchronize(void* event) { BEGIN return (uintptr_t)event >> 4 != 0xE; }
int cuEventElapsedTime(float* milliseconds, void* first, void* last) { BEGIN *milliseconds = 1.5f; return first != (void*)0xE0 || last != (void*)0xE0; }
static int cuEventElapsedTime_v2(float* milliseconds, void* first, void* last) { BEGIN *milliseconds = 2.5f; return first != (void*)0xE0 || last != (void*)0xE0; }
int cuEventDestroy(void* event) { BEGIN return (uintptr_t)event >> 4 != 0xE; }
int cuModuleLoadData(void** module, const void* image) { BEGIN *module = (void*)0xA0; return memcmp(image, "\177ELF", 4) ? 200 : 0; }
int cuModuleUnload(void* module) { BEGIN return module != (void*)0xA0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  BEGIN *function = (void*)0xF0;
  last_name = strdup(name);
  return module != (void*)0xA0 ? 1 : strcmp(name, "show") ? 500 : 0;
}
int cuFuncSetAttribute(void* function, int attribute, int value) { BEGIN return function != (void*)0xF0 || attribute != 8 || value != 2048; }

struct Configuration {  // CUlaunchConfig; an attribute (CUlaunchAttribute) is a number, 4 bytes of padding, and 64 bytes of value
  unsigned gx, gy, gz, bx, by, bz, shared;
  void* stream;
  const int32_t* attributes;
  unsigned count;
};

// The "kernel" writes what it was given to the address that is its second argument:
// map (128 bytes), whether it was aligned, int32, float32, grid, threads, shared memory, whether it may begin early.
int cuLaunchKernelEx(const struct Configuration* c, void* function, void** parameters, void** extra) {
  BEGIN if (function != (void*)0xF0 || c->gy * c->gz * c->by * c->bz != 1 || c->stream != (void*)0x50 || extra) return 1;
  const int32_t early = c->count == 1 && c->attributes[0] == 6 && c->attributes[2] == 1;
  if (c->count && !early) return 1;
  if (recording) return 0;
  char* out = *(char**)parameters[1];
  const int32_t sizes[5] = {(uintptr_t)parameters[0] % 64 == 0, (int32_t)c->gx, (int32_t)c->bx, (int32_t)c->shared, early};
  memcpy(out, parameters[0], 128);
  memcpy(out + 128, parameters[2], 4);
  memcpy(out + 132, parameters[3], 4);
  memcpy(out + 136, sizes, sizeof sizes);
  return 0;
}

// A tensor map of this stand-in holds the arguments as 32 uint32.
int cuTensorMapEncodeTiled(uint32_t* map, int type, uint32_t rank, void* address, const uint64_t* extents, const uint64_t* strides, const uint32_t* box,
                           const uint32_t* steps, int interleave, int swizzle, int promotion, int fill) {
  BEGIN memset(map, 0, 128);
  const uint32_t first[8] = {(uint32_t)type, rank, (uint32_t)(uintptr_t)address, (uint32_t)interleave, (uint32_t)swizzle, (uint32_t)promotion, (uint32_t)fill, 0};
  memcpy(map, first, sizeof first);
  for (uint32_t i = 0; i < rank; i++) {
    map[8 + i] = (uint32_t)extents[i];
    map[14 + i] = i + 1 < rank ? (uint32_t)strides[i] : 0;
    map[20 + i] = box[i];
    map[26 + i] = steps[i];
  }
  return 0;
}
int cuTensorMapEncodeIm2col(uint32_t* map, int type, uint32_t rank, void* address, const uint64_t* extents, const uint64_t* strides, const int* lower,
                            const int* upper, uint32_t channels, uint32_t pixels, const uint32_t* steps, int interleave, int swizzle, int promotion, int fill) {
  const uint32_t corners[5] = {(uint32_t)lower[0], (uint32_t)lower[1], (uint32_t)upper[0], (uint32_t)upper[1], channels};
  const int status = cuTensorMapEncodeTiled(map, type, rank, address, extents, strides, corners, steps, interleave, swizzle, promotion, fill);
  map[24] = channels;
  map[25] = pixels;
  return status ? status : status_of(__func__);
}

int cuStreamBeginCapture(void* stream, int mode) { BEGIN recording = 1; return stream != (void*)0x50 || mode != 1; }
int cuStreamEndCapture(void* stream, void** graph) { BEGIN recording = 0; *graph = (void*)0x60; return stream != (void*)0x50; }
int cuGraphInstantiate(void** executable, void* graph, uint64_t flags) { BEGIN *executable = (void*)0x61; return graph != (void*)0x60 || flags; }
int cuGraphDestroy(void* graph) { BEGIN return graph != (void*)0x60; }
int cuGraphLaunch(void* executable, void* stream) { BEGIN return executable != (void*)0x61 || stream != (void*)0x50; }
int cuGraphExecDestroy(void* executable) { BEGIN return executable != (void*)0x61; }

int cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, int* found);

#define OFFER(name, since) {#name, (void*)name, since}
static const struct {
  const char* name;
  void* function;
  int since;
} offered[] = {
    {"cuGetProcAddress", (void*)cuGetProcAddress_v2, 12000}, {"cuEventElapsedTime", (void*)cuEventElapsedTime_v2, 12080}, OFFER(cuInit, 2000), OFFER(cuDriverGetVersion, 2020), OFFER(cuDeviceGetCount, 2000),
    OFFER(cuDeviceGet, 2000), OFFER(cuDeviceGetName, 2000), OFFER(cuDeviceGetAttribute, 2000), OFFER(cuDeviceTotalMem, 3020), OFFER(cuDeviceGetPCIBusId, 4010),
    OFFER(cuDevicePrimaryCtxRetain, 7000), OFFER(cuCtxPushCurrent, 4000), OFFER(cuCtxPopCurrent, 4000), OFFER(cuMemGetInfo, 3020), OFFER(cuMemAlloc, 3020),
    OFFER(cuMemFree, 3020), OFFER(cuMemHostAlloc, 2020), OFFER(cuMemFreeHost, 2000), OFFER(cuMemcpyHtoDAsync, 3020), OFFER(cuMemcpyDtoHAsync, 3020),
    OFFER(cuMemcpyDtoDAsync, 3020), OFFER(cuMemsetD8Async, 3020), OFFER(cuStreamCreate, 2000), OFFER(cuStreamDestroy, 4000), OFFER(cuStreamSynchronize, 2000),
    OFFER(cuStreamWaitEvent, 3020), OFFER(cuEventCreate, 2000), OFFER(cuEventRecord, 2000), OFFER(cuEventSynchronize, 2000), OFFER(cuEventElapsedTime, 2000),
    OFFER(cuEventDestroy, 4000), OFFER(cuModuleLoadData, 2000), OFFER(cuModuleUnload, 2000), OFFER(cuModuleGetFunction, 2000), OFFER(cuFuncSetAttribute, 9000),
    OFFER(cuLaunchKernelEx, 11060), OFFER(cuTensorMapEncodeTiled, 12000), OFFER(cuTensorMapEncodeIm2col, 12000), OFFER(cuStreamBeginCapture, 10010),
    OFFER(cuStreamEndCapture, 10000), {"cuGraphInstantiateWithFlags", (void*)cuGraphInstantiate, 11040}, OFFER(cuGraphDestroy, 10000), OFFER(cuGraphLaunch, 10000), OFFER(cuGraphExecDestroy, 10000),
};

// CUDA driver API, cuGetProcAddress: the newest variant up to `version`; a version above the driver's own is invalid.
int cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, int* found) {
  *function = NULL;
  if (found) *found = 1;
  if (version > claimed() || flags > 2) return 1;
  for (size_t i = 0; i < sizeof offered / sizeof offered[0]; i++)
    if (strcmp(offered[i].name, symbol) == 0 && offered[i].since <= version) {
      *function = offered[i].function;
      if (found) *found = 0;
      return 0;
    }
  return 500;
}
