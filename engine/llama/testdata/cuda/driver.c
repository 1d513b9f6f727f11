// A libcuda: INIT is what cuInit returns, VERSION what it supports.
#include <stddef.h>

int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }

int cuDriverGetVersion(int * version) {
    *version = VERSION;
    return 0;
}

int cuGetErrorName(int code, const char ** words) {
    *words = code == 304 ? "CUDA_ERROR_OPERATING_SYSTEM" : "CUDA_ERROR_OF_THE_TEST";
    return 0;
}

int cuGetErrorString(int code, const char ** words) {
    *words = code == 304 ? "OS call failed" : "words of the test";
    return 0;
}

#ifndef LACKS
int cuMemCreate(unsigned long long * handle, size_t size, const void * properties, unsigned long long flags) {
    *handle = size == 1 && properties == NULL && flags == 2 ? 7 : 0;
    return 0;
}
#endif
