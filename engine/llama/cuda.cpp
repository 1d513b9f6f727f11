// cuda.cpp registers ggml's CUDA backend, if this build has it and NVIDIA's driver works.
#include "cuda_loader.h"

#include "common_shim.h"

#ifdef SERVE_CUDA
#include "ggml-backend.h"
#include "ggml-cuda.h"

#include <vector>

extern "C" void goServeLog(int32_t level, char * text);

void register_cuda() {
    const std::string & why = cuda_load_driver();
    if (!why.empty()) {
        std::string text = why;
        goServeLog(GGML_LOG_LEVEL_WARN, text.data());
        return;
    }

    // Before all others: where two show the same card, llama.cpp takes the first.
    std::vector<ggml_backend_reg_t> others;
    for (size_t i = 0; i < ggml_backend_reg_count(); i++) {
        others.push_back(ggml_backend_reg_get(i));
    }
    for (ggml_backend_reg_t reg : others) {
        ggml_backend_unload(reg);
    }

    ggml_backend_register(ggml_backend_cuda_reg());
    for (ggml_backend_reg_t reg : others) {
        ggml_backend_register(reg);
    }
}

char * serve_cublas(serve_error * err) {
    return guard(err, [] { return copy_string(cuda_load_cublas()); });
}

#else

void register_cuda() {}

char * serve_cublas(serve_error * err) {
    return guard(err, [] { return copy_string(""); });
}

#endif
