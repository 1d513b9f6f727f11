#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"

#include "context.h"
#include "kernels.h"

#include "llama-context.h"
#include "llama.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

llama_context_params context_params(const serve_context_params & p) {
    llama_context_params cp = llama_context_default_params();
    cp.n_ctx                = p.n_ctx;
    cp.n_batch              = p.n_batch;
    cp.n_ubatch             = p.n_ubatch;
    cp.n_seq_max            = p.n_seq_max;
    cp.n_outputs_max        = p.n_outputs;
    cp.n_threads            = p.n_threads;
    cp.n_threads_batch      = p.n_threads;
    cp.type_k               = (ggml_type) p.type_k;
    cp.type_v               = (ggml_type) p.type_v;
    cp.pooling_type         = (enum llama_pooling_type) p.pooling;
    cp.kv_unified           = p.unified;
    cp.embeddings           = p.embeddings;
    cp.flash_attn_type      = (enum llama_flash_attn_type) p.flash_attn;
    cp.rope_scaling_type    = (enum llama_rope_scaling_type) p.rope_scaling;
    cp.rope_freq_base       = p.rope_freq_base;
    cp.rope_freq_scale      = p.rope_freq_scale;
    cp.yarn_ext_factor      = p.yarn_ext_factor;
    cp.yarn_attn_factor     = p.yarn_attn_factor;
    cp.yarn_beta_fast       = p.yarn_beta_fast;
    cp.yarn_beta_slow       = p.yarn_beta_slow;
    cp.yarn_orig_ctx        = p.yarn_orig_ctx;
    // A sliding-window cache forgets cells that prefix reuse needs when it rolls back.
    cp.swa_full             = true;
    cp.no_perf              = true;
    return cp;
}

int32_t sampled_rows(const serve_context_params & p) {
    return (int32_t) std::max(p.n_outputs == 0 ? p.n_batch : p.n_outputs, p.n_seq_max);
}

namespace {

// finish_sampling ends what a decode has done beside its graphs.
void finish_sampling(serve_context * ctx, serve_error * err) {
    if (!ctx->backend) {
        return;
    }
    try {
        ctx->backend->end();
    } catch (const std::exception &) {
        ctx->plan_nothing();
        if (!ctx->abort.load(std::memory_order_relaxed)) {
            throw;
        }
        fail(err, SERVE_ABORTED, "decode aborted");
    }
}

// decode computes a batch and says what came of it.
void decode(serve_context * ctx, const llama_batch & b, serve_error * err) {
    first_error.clear();
    if (ctx->backend) {
        std::vector<int32_t> seq(b.n_tokens);
        for (int32_t i = 0; i < b.n_tokens; i++) {
            seq[i] = b.seq_id[i][0];
        }
        ctx->backend->begin(b.n_tokens, seq.data(), b.logits, ctx->wanted);
    }
    const int32_t code = llama_decode(ctx->ctx, b);
    if (code != 0) {
        ctx->plan_nothing();  // it was for this batch
    }
    switch (code) {
        case 0: return finish_sampling(ctx, err);
        case 1: return fail(err, SERVE_NO_SLOT, "no KV cells for a batch of " + std::to_string(b.n_tokens) + " tokens");
        case 2: return fail(err, SERVE_ABORTED, "decode aborted");
        case -1: return fail(err, SERVE_INVALID, llama_error("invalid batch"));
        default: return fail(err, SERVE_FATAL, llama_error("decode failed"));
    }
}

// compute has f fill the context's batch, of n of what, and decode it.
template <typename F>
void compute(serve_context * ctx, int32_t n, const char * what, const int32_t * seq, serve_error * err, F f) {
    guard(err, [&] {
        if (n <= 0 || n > ctx->n_batch) {
            fail(err, SERVE_INVALID, "a batch of " + std::to_string(n) + " " + what + ", not 1 to " + std::to_string(ctx->n_batch));
            return;
        }
        llama_batch & b = ctx->batch;
        b.n_tokens      = n;
        for (int32_t i = 0; i < n; i++) {
            b.n_seq_id[i]  = 1;
            b.seq_id[i][0] = seq[i];
        }
        f(b);
    });
    if (err->code == SERVE_FAILED) {
        err->code = SERVE_FATAL;  // thrown out of llama_decode: nobody knows what the cells hold
    }
}

// start_threads returns threads that compute with the processor's kernels; none if there are too many.
std::shared_ptr<ggml_threadpool> start_threads(const kernels & k, const serve_context_params & params) {
    ggml_threadpool_params tp = ggml_threadpool_params_default(params.n_threads);
    tp.poll                   = params.poll;
    if (ggml_threadpool_t pool = k.threadpool_new(&tp)) {
        return {pool, [&k](ggml_threadpool_t p) { k.threadpool_free(p); }};
    }
    return nullptr;
}

}  // namespace

