#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"

#include "cuda_loader.h"
#include "grammar.h"
#include "kernels.h"

#include "common.h"
#include "ggml-backend.h"
#include "json.h"
#include "llama.h"
#include "log.h"
#include "mtmd.h"
#include "sampling.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

// Exported by log.go and model.go.
extern "C" void goServeLog(int32_t level, char * text);
extern "C" bool goServeProgress(uintptr_t handle, float progress);

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
    const kernels &    processor = current_kernels();
    llama_context *    ctx  = nullptr;
    ggml_threadpool_t  pool = nullptr;
    llama_batch        batch = {};
    int32_t            n_batch = 0;
    int32_t            n_vocab = 0;
    int32_t            n_threads = 1;
    std::atomic<bool>  abort{false};
};

struct serve_sampler {
    common_sampler * smpl   = nullptr;
    bool             greedy = false;          // the token of the greatest logit, once the biases are added
    bool             picks  = false;          // pick draws; otherwise the chain's last sampler does (mirostat)
    uint32_t         seed   = 0;
    uint64_t         drawn  = 0;              // tokens so far
    mutable uint64_t tries  = 0;              // draws for the token that comes
    std::vector<llama_logit_bias> biases;
    // Where nothing comes before min_p, tokens so far below the best need not be looked at.
    float              below  = INFINITY;
    // Not common_sampler's: that asks about every token whenever the drawn one does not fit.
    std::unique_ptr<grammar> rules;
};

struct serve_parser {
    common_chat_parser_params params;
};

thread_local std::string first_error;

namespace {

thread_local std::string line;
thread_local ggml_log_level line_level = GGML_LOG_LEVEL_INFO;

void on_log(ggml_log_level level, const char * text, void *) {
    if (level != GGML_LOG_LEVEL_CONT) {
        line_level = level;
    }
    line += text;
    if (line.empty() || line.back() != '\n') {
        return;
    }
    line.pop_back();
    // The grammar's debug lines quote what a model wrote for a user.
    const bool quotes_user = line_level == GGML_LOG_LEVEL_DEBUG && line.rfind("Grammar ", 0) == 0;
    if (!line.empty() && !quotes_user) {
        if (line_level == GGML_LOG_LEVEL_ERROR && first_error.empty()) {
            first_error = line;
        }
        goServeLog((int32_t) (quiet_log ? GGML_LOG_LEVEL_DEBUG : line_level), line.data());
    }
    line.clear();
}

llama_model_params to_llama(const serve_model_params & p) {
    llama_model_params mp = llama_model_default_params();
    mp.n_gpu_layers       = p.gpu_layers;
    mp.load_mode          = p.mmap && !p.no_alloc ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    mp.vocab_only         = p.vocab_only;
    mp.no_alloc           = p.no_alloc;
    mp.use_extra_bufts    = !p.no_repack;
    if (p.cpu_only) {
        static ggml_backend_dev_t none[] = {nullptr};
        mp.devices = none;
    }
    if (p.progress != 0) {
        mp.progress_callback_user_data = (void *) p.progress;
        mp.progress_callback           = [](float progress, void * handle) {
            return goServeProgress((uintptr_t) handle, progress);
        };
    }
    return mp;
}

llama_context_params to_llama(const serve_context_params & p) {
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
    // A sliding-window cache forgets cells that prefix reuse needs when it rolls back.
    cp.swa_full             = true;
    cp.no_perf              = true;
    return cp;
}

// raw_logprobs fills the row's logprob and its most probable alternatives from the
// model's own distribution. It reads the logits once for the normaliser, once for the top.
void raw_logprobs(const float * logits, int32_t n_vocab, serve_row & row, int32_t * top_tokens, float * top_logprobs) {
    const float max = *std::max_element(logits, logits + n_vocab);
    double      sum = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        sum += std::exp(logits[i] - max);
    }
    const float norm = max + (float) std::log(sum);
    row.logprob      = logits[row.token] - norm;

