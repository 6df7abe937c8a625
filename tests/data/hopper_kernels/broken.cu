extern "C" __global__ void KERNEL_NAME(float* data) { data[0] = not_declared; }