extern "C" {

serve_context * serve_context_new(serve_model * model, serve_context_params params, serve_error * err) {
    return guard(err, [&]() -> serve_context * {
        first_error.clear();
        auto ctx = std::make_unique<serve_context>();
        llama_context_params cp = context_params(params);
        if (params.backend_sampling) {
            ctx->backend = backend_sampling::make(model->model, sampled_rows(params), true);
        }
        if (ctx->backend) {
            ctx->backend->enter(cp);
        }
        cp.abort_callback_data  = &ctx->abort;
        cp.abort_callback       = [](void * flag) { return ((std::atomic<bool> *) flag)->load(std::memory_order_relaxed); };
        ctx->ctx = llama_init_from_model(model->model, cp);
        if (ctx->ctx == nullptr) {
            fail(err, SERVE_FAILED, llama_error("llama.cpp could not create a context"));
            return nullptr;
        }
        if (ctx->backend) {
            ctx->backend->attach(ctx->ctx);
        }
        ctx->pool = params.threads_of == nullptr ? start_threads(ctx->processor, params) : params.threads_of->pool;
        if (!ctx->pool) {
            llama_free(ctx->ctx);
            fail(err, SERVE_FAILED, "cannot start " + std::to_string(params.n_threads) + " threads");
            return nullptr;
        }
        llama_attach_threadpool(ctx->ctx, ctx->pool.get(), ctx->pool.get());
        ctx->n_batch = (int32_t) params.n_batch;
        ctx->n_threads = params.n_threads;
        ctx->n_vocab = llama_vocab_n_tokens(model->vocab);
        ctx->batch   = llama_batch_init(ctx->n_batch, 0, 1);
        return ctx.release();
    });
}

void serve_context_free(serve_context * ctx) {
    if (ctx == nullptr) {
        return;
    }
    llama_batch_free(ctx->batch);
    llama_free(ctx->ctx);
    delete ctx;
}

void serve_context_shape(const serve_context * ctx, uint32_t * n_ctx, uint32_t * n_ctx_seq) noexcept {
    *n_ctx     = llama_n_ctx(ctx->ctx);
    *n_ctx_seq = llama_n_ctx_seq(ctx->ctx);
}

bool serve_one_path(serve_context * ctx, bool on) noexcept {
    const ggml_backend_sched_t sched = ctx->ctx->get_sched();
    const int                  n     = ggml_backend_sched_get_n_backends(sched);
    for (int i = 0; i < n; i++) {
        const ggml_backend_dev_t device = ggml_backend_get_device(ggml_backend_sched_get_backend(sched, i));
        if (ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) {
            return false;
        }
    }
    for (int i = 0; i < n; i++) {
        ctx->processor.use_reference(ggml_backend_sched_get_backend(sched, i), on);
    }
    return true;
}

void serve_abort(serve_context * ctx, bool on) noexcept { ctx->abort.store(on, std::memory_order_relaxed); }

bool serve_samples(const serve_context * ctx) noexcept { return ctx->backend != nullptr; }

bool serve_model_offloads(const serve_model * model) noexcept { return logits_on_gpu(model->model); }

void serve_decode(serve_context * ctx, int32_t n, const int32_t * tokens, const int32_t * pos, const int32_t * seq,
                  const int8_t * output, serve_error * err) {
    compute(ctx, n, "tokens", seq, err, [&](llama_batch & b) {
        std::copy(tokens, tokens + n, b.token);
        std::copy(pos, pos + n, b.pos);
        std::copy(output, output + n, b.logits);
        decode(ctx, b, err);
    });
}

void serve_decode_media(serve_context * ctx, int32_t n, const float * embeddings, const int32_t * pos, const int32_t * grid,
                        const int32_t * seq, bool whole, serve_error * err) {
    compute(ctx, n, "embeddings", seq, err, [&](llama_batch & tokens) {
        // llama.cpp reads four rows of positions where the model has M-RoPE.
        std::vector<int32_t> positions(pos, pos + n);
        if (grid != nullptr) {
            positions.insert(positions.end(), grid, grid + 3 * n);
        }
        llama_batch b = tokens;
        b.token       = nullptr;
        b.embd        = const_cast<float *>(embeddings);
        b.pos         = positions.data();
        std::fill(b.logits, b.logits + n, 0);
        if (whole) {
            llama_set_causal_attn(ctx->ctx, false);
        }
        const auto causal = [ctx](void *) { llama_set_causal_attn(ctx->ctx, true); };
        const std::unique_ptr<void, decltype(causal)> reset(whole ? ctx : nullptr, causal);
        decode(ctx, b, err);
    });
}

bool serve_kv_remove(serve_context * ctx, int32_t seq, int32_t from) noexcept {
    return llama_memory_seq_rm(llama_get_memory(ctx->ctx), seq, from, -1);
}

void serve_kv_copy(serve_context * ctx, int32_t src, int32_t dst) noexcept {
    llama_memory_t mem = llama_get_memory(ctx->ctx);
    llama_memory_seq_rm(mem, dst, -1, -1);
    llama_memory_seq_cp(mem, src, dst, -1, -1);
}

void serve_kv_clear(serve_context * ctx) noexcept {
    // A context of an encoder has no memory.
    if (llama_memory_t mem = llama_get_memory(ctx->ctx)) {
        llama_memory_clear(mem, false);
    }
}

int32_t serve_kv_max(serve_context * ctx, int32_t seq) noexcept {
    return llama_memory_seq_pos_max(llama_get_memory(ctx->ctx), seq);
}

size_t serve_state_size(serve_context * ctx, int32_t seq) noexcept { return llama_state_seq_get_size(ctx->ctx, seq); }

// copy_cells makes the copies between buffers for which serve_kv_copy has asked: llama.cpp makes them with the next decode,
// and reads and writes a sequence's state without them.
static bool copy_cells(serve_context * ctx) noexcept {
    try {
        ctx->ctx->memory_update(false);
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

size_t serve_state_get(serve_context * ctx, int32_t seq, uint8_t * buf, size_t cap) noexcept {
    return copy_cells(ctx) ? llama_state_seq_get_data(ctx->ctx, buf, cap, seq) : 0;
}

size_t serve_state_set(serve_context * ctx, int32_t seq, const uint8_t * buf, size_t len) noexcept {
    return copy_cells(ctx) ? llama_state_seq_set_data(ctx->ctx, buf, len, seq) : 0;
}

void serve_logits(serve_context * ctx, int32_t i, float * out, serve_error * err) {
    guard(err, [&] {
        const float * logits = ctx->logits(i);
        if (logits == nullptr) {
            return fail(err, SERVE_INVALID, "no logits at batch index " + std::to_string(i));
        }
        memcpy(out, logits, sizeof(float) * ctx->n_vocab);
    });
}

void serve_embedding(serve_context * ctx, int32_t seq, int32_t i, float * out, int32_t n, serve_error * err) {
    guard(err, [&] {
        const float * e = llama_pooling_type(ctx->ctx) == LLAMA_POOLING_TYPE_NONE ? llama_get_embeddings_ith(ctx->ctx, i)
                                                                                  : llama_get_embeddings_seq(ctx->ctx, seq);
        if (e == nullptr) {
            return fail(err, SERVE_INVALID, "no embedding for sequence " + std::to_string(seq));
        }
        memcpy(out, e, sizeof(float) * n);
    });
}

}  // extern "C"