    const int32_t n = std::min(row.n_top, n_vocab);
    // A heap of the best n seen so far, its worst on top; equal logits keep the lower token first.
    auto better = [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
    std::vector<int32_t> heap;
    heap.reserve(n + 1);
    for (int32_t i = 0; i < n_vocab && n > 0; i++) {
        if ((int32_t) heap.size() < n) {
            heap.push_back(i);
            std::push_heap(heap.begin(), heap.end(), better);
        } else if (better(i, heap.front())) {
            std::pop_heap(heap.begin(), heap.end(), better);
            heap.back() = i;
            std::push_heap(heap.begin(), heap.end(), better);
        }
    }
    std::sort_heap(heap.begin(), heap.end(), better);
    for (int32_t i = 0; i < n; i++) {
        top_tokens[i]   = heap[i];
        top_logprobs[i] = logits[heap[i]] - norm;
    }
    row.n_top = n;
}

// argmax returns the first of the greatest logits; -1 when none is above -INFINITY
// (a model that computes NaN). Sixteen lanes, so that the compiler uses vectors.
int32_t argmax(const float * logits, int32_t n) {
    constexpr int32_t lanes = 16;
    float best[lanes];
    std::fill(best, best + lanes, -INFINITY);
    int32_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (int32_t k = 0; k < lanes; k++) {
            best[k] = logits[i + k] > best[k] ? logits[i + k] : best[k];
        }
    }
    float max = *std::max_element(best, best + lanes);
    for (; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    if (max == -INFINITY) {
        return -1;
    }
    return (int32_t) (std::find(logits, logits + n, max) - logits);
}

// changed_logits biases tokens of a row, or takes them out of it, for as long as it
// lives: other rows and the log-probabilities read the logits too.
struct changed_logits {
    explicit changed_logits(float * logits) : logits(logits) {}
    ~changed_logits() {
        for (size_t i = kept.size(); i-- > 0;) {
            logits[kept[i].first] = kept[i].second;
        }
    }
    changed_logits(const changed_logits &) = delete;
    changed_logits & operator=(const changed_logits &) = delete;

    void add(llama_token token, float bias) {
        kept.emplace_back(token, logits[token]);
        logits[token] += bias;
    }
    void hide(llama_token token) { add(token, -INFINITY); }

