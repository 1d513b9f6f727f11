#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"
#include "provenance.h"

#include "common.h"
#include "json.h"
#include "llama.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>

// Exported by model.go.
extern "C" bool goServeProgress(uintptr_t handle, float progress);

namespace {

llama_load_mode load_mode(const serve_model_params & p) {
    if (p.no_alloc) {
        return LLAMA_LOAD_MODE_NONE;
    }
    if (p.lock) {
        return LLAMA_LOAD_MODE_MLOCK;
    }
    return p.mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
}

llama_model_params to_llama(const serve_model_params & p) {
    llama_model_params mp = llama_model_default_params();
    mp.n_gpu_layers       = p.gpu_layers;
    mp.load_mode          = load_mode(p);
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

std::string meta(const llama_model * model, const char * key) {
    char buf[512];
    return llama_model_meta_val_str(model, key, buf, sizeof buf) < 0 ? "" : buf;
}

// file_template returns the chat template of the file; "" if there is none.
std::string file_template(const llama_model * model) {
    for (const char * name : {(const char *) nullptr, "tool_use"}) {
        const char * text = llama_model_chat_template(model, name);
        if (text != nullptr) {
            return text;
        }
    }
    return "";
}

}  // namespace

extern "C" {

bool serve_model_plain(const serve_model * model) noexcept { return plain(model->model); }

serve_model * serve_model_load(const char * path, serve_model_params params, serve_error * err) {
    return guard(err, [&]() -> serve_model * {
        first_error.clear();
        const quieted quiet(params.no_alloc);
        llama_model_params mp = to_llama(params);
        const auto where = read_placement(params.placement);  // which mp points into while it loads
        if (where) {
            apply(*where, mp);
        }
        llama_model * m = llama_model_load_from_file(path, mp);
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
        if (params.no_chat) {
            return model.release();
        }
        try {
            model->templates = common_chat_templates_init(m, "");
            trace_templates(model->templates.get());
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
        j["sliding_window"] = llama_model_n_swa(m);
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
        if (templates == nullptr) {
            j["template"] = file_template(m);
        } else {
            j["template"] = common_chat_templates_was_explicit(templates) ? common_chat_templates_source(templates) : "";
        }
        j["build"]         = llama_version();
        return copy_string(j.dump_safe());
    });
}

void serve_vocab_flags(const serve_model * model, uint8_t * flags) noexcept {
    const int32_t n = llama_vocab_n_tokens(model->vocab);
    for (int32_t i = 0; i < n; i++) {
        flags[i] = (llama_vocab_is_eog(model->vocab, i) ? 1 : 0) | (llama_vocab_is_control(model->vocab, i) ? 2 : 0) |
                   (llama_vocab_get_attr(model->vocab, i) & LLAMA_TOKEN_ATTR_BYTE ? 4 : 0);
    }
}

size_t serve_vocab_pieces(const serve_model * model, bool special, char * buf, size_t cap, uint64_t * offsets) noexcept {
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

}  // extern "C"
