// A context, which decodes and samples.
#pragma once

#include "backend_sampling.h"
#include "kernels.h"

#include "ggml-cpu.h"
#include "llama.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

// gang runs a function on all threads of a ggml pool, in the few microseconds
// that waking threads of our own would take alone: as a compute graph of one
// operation.
struct gang {
    ggml_context *       ctx   = nullptr;
    ggml_cgraph *        graph = nullptr;
    std::vector<uint8_t> work;
    const std::function<void(int, int)> * body = nullptr;

    gang() {
        const ggml_init_params params = {ggml_tensor_overhead() * 4 + ggml_graph_overhead(), nullptr, true};
        ctx   = ggml_init(params);
        graph = ggml_new_graph(ctx);
        ggml_tensor * op = ggml_custom_4d(ctx, GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0, [](ggml_tensor *, int ith, int nth, void * self) {
            (*((gang *) self)->body)(ith, nth);
        }, GGML_N_TASKS_MAX, this);
        ggml_build_forward_expand(graph, op);
    }
    ~gang() { ggml_free(ctx); }
    gang(const gang &) = delete;
    gang & operator=(const gang &) = delete;

    // run calls f(i, n) for each i of the n threads of a pool, which belongs to the kernels. f must not throw.
    void run(const kernels & k, ggml_threadpool_t pool, int n_threads, const std::function<void(int, int)> & f) {
        body = &f;
        ggml_cplan plan = k.graph_plan(graph, n_threads, pool);
        work.resize(plan.work_size);
        plan.work_data = work.data();
        k.graph_compute(graph, &plan);
    }
};

struct serve_context {
    gang               sampling;
    std::unique_ptr<backend_sampling> backend;  // if tokens are drawn where the logits are
    std::vector<int32_t> drawn;   // of the rows that serve_plan was given: the number of a draw of backend, or -1
    std::vector<int32_t> wanted;  // batch indices of those rows that are drawn on the host
    const kernels &    processor = current_kernels();
    llama_context *    ctx  = nullptr;
    std::shared_ptr<ggml_threadpool> pool;  // perhaps another context's, too
    llama_batch        batch = {};
    int32_t            n_batch = 0;
    int32_t            n_vocab = 0;
    int32_t            n_threads = 1;
    std::atomic<bool>  abort{false};

    // logits returns a row of logits of the last decode; nullptr if it has none there.
    float * logits(int32_t index) { return backend ? backend->logits(index) : llama_get_logits_ith(ctx, index); }

    // plan_nothing makes the next decode copy all of its logits.
    void plan_nothing() {
        drawn.clear();
        wanted.clear();
        if (backend) {
            backend->draws.clear();
        }
    }
};
