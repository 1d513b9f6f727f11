// Does what serve does with CUDA: loads the driver, and cuBLAS only once a handle is asked for.
#include "cuda_loader.h"

#include <dlfcn.h>

#include <cstdio>

extern "C" void use_driver(void);
extern "C" void use_cublas(void);

// CUDA's runtime is linked.
extern "C" int cudaGetDeviceCount(int *) { return 0; }

int main() {
    printf("driver: %s\n", cuda_load_driver().c_str());
    use_driver();
    use_cublas();
    // Libraries that come later must not find what stands for their own functions.
    printf("visible: %s\n", dlsym(RTLD_DEFAULT, "cuMemCreate") == nullptr ? "no" : "yes");
}
