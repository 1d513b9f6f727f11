// The processor's kernels: ggml's CPU backend, compiled for one kind of processor after another (build.sh).
// One of them is registered at a time; a model or context keeps those that it was made with.
#pragma once

#include "ggml-backend.h"
#include "ggml-cpu.h"

struct kernels {
    const char * name;
    ggml_backend_reg_t (*init)(void);
    int (*score)(void);  // 0 where the processor lacks something that they use
    struct ggml_cplan (*graph_plan)(const struct ggml_cgraph *, int, struct ggml_threadpool *);
    enum ggml_status (*graph_compute)(struct ggml_cgraph *, struct ggml_cplan *);

    // threadpool_new and threadpool_free are ggml's functions of these names: a pool belongs to its kernels.
    ggml_threadpool_t threadpool_new(ggml_threadpool_params * params) const {
        return entry<decltype(ggml_threadpool_new)>("ggml_threadpool_new")(params);
    }
    void threadpool_free(ggml_threadpool_t pool) const {
        entry<decltype(ggml_threadpool_free)>("ggml_threadpool_free")(pool);
    }
    // use_reference is ggml_backend_cpu_set_use_ref: attention and products without tiles, and without splits by thread,
    // which llamafile's products are left out of, too (wrap/sgemm.c).
    void use_reference(ggml_backend_t backend, bool on) const {
        entry<decltype(ggml_backend_cpu_set_use_ref)>("ggml_backend_cpu_set_use_ref")(backend, on);
    }

  private:
    template <typename F> F * entry(const char * name) const {
        return (F *) ggml_backend_reg_get_proc_address(init(), name);
    }
};

// current_kernels returns those that are registered; if none are, it registers the best by llama.cpp's own score.
const kernels & current_kernels();
