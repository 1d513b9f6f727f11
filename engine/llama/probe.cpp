// probe.cpp tries devices: whether a driver initializes, gives memory, and computes.
#include "common_shim.h"

#include "ggml-backend.h"
#include "ggml.h"

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

// What a build has of GPU backends shows in what it links: asking ggml's registry would
// start the drivers.
#ifndef __APPLE__
extern "C" __attribute__((weak)) ggml_backend_reg_t ggml_backend_cuda_reg(void);
extern "C" __attribute__((weak)) ggml_backend_reg_t ggml_backend_vk_reg(void);
#endif

const char * serve_gpu_backends(void) noexcept {
#ifdef __APPLE__
    return "Metal";
#else
    const bool cuda = ggml_backend_cuda_reg != nullptr, vulkan = ggml_backend_vk_reg != nullptr;
    return cuda && vulkan ? "CUDA,Vulkan" : cuda ? "CUDA" : vulkan ? "Vulkan" : "";
#endif
}

namespace {

// The matrices' shapes: a has rows of depth, b has columns of depth.
constexpr int64_t depth = 64, rows = 32, columns = 16;

// Small whole numbers: their products' sums are exact in any order and in half precision,
// so that every device must give the same.
float a_at(int64_t row, int64_t i) { return (float) ((row * 3 + i * 5) % 7 - 3); }
float b_at(int64_t column, int64_t i) { return (float) ((column * 2 + i * 3) % 5 - 2); }

}  // namespace

struct serve_probe {
    ggml_backend_dev_t    device  = nullptr;
    ggml_backend_t        backend = nullptr;
    ggml_context *        ctx     = nullptr;
    ggml_backend_buffer_t buffer  = nullptr;
    ggml_cgraph *         graph   = nullptr;
    ggml_tensor *         a       = nullptr;
    ggml_tensor *         b       = nullptr;
    ggml_tensor *         product = nullptr;

    ~serve_probe() {
        ggml_backend_buffer_free(buffer);
        ggml_free(ctx);
        ggml_backend_free(backend);
    }
};

serve_probe * serve_probe_open(size_t device, serve_error * err) {
    return guard(err, [&]() -> serve_probe * {
        if (device >= ggml_backend_dev_count()) {
            throw std::runtime_error("there is no such device");
        }
        first_error.clear();
        std::unique_ptr<serve_probe> p(new serve_probe());
        p->device  = ggml_backend_dev_get(device);
        p->backend = ggml_backend_dev_init(p->device, nullptr);
        if (p->backend == nullptr) {
            throw std::runtime_error(llama_error("the backend does not initialize"));
        }
        return p.release();
    });
}

void serve_probe_close(serve_probe * p) { delete p; }

void serve_probe_memory(serve_probe * p, uint64_t * free, uint64_t * total) noexcept {
    size_t f = 0, t = 0;
    ggml_backend_dev_memory(p->device, &f, &t);
    *free  = f;
    *total = t;
}

void serve_probe_allocate(serve_probe * p, serve_error * err) {
    guard(err, [&] {
        first_error.clear();
        const ggml_init_params params = {ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true};
        p->ctx = ggml_init(params);
        p->a   = ggml_new_tensor_2d(p->ctx, GGML_TYPE_F32, depth, rows);
        p->b   = ggml_new_tensor_2d(p->ctx, GGML_TYPE_F32, depth, columns);
        // A library may multiply, for which it has kernels of its own. ggml's scale is
        // the backend's.
        p->product = ggml_scale(p->ctx, ggml_mul_mat(p->ctx, p->a, p->b), 2.0f);
        p->graph   = ggml_new_graph(p->ctx);
        ggml_build_forward_expand(p->graph, p->product);
        p->buffer = ggml_backend_alloc_ctx_tensors(p->ctx, p->backend);
        if (p->buffer == nullptr) {
            throw std::runtime_error(llama_error("no memory can be allocated"));
        }
        std::vector<float> a, b;
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t i = 0; i < depth; i++) {
                a.push_back(a_at(r, i));
            }
        }
        for (int64_t c = 0; c < columns; c++) {
            for (int64_t i = 0; i < depth; i++) {
                b.push_back(b_at(c, i));
            }
        }
        ggml_backend_tensor_set(p->a, a.data(), 0, a.size() * sizeof(float));
        ggml_backend_tensor_set(p->b, b.data(), 0, b.size() * sizeof(float));
    });
}

void serve_probe_compute(serve_probe * p, serve_error * err) {
    guard(err, [&] {
        if (p->buffer == nullptr) {
            throw std::runtime_error("no memory was allocated");
        }
        first_error.clear();
        const ggml_status status = ggml_backend_graph_compute(p->backend, p->graph);
        if (status != GGML_STATUS_SUCCESS) {
            throw std::runtime_error(llama_error(ggml_status_to_string(status)));
        }
        std::vector<float> product(rows * columns);
        ggml_backend_tensor_get(p->product, product.data(), 0, product.size() * sizeof(float));
        for (int64_t c = 0; c < columns; c++) {
            for (int64_t r = 0; r < rows; r++) {
                float want = 0;
                for (int64_t i = 0; i < depth; i++) {
                    want += a_at(r, i) * b_at(c, i);
                }
                want *= 2;
                const float got = product[c * rows + r];
                if (!(std::fabs(got - want) < 0.5f)) {  // NaN is wrong, too
                    throw std::runtime_error("it computes wrong numbers: " + std::to_string(got) + " instead of " +
                                             std::to_string(want));
                }
            }
        }
    });
}
