// Calls functions of NVIDIA's libraries, as ggml's CUDA backend does.
#include <stddef.h>
#include <stdio.h>

int          cuMemCreate(unsigned long long * handle, size_t size, const void * properties, unsigned long long flags);
int          cuGetErrorString(int code, const char ** words);
int          cublasCreate_v2(void ** handle);
int          cublasGemmEx(void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int,
                          const void *, void *, int, int, int, int);
const char * cublasGetStatusString(int status);
int          cudaGetDeviceCount(int * count);

void use_driver(void) {
    unsigned long long handle = 0;
    const int code = cuMemCreate(&handle, 1, NULL, 2);
    printf("cuMemCreate: %d, handle %llu\n", code, handle);
    const char * words = NULL;
    if (code != 0 && cuGetErrorString(code, &words) == 0) {
        printf("cuGetErrorString: %s\n", words);
    }
}

void use_cublas(void) {
    void * handle = NULL;
    const int status = cublasCreate_v2(&handle);
    printf("cublasCreate: %d\n", status);
    if (status != 0) {
        printf("cublasGetStatusString: %s\n", cublasGetStatusString(status));
    }
    const int product = cublasGemmEx(handle, 1, 2, 3, 4, 5, NULL, NULL, 6, 7, NULL, 8, 9, NULL, NULL, 10, 11, 12, 13);
    printf("cublasGemmEx: %d\n", product);
}

int use_runtime(void) {
    int count = 0;
    return cudaGetDeviceCount(&count);
}
