// cuda_loader.h finds NVIDIA's libraries when serve runs, so that a binary with CUDA starts where they are not.
#pragma once

#include <string>

// register_cuda makes ggml's CUDA backend known to it, in a build that has it and if the driver works here; it logs
// why if it does not.
void register_cuda();

// cuda_load_driver loads the driver, initializes it, and gives ggml's CUDA backend its functions. It returns why
// no device can be used, empty if they can. Call it before the backend is registered.
const std::string & cuda_load_driver();

// cuda_load_cublas loads cuBLAS and returns why it cannot be, empty if it is there. The backend needs it for some
// models and not for others; it is loaded when the first handle is asked for.
const std::string & cuda_load_cublas();