  private:
    float *                                     logits;
    std::vector<std::pair<llama_token, float>> kept;
};

// best_of returns the token of the greatest logit, the first of equals; -1 when none is finite.
llama_token best_of(const float * logits, const std::vector<llama_token> & tokens) {
    llama_token best = -1;
    for (const llama_token t : tokens) {
        const bool better = best < 0 ? logits[t] > -INFINITY : logits[t] > logits[best] || (logits[t] == logits[best] && t < best);
        if (better) {
            best = t;
        }
    }
    return best;
}

// uniform returns a number from 0 to 1 that depends on a seed and on which draw of which
// token it is for, and on nothing that came before: a sampler that is made anew, in
// another process, goes on as the first would have.
double uniform(uint32_t seed, uint64_t token, uint64_t attempt) {
    uint64_t x = (uint64_t) seed << 32 ^ token << 8 ^ attempt;
    for (int round = 0; round < 2; round++) {  // of splitmix64
        x += 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        x ^= x >> 31;
    }
    return (double) (x >> 11) * 0x1p-53;
}

// pick draws one of the candidates that the chain has left, by their probabilities. They
// lie in the order of their numbers: in that of their probabilities, two that are nearly
// as probable would change places with every rounding, and the draw with them.
llama_token pick(const llama_token_data_array & array, double at) {
    const auto by_number = [](const llama_token_data & a, const llama_token_data & b) { return a.id < b.id; };
    if (!std::is_sorted(array.data, array.data + array.size, by_number)) {
        std::sort(array.data, array.data + array.size, by_number);
    }
    float max = -INFINITY;
    for (size_t i = 0; i < array.size; i++) {
        max = std::max(max, array.data[i].logit);
    }
    double sum = 0;
    for (size_t i = 0; i < array.size; i++) {
        sum += array.data[i].p = std::exp(array.data[i].logit - max);
    }
    double left = sum * at;
    for (size_t i = 0; i < array.size; i++) {
        if ((left -= array.data[i].p) <= 0) {
            return array.data[i].id;
        }
    }
    return array.size > 0 ? array.data[array.size - 1].id : -1;
}

// draw draws a token by a row's sampler, from those listed or, for nullptr, from the
// whole vocabulary; -1 when none of them has a finite logit.
llama_token draw(serve_context * ctx, float * logits, const serve_row & row, const std::vector<llama_token> * tokens) {
    const serve_sampler * s = row.sampler;
    changed_logits changed(logits);
    for (const auto & b : s->biases) {
        changed.add(b.token, b.bias);
    }
    const llama_token best = tokens == nullptr ? argmax(logits, ctx->n_vocab) : best_of(logits, *tokens);
    if (s->greedy || best < 0) {  // llama.cpp's samplers abort the process when no logit is finite
        return best;
    }
    static thread_local std::vector<llama_token_data> candidates;
    candidates.clear();
    const float least = logits[best] - s->below;
    const auto  add   = [&](llama_token t) {
        if (logits[t] >= least && logits[t] > -INFINITY) {
            candidates.push_back({t, logits[t], 0.0f});
        }
    };
    if (tokens == nullptr) {
        for (llama_token t = 0; t < ctx->n_vocab; t++) {
            add(t);
        }
    } else {
        for (const llama_token t : *tokens) {
            add(t);
        }
    }
    llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
    llama_sampler_apply(common_sampler_get(s->smpl), &array);
    if (s->picks) {
        return pick(array, uniform(s->seed, s->drawn, s->tries++));
    }
    return array.selected < 0 ? -1 : array.data[array.selected].id;
}

// draw_by_grammar draws a token that the grammar allows. Where little may come, the
// grammar lists it and the draw is from the list. Where much may come, as within a
// string, a token is drawn first and then shown to the grammar: drawing without putting
// back until one fits has the distribution of one draw from those that fit.
llama_token draw_by_grammar(serve_context * ctx, float * logits, const serve_row & row) {
    constexpr int draws = 5;
    grammar & rules = *row.sampler->rules;
    static thread_local std::vector<llama_token> tokens;
    if (!rules.allowed(tokens, ctx->n_vocab / 16)) {
        changed_logits changed(logits);
        for (int i = 0; i < draws; i++) {
            const llama_token token = draw(ctx, logits, row, nullptr);
            if (token < 0) {
                break;
            }
            if (rules.fits(token)) {
                return token;
            }
            changed.hide(token);
        }
        rules.allowed(tokens, SIZE_MAX);
    }
    if (tokens.empty()) {
        throw std::runtime_error("the grammar allows no token");
    }
    return draw(ctx, logits, row, &tokens);
}

// accept tells a sampler which token came.
void accept(serve_sampler * s, llama_token token) {
    if (s->rules) {
        s->rules->accept(token);
    }
    if (!s->greedy) {
        common_sampler_accept(s->smpl, token, true);
    }
    s->drawn++;
    s->tries = 0;
}

void sample_row(serve_context * ctx, float * logits, serve_row & row, int32_t * top_tokens, float * top_logprobs) {
    if (logits == nullptr) {
        throw std::runtime_error("no logits at batch index " + std::to_string(row.index));
    }
    if (row.sampler == nullptr) {
        return raw_logprobs(logits, ctx->n_vocab, row, top_tokens, top_logprobs);
    }
    grammar * rules = row.sampler->rules.get();
    row.token = rules != nullptr ? draw_by_grammar(ctx, logits, row) : draw(ctx, logits, row, nullptr);
    if (row.token < 0) {
        throw std::runtime_error("the model computed no finite logit");
    }
    accept(row.sampler, row.token);
    if (row.n_top >= 0) {
        raw_logprobs(logits, ctx->n_vocab, row, top_tokens, top_logprobs);
    }
}

common_chat_tool_choice tool_choice_from(const std::string & s) {
    return s.empty() ? COMMON_CHAT_TOOL_CHOICE_AUTO : common_chat_tool_choice_parse_oaicompat(s);
}

// spell returns tokens whose texts together are a text, byte for byte. Tokenizing
// does that, but for SentencePiece, which puts a space before a word after a
// control token; then the longest tokens that fit will do.
std::vector<llama_token> spell(const llama_vocab * vocab, const std::string & text) {
    std::vector<llama_token> tokens = common_tokenize(vocab, text, false, true);
    std::string spelt;
    for (const llama_token t : tokens) {
        spelt += common_token_to_piece(vocab, t, true);
    }
    if (spelt == text) {
        return tokens;
    }
    tokens.clear();
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    for (size_t at = 0; at < text.size();) {
        llama_token best   = LLAMA_TOKEN_NULL;
        size_t      length = 0;
        for (llama_token t = 0; t < n_vocab; t++) {
            const std::string piece = common_token_to_piece(vocab, t, true);
            if (piece.size() > length && text.compare(at, piece.size(), piece) == 0) {
                best   = t;
                length = piece.size();
            }
        }
        if (best == LLAMA_TOKEN_NULL) {
            throw std::runtime_error("the vocabulary cannot spell the generation prompt");
        }
        tokens.push_back(best);
        at += length;
    }
    return tokens;
}

// new_grammar reads a request's grammar; a lazy one sleeps until a trigger.
std::unique_ptr<grammar> new_grammar(const serve_model * model, const common_json & j) {
    std::call_once(model->trie_made, [model] { model->trie = std::make_unique<token_trie>(model->vocab); });
    grammar::triggers when;
    when.lazy = j.value("grammar_lazy", false);
    for (const auto & t : when.lazy ? j.at("triggers") : common_json::array()) {
        const std::string value = t.value("value", "");
        switch ((common_grammar_trigger_type) t.at("type").get<int32_t>()) {
            case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
                when.tokens.push_back(t.value("token", (llama_token) LLAMA_TOKEN_NULL));
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
                when.words.push_back(value);
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
                when.patterns.push_back(value);
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
                when.patterns.push_back("^(?:" + value + ")$");
                break;
            default:
                throw std::runtime_error("unknown kind of trigger");
        }
    }
    auto g = std::make_unique<grammar>(*model->trie, model->vocab, j.at("grammar").get<std::string>(), when);
    // A chat's grammar begins with what the template has written already, and with what
    // a client gave as the answer's beginning.
    if (!when.lazy && j.value("grammar_from_chat", false)) {
        for (const llama_token t : spell(model->vocab, j.value("generation_prompt", ""))) {
            if (!g->fits(t)) {
                throw std::runtime_error("what the answer begins with, the last message, does not fit what the answer must be");
            }
            g->accept(t);
        }
    }
    return g;
}

// decode computes a batch and says what came of it.
void decode(serve_context * ctx, const llama_batch & b, serve_error * err) {
    first_error.clear();
    switch (llama_decode(ctx->ctx, b)) {
        case 0: return;
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

std::string meta(const llama_model * model, const char * key) {
    char buf[512];
    return llama_model_meta_val_str(model, key, buf, sizeof buf) < 0 ? "" : buf;
}

}  // namespace

llama_context_params context_params(const serve_context_params & p) { return to_llama(p); }

extern "C" {

void serve_free(void * p) { free(p); }

void serve_init(void) {
    llama_log_set(on_log, nullptr);
    mtmd_log_set(on_log, nullptr);
    // common/ logs what models write and grammars say; its errors reach Go as exceptions.
    common_log_set_verbosity_thold(-1);
    register_cuda();
    // Before llama_backend_init: were no backend registered, it would look for libraries of backends beside the
    // program and in the working folder.
    current_kernels();
    llama_backend_init();
}

char * serve_devices(serve_error * err) {
    return guard(err, [&] {
        common_json list = common_json::array();
        for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
            ggml_backend_dev_t dev = ggml_backend_dev_get(i);
            const char * type = "accel";
            switch (ggml_backend_dev_type(dev)) {
                case GGML_BACKEND_DEVICE_TYPE_CPU: type = "cpu"; break;
                case GGML_BACKEND_DEVICE_TYPE_GPU: type = "gpu"; break;
                case GGML_BACKEND_DEVICE_TYPE_IGPU: type = "igpu"; break;
                default: break;
            }
            common_json d = common_json::object();
            d["name"]        = ggml_backend_dev_name(dev);
            d["description"] = ggml_backend_dev_description(dev);
            d["type"]        = type;
            list.push_back(d);
        }
        return copy_string(list.dump_safe());
    });
}

int32_t serve_threads(void) { return common_cpu_get_num_math(); }

bool serve_type_size(int32_t type, uint64_t * elements, uint64_t * bytes) {
    if (type < 0 || type >= GGML_TYPE_COUNT || ggml_blck_size((ggml_type) type) == 0) {
        return false;
    }
    *elements = ggml_blck_size((ggml_type) type);
    *bytes    = ggml_type_size((ggml_type) type);
    return *bytes > 0;
}

const char * serve_system_info(void) { return llama_print_system_info(); }

serve_model * serve_model_load(const char * path, serve_model_params params, serve_error * err) {
    return guard(err, [&]() -> serve_model * {
        first_error.clear();
        const quieted quiet(params.no_alloc);
        llama_model * m = llama_model_load_from_file(path, to_llama(params));
        if (m == nullptr) {
            fail(err, SERVE_FAILED, llama_error("llama.cpp could not load the model"));
            return nullptr;
        }
        auto model   = std::make_unique<serve_model>();
        model->model = m;
        model->vocab = llama_model_get_vocab(m);
        if (params.no_alloc) {
            return model.release();  // to be laid out: it writes no chat
        }
        release_unused_pages(m);
        try {
            model->templates = common_chat_templates_init(m, "");
        } catch (const std::exception & e) {
            llama_model_free(m);
            throw std::runtime_error(std::string("its chat template cannot be used: ") + e.what());
        }
        return model.release();
    });
}

void serve_model_free(serve_model * model) {
    if (model != nullptr) {
        llama_model_free(model->model);
        delete model;
    }
}

char * serve_model_info(const serve_model * sm, serve_error * err) {
    return guard(err, [&] {
        const llama_model * m = sm->model;
        const std::string   arch = meta(m, "general.architecture");
        const std::string   pooling = meta(m, (arch + ".pooling_type").c_str());
        char desc[256];
        llama_model_desc(m, desc, sizeof desc);
        common_json j = common_json::object();
        j["architecture"]  = arch;
        j["name"]          = meta(m, "general.name");
        j["description"]   = desc;
        j["quantization"]  = llama_ftype_name(llama_model_ftype(m));
        j["size"]          = llama_model_size(m);
        j["parameters"]    = llama_model_n_params(m);
        j["context_train"] = llama_model_n_ctx_train(m);
        j["embedding_out"] = llama_model_n_embd_out(m);
        j["embedding_in"]  = llama_model_n_embd_inp(m);
        j["layers"]        = llama_model_n_layer(m);
        j["vocabulary"]    = llama_vocab_n_tokens(sm->vocab);
        j["classes"]       = llama_model_n_cls_out(m);
        j["has_encoder"]   = llama_model_has_encoder(m);
        j["has_decoder"]   = llama_model_has_decoder(m);
        // Recurrent state cannot be rolled back to an earlier position.
        j["rolls_back"]    = !llama_model_is_recurrent(m) && !llama_model_is_hybrid(m);
        j["diffusion"]     = llama_model_is_diffusion(m);
        j["causal"]        = meta(m, (arch + ".attention.causal").c_str()) != "false";
        j["pooling"]       = pooling.empty() ? -1 : std::stoi(pooling);
        j["add_bos"]       = llama_vocab_get_add_bos(sm->vocab);
        j["bos"]           = llama_vocab_bos(sm->vocab);
        j["eos"]           = llama_vocab_eos(sm->vocab);
        j["sep"]           = llama_vocab_sep(sm->vocab);
        j["add_eos"]       = llama_vocab_get_add_eos(sm->vocab);
        j["add_sep"]       = llama_vocab_get_add_sep(sm->vocab);
        j["fim_prefix"]    = llama_vocab_fim_pre(sm->vocab);
        j["fim_suffix"]    = llama_vocab_fim_suf(sm->vocab);
        j["fim_middle"]    = llama_vocab_fim_mid(sm->vocab);
        const char * rank_template = llama_model_chat_template(m, "rerank");
        j["rank_template"] = rank_template == nullptr ? "" : rank_template;
        const auto * templates = sm->templates.get();  // none of a model that is only laid out
        const bool   has_one   = templates != nullptr && common_chat_templates_was_explicit(templates);
        j["template"]      = has_one ? common_chat_templates_source(templates) : "";
        j["build"]         = llama_version();
        return copy_string(j.dump_safe());
    });
}

void serve_vocab_flags(const serve_model * model, uint8_t * flags) {
    const int32_t n = llama_vocab_n_tokens(model->vocab);
    for (int32_t i = 0; i < n; i++) {
        flags[i] = (llama_vocab_is_eog(model->vocab, i) ? 1 : 0) | (llama_vocab_is_control(model->vocab, i) ? 2 : 0) |
                   (llama_vocab_get_attr(model->vocab, i) & LLAMA_TOKEN_ATTR_BYTE ? 4 : 0);
    }
}

size_t serve_vocab_pieces(const serve_model * model, bool special, char * buf, size_t cap, uint64_t * offsets) {
    const int32_t n    = llama_vocab_n_tokens(model->vocab);
    size_t        used = 0;
    for (int32_t i = 0; i < n; i++) {
        offsets[i] = used;
        char    none[1];
        const size_t room = used < cap ? cap - used : 0;
        int32_t len = llama_token_to_piece(model->vocab, i, room > 0 ? buf + used : none,
                                           (int32_t) std::min<size_t>(room, INT32_MAX), 0, special);
        used += len < 0 ? -len : len;
    }
    offsets[n] = used;
    return used;
}

int32_t serve_tokenize(const serve_model * model, const char * text, int32_t len, bool add_special,
                       bool parse_special, int32_t * out, int32_t cap, serve_error * err) {
    return guard(err, [&] {
        const int32_t n = llama_tokenize(model->vocab, text, len, out, cap, add_special, parse_special);
        if (n == INT32_MIN) {
            throw std::length_error("the text has more tokens than an int32 can count");
        }
        return n;
    });
}

serve_context * serve_context_new(serve_model * model, serve_context_params params, serve_error * err) {
    return guard(err, [&]() -> serve_context * {
        first_error.clear();
        auto ctx = std::make_unique<serve_context>();
        llama_context_params cp = to_llama(params);
        cp.abort_callback_data  = &ctx->abort;
        cp.abort_callback       = [](void * flag) { return ((std::atomic<bool> *) flag)->load(std::memory_order_relaxed); };
        ctx->ctx = llama_init_from_model(model->model, cp);
        if (ctx->ctx == nullptr) {
            fail(err, SERVE_FAILED, llama_error("llama.cpp could not create a context"));
            return nullptr;
        }
        ggml_threadpool_params tp = ggml_threadpool_params_default(params.n_threads);
        tp.poll                   = params.poll;
        ctx->pool                 = ctx->processor.threadpool_new(&tp);
        if (ctx->pool == nullptr) {
            llama_free(ctx->ctx);
            fail(err, SERVE_FAILED, "cannot start " + std::to_string(params.n_threads) + " threads");
            return nullptr;
        }
        llama_attach_threadpool(ctx->ctx, ctx->pool, ctx->pool);
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
    ctx->processor.threadpool_free(ctx->pool);
    delete ctx;
}

void serve_context_shape(const serve_context * ctx, uint32_t * n_ctx, uint32_t * n_ctx_seq) {
    *n_ctx     = llama_n_ctx(ctx->ctx);
    *n_ctx_seq = llama_n_ctx_seq(ctx->ctx);
}

void serve_abort(serve_context * ctx, bool on) { ctx->abort.store(on, std::memory_order_relaxed); }

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

bool serve_kv_remove(serve_context * ctx, int32_t seq, int32_t from) {
    return llama_memory_seq_rm(llama_get_memory(ctx->ctx), seq, from, -1);
}

void serve_kv_copy(serve_context * ctx, int32_t src, int32_t dst) {
    llama_memory_t mem = llama_get_memory(ctx->ctx);
    llama_memory_seq_rm(mem, dst, -1, -1);
    llama_memory_seq_cp(mem, src, dst, -1, -1);
}

void serve_kv_clear(serve_context * ctx) {
    // A context of an encoder has no memory.
    if (llama_memory_t mem = llama_get_memory(ctx->ctx)) {
        llama_memory_clear(mem, false);
    }
}

int32_t serve_kv_max(serve_context * ctx, int32_t seq) {
    return llama_memory_seq_pos_max(llama_get_memory(ctx->ctx), seq);
}

size_t serve_state_size(serve_context * ctx, int32_t seq) { return llama_state_seq_get_size(ctx->ctx, seq); }

size_t serve_state_get(serve_context * ctx, int32_t seq, uint8_t * buf, size_t cap) {
    return llama_state_seq_get_data(ctx->ctx, buf, cap, seq);
}

size_t serve_state_set(serve_context * ctx, int32_t seq, const uint8_t * buf, size_t len) {
    return llama_state_seq_set_data(ctx->ctx, buf, len, seq);
}

void serve_logits(serve_context * ctx, int32_t i, float * out, serve_error * err) {
    guard(err, [&] {
        const float * logits = llama_get_logits_ith(ctx->ctx, i);
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

serve_sampler * serve_sampler_new(const serve_model * model, const char * json, serve_error * err) {
    return guard(err, [&]() -> serve_sampler * {
        const common_json      j = common_json::parse(json);
        common_params_sampling p;
        p.no_perf            = true;
        p.seed               = j.value("seed", p.seed);
        p.temp               = j.value("temperature", p.temp);
        p.dynatemp_range     = j.value("dynatemp_range", p.dynatemp_range);
        p.dynatemp_exponent  = j.value("dynatemp_exponent", p.dynatemp_exponent);
        p.top_k              = j.value("top_k", p.top_k);
        p.top_p              = j.value("top_p", p.top_p);
        p.min_p              = j.value("min_p", p.min_p);
        p.typ_p              = j.value("typical_p", p.typ_p);
        p.top_n_sigma        = j.value("top_n_sigma", p.top_n_sigma);
        p.xtc_probability    = j.value("xtc_probability", p.xtc_probability);
        p.xtc_threshold      = j.value("xtc_threshold", p.xtc_threshold);
        p.penalty_last_n     = j.value("repeat_last_n", p.penalty_last_n);
        p.penalty_repeat     = j.value("repeat_penalty", p.penalty_repeat);
        p.penalty_freq       = j.value("frequency_penalty", p.penalty_freq);
        p.penalty_present    = j.value("presence_penalty", p.penalty_present);
        p.dry_multiplier     = j.value("dry_multiplier", p.dry_multiplier);
        p.dry_base           = j.value("dry_base", p.dry_base);
        p.dry_allowed_length = j.value("dry_allowed_length", p.dry_allowed_length);
        p.dry_penalty_last_n = j.value("dry_penalty_last_n", p.dry_penalty_last_n);
        p.mirostat           = j.value("mirostat", p.mirostat);
        p.mirostat_tau       = j.value("mirostat_tau", p.mirostat_tau);
        p.mirostat_eta       = j.value("mirostat_eta", p.mirostat_eta);
        if (j.contains("dry_sequence_breakers")) {
            p.dry_sequence_breakers = j.at("dry_sequence_breakers").get<std::vector<std::string>>();
        }
        const int32_t n_vocab = llama_vocab_n_tokens(model->vocab);
        if (j.contains("logit_bias")) {
            for (const auto & pair : j.at("logit_bias")) {
                const int32_t token = pair.at(0).get<int32_t>();
                if (token < 0 || token >= n_vocab) {
                    throw std::invalid_argument("logit_bias names token " + std::to_string(token) + "; the vocabulary has " + std::to_string(n_vocab));
                }
                const float bias = pair.at(1).get<float>();
                p.logit_bias.push_back({token, bias <= -100 ? -INFINITY : bias});
            }
        }
        if (j.value("ignore_eos", false)) {
            for (int32_t i = 0; i < n_vocab; i++) {
                if (llama_vocab_is_eog(model->vocab, i)) {
                    p.logit_bias.push_back({i, -INFINITY});
                }
            }
        }
        int32_t n_suppress = 0;
        llama_vocab_get_suppress_tokens(model->vocab, &n_suppress);
        std::unique_ptr<serve_sampler, decltype(&serve_sampler_free)> s(new serve_sampler(), serve_sampler_free);
        s->greedy = p.temp <= 0 && p.mirostat == 0 && n_suppress == 0 && p.penalty_repeat == 1 &&
                    p.penalty_freq == 0 && p.penalty_present == 0 && p.dry_multiplier == 0 && p.xtc_probability == 0 && p.typ_p >= 1;
        s->biases = std::move(p.logit_bias);  // put into the logits by draw
        p.logit_bias.clear();
        const bool min_p_first = p.mirostat == 0 && n_suppress == 0 && p.penalty_repeat == 1 && p.penalty_freq == 0 &&
                                 p.penalty_present == 0 && p.dry_multiplier == 0 && p.top_n_sigma < 0 && p.top_k <= 0 && p.typ_p >= 1 && p.top_p >= 1;
        if (min_p_first && p.min_p > 0 && p.min_p <= 1) {
            s->below = -std::log(p.min_p);
        }
        s->smpl = common_sampler_init(model->model, p);
        s->seed = p.seed;
        if (p.mirostat == 0) {
            // The chain ends in a draw by random numbers of its own; pick draws in its place.
            llama_sampler * chain = common_sampler_get(s->smpl);
            llama_sampler_free(llama_sampler_chain_remove(chain, llama_sampler_chain_n(chain) - 1));
            s->picks = true;
        }
        if (!j.value("grammar", "").empty()) {
            s->rules = new_grammar(model, j);
        }
        if (j.contains("drawn")) {
            for (const auto & token : j.at("drawn")) {
                accept(s.get(), token.get<llama_token>());
            }
        }
        return s.release();
    });
}

void serve_sampler_free(serve_sampler * s) {
    if (s != nullptr) {
        common_sampler_free(s->smpl);
        delete s;
    }
}

void serve_sample(serve_context * ctx, int32_t n, serve_row * rows, int32_t stride, int32_t * top_tokens,
                  float * top_logprobs, serve_error * err) {
    guard(err, [&] {
        // The rows are found here: llama.cpp puts them in order when first asked.
        std::vector<float *>     logits(n);
        std::vector<serve_error> errors(n);
        for (int32_t r = 0; r < n; r++) {
            logits[r] = llama_get_logits_ith(ctx->ctx, rows[r].index);
        }
        const auto sample = [&](int32_t r) {
            guard(&errors[r], [&] { sample_row(ctx, logits[r], rows[r], top_tokens + (size_t) r * stride, top_logprobs + (size_t) r * stride); });
            rows[r].code = errors[r].code;
        };
        // Two choices of one request may draw from the same row; a bias is put into
        // it meanwhile, so the rows of one index stay on one thread.
        const bool parallel = n > 1 && (int64_t) n * ctx->n_vocab >= 1 << 15;
        if (parallel) {
            ctx->sampling.run(ctx->processor, ctx->pool, ctx->n_threads, [&](int ith, int nth) {
                for (int32_t r = 0; r < n; r++) {
                    if (rows[r].index % nth == ith) {
                        sample(r);
                    }
                }
            });
        } else {
            for (int32_t r = 0; r < n; r++) {
                sample(r);
            }
        }
        for (int32_t r = 0; r < n; r++) {
            if (errors[r].code != SERVE_OK && err->code == SERVE_OK) {
                *err = errors[r];
            } else {
                free(errors[r].message);
            }
        }
    });
}

char * serve_chat_render(const serve_model * model, const char * json, serve_error * err) {
    return guard(err, [&] {
        const common_json            j = common_json::parse(json);
        common_chat_templates_inputs in;
        in.messages            = common_chat_msgs_parse_oaicompat(j.at("messages"));
        in.tools               = j.contains("tools") ? common_chat_tools_parse_oaicompat(j.at("tools")) : std::vector<common_chat_tool>();
        in.tool_choice         = tool_choice_from(j.value("tool_choice", ""));
        in.parallel_tool_calls = j.value("parallel_tool_calls", true);
        in.json_schema         = j.value("json_schema", "");
        in.enable_thinking     = j.value("enable_thinking", true);
        in.reasoning_format    = COMMON_REASONING_FORMAT_AUTO;
        if (j.value("continue_final_message", false)) {
            in.add_generation_prompt  = false;
            in.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
        }
        if (j.contains("template_kwargs")) {
            for (const auto & [key, value] : j.at("template_kwargs").items()) {
                in.chat_template_kwargs[key] = value.dump();
            }
        }
        common_chat_params out = common_chat_templates_apply(model->templates.get(), in);

        common_json parser = common_json::object();
        parser["format"]            = (int32_t) out.format;
        parser["arena"]             = out.parser;
        parser["generation_prompt"] = out.generation_prompt;
        parser["continuation"]      = in.continue_final_message != COMMON_CHAT_CONTINUATION_NONE;

        common_json triggers = common_json::array();
        for (const auto & t : out.grammar_triggers) {
            common_json o = common_json::object();
            o["type"]  = (int32_t) t.type;
            o["value"] = t.value;
            o["token"] = t.token;
            triggers.push_back(o);
        }
        common_json r = common_json::object();
        r["prompt"]            = out.prompt;
        r["grammar"]           = out.grammar;
        r["grammar_lazy"]      = out.grammar_lazy;
        r["generation_prompt"] = out.generation_prompt;
        r["triggers"]          = triggers;
        r["preserved"]         = out.preserved_tokens;
        r["stops"]             = out.additional_stops;
        r["parser"]            = parser.dump();
        // Nothing to parse: the text is the content, byte for byte. A format of its own has tokens to preserve.
        r["plain"] = in.tools.empty() && !out.supports_thinking && out.thinking_start_tag.empty() && out.preserved_tokens.empty();
        return copy_string(r.dump());
    });
}

serve_parser * serve_parser_new(const char * spec, serve_error * err) {
    return guard(err, [&] {
        const common_json j = common_json::parse(spec);
        auto              p = std::make_unique<serve_parser>();
        p->params.format            = (common_chat_format) j.at("format").get<int32_t>();
        p->params.reasoning_format  = COMMON_REASONING_FORMAT_AUTO;
        p->params.generation_prompt = j.value("generation_prompt", "");
        p->params.is_continuation   = j.value("continuation", false);
        const std::string arena     = j.value("arena", "");
        if (!arena.empty()) {
            p->params.parser.load(arena);
        }
        return p.release();
    });
}

void serve_parser_free(serve_parser * p) { delete p; }

char * serve_parser_parse(const serve_parser * p, const char * text, size_t len, bool partial, serve_error * err) {
    return guard(err, [&] {
        const common_chat_msg msg = common_chat_parse(std::string(text, len), partial, p->params);
        common_json calls = common_json::array();
        for (const auto & c : msg.tool_calls) {
            common_json o = common_json::object();
            o["id"]        = c.id;
            o["name"]      = c.name;
            o["arguments"] = c.arguments;
            calls.push_back(o);
        }
        common_json r = common_json::object();
        r["content"]    = msg.content;
        r["reasoning"]  = msg.reasoning_content;
        r["tool_calls"] = calls;
        return copy_string(r.dump_safe());
    });
}

}  // extern "C"
