// An excerpt of a model: its first layers, and as large a part of its vocabulary, as a GGUF in memory. It computes
// what the whole model does, in the same shapes and the same proportions, and so tells in a fraction of the time
// and the memory how fast kernels are.
#include "common_shim.h"

#include "ggml.h"
#include "gguf.h"
#include "llama.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

struct serve_excerpt {
    FILE *  file       = nullptr;
    int32_t vocabulary = 0;
    double  share      = 1;  // of the model's layers
};

namespace {

struct gguf_free_t {
    void operator()(gguf_context * g) const { gguf_free(g); }
};
struct ggml_free_t {
    void operator()(ggml_context * c) const { ggml_free(c); }
};
struct file_close_t {
    void operator()(FILE * f) const { fclose(f); }
};
using gguf_ptr = std::unique_ptr<gguf_context, gguf_free_t>;
using ggml_ptr = std::unique_ptr<ggml_context, ggml_free_t>;
using file_ptr = std::unique_ptr<FILE, file_close_t>;

// One of a model's files: its header, its tensors without their data, and where the data is read from.
struct part {
    gguf_ptr header;
    ggml_ptr tensors;
    file_ptr file;

    explicit part(const std::string & path) {
        ggml_context * meta = nullptr;
        header.reset(gguf_init_from_file(path.c_str(), {/*.no_alloc = */ true, /*.ctx = */ &meta}));
        tensors.reset(meta);
        file.reset(fopen(path.c_str(), "rb"));
        if (header == nullptr || file == nullptr) {
            throw std::runtime_error("cannot read " + path);
        }
    }
};

// layer_of returns the layer that a tensor belongs to, -1 for none.
int32_t layer_of(const char * tensor) {
    int32_t layer = -1;
    return sscanf(tensor, "blk.%d.", &layer) == 1 ? layer : -1;
}

uint32_t number(const gguf_context * g, const std::string & key) {
    const int64_t id = gguf_find_key(g, key.c_str());
    if (id < 0 || gguf_get_kv_type(g, id) != GGUF_TYPE_UINT32) {
        throw std::runtime_error("the model has no number " + key);
    }
    return gguf_get_val_u32(g, id);
}

// What an excerpt keeps of a model.
struct proportions {
    std::string arch;
    int32_t     all_layers = 0, layers     = 0;
    int64_t     all_tokens = 0, vocabulary = 0;  // 0: the model names no tokens
};

proportions choose(const std::vector<part> & parts, uint64_t max_bytes) {
    const gguf_context * g = parts.at(0).header.get();
    proportions p;
    const int64_t arch = gguf_find_key(g, "general.architecture");
    if (arch < 0 || gguf_get_kv_type(g, arch) != GGUF_TYPE_STRING) {
        throw std::runtime_error("the model names no architecture");
    }
    p.arch       = gguf_get_val_str(g, arch);
    p.all_layers = (int32_t) std::min<uint32_t>(number(g, p.arch + ".block_count"), INT32_MAX);

    uint64_t size = 0;
    for (const part & f : parts) {
        for (int64_t i = 0; i < gguf_get_n_tensors(f.header.get()); i++) {
            size += gguf_get_tensor_size(f.header.get(), i);
        }
    }
    const double share = size <= max_bytes ? 1 : (double) max_bytes / (double) size;
    p.layers           = std::max(1, (int32_t) (share * p.all_layers));

    const int64_t tokens = gguf_find_key(g, "tokenizer.ggml.tokens");
    if (tokens >= 0 && gguf_get_kv_type(g, tokens) == GGUF_TYPE_ARRAY) {
        p.all_tokens = (int64_t) gguf_get_arr_n(g, tokens);
        // Repacked weights come in groups of rows.
        p.vocabulary = std::min(p.all_tokens, GGML_PAD(p.all_tokens * p.layers / std::max(1, p.all_layers), 256));
    }
    return p;
}

// write_header copies a model's header with fewer layers, and with dummies for tokens.
void write_header(gguf_context * out, const gguf_context * whole, const proportions & p) {
    gguf_set_kv(out, whole);
    gguf_set_val_u32(out, (p.arch + ".block_count").c_str(), p.layers);
    for (int64_t i = 0; i < gguf_get_n_kv(whole); i++) {
        const std::string key = gguf_get_key(whole, i);
        if (key.rfind("tokenizer.", 0) == 0 || key.rfind("split.", 0) == 0) {
            gguf_remove_key(out, key.c_str());
        }
        const bool each_layer = gguf_get_kv_type(whole, i) == GGUF_TYPE_ARRAY && key.rfind(p.arch + ".", 0) == 0 &&
                                gguf_get_arr_n(whole, i) == (size_t) p.all_layers;
        const gguf_type type = each_layer ? gguf_get_arr_type(whole, i) : GGUF_TYPE_ARRAY;
        if (type != GGUF_TYPE_STRING && type != GGUF_TYPE_ARRAY) {
            gguf_set_arr_data(out, key.c_str(), type, gguf_get_arr_data(whole, i), p.layers);
        }
    }
    gguf_set_val_str(out, "tokenizer.ggml.model", "none");
    gguf_set_val_u32(out, (p.arch + ".vocab_size").c_str(), (uint32_t) p.vocabulary);
}

// A tensor of an excerpt, and where its data lies.
struct source {
    const part * from;
    int64_t      at;
    size_t       size;
};

// add_tensor adds a tensor, or the rows of it that belong to the vocabulary.
source add_tensor(gguf_context * out, const part & from, int64_t i, const proportions & p) {
    const char *  name   = gguf_get_tensor_name(from.header.get(), i);
    ggml_tensor * tensor = ggml_get_tensor(from.tensors.get(), name);
    ggml_tensor   shape  = *tensor;
    const int     last   = ggml_n_dims(tensor) - 1;
    if (p.all_tokens > 0 && layer_of(name) < 0 && shape.ne[last] == p.all_tokens) {
        shape.ne[last] = p.vocabulary;
        for (int d = last + 1; d < GGML_MAX_DIMS; d++) {
            shape.nb[d] = shape.nb[d - 1] * shape.ne[d - 1];
        }
    }
    gguf_add_tensor(out, &shape);
    const size_t at = gguf_get_data_offset(from.header.get()) + gguf_get_tensor_offset(from.header.get(), i);
    return {&from, (int64_t) at, ggml_nbytes(&shape)};
}

// copy appends a tensor's data, padded to the alignment of data in a GGUF.
void copy(const source & s, FILE * to, size_t alignment) {
    std::vector<uint8_t> data(GGML_PAD(s.size, alignment));
    if (fseeko(s.from->file.get(), (off_t) s.at, SEEK_SET) != 0 || fread(data.data(), 1, s.size, s.from->file.get()) != s.size ||
        fwrite(data.data(), 1, data.size(), to) != data.size()) {
        throw std::runtime_error(std::string("cannot copy a tensor: ") + strerror(errno));
    }
}

file_ptr memory_file() {
#ifdef __linux__
    const int fd = memfd_create("excerpt", MFD_CLOEXEC);
    return file_ptr(fd < 0 ? nullptr : fdopen(fd, "w+b"));
#else
    return file_ptr(tmpfile());
#endif
}

}  // namespace

extern "C" {

serve_excerpt * serve_excerpt_new(const char * const * paths, int32_t n_paths, uint64_t max_bytes, serve_error * err) {
    return guard(err, [&]() -> serve_excerpt * {
        std::vector<part> parts;
        for (int32_t i = 0; i < n_paths; i++) {
            parts.emplace_back(paths[i]);
        }
        const proportions p = choose(parts, max_bytes);

        const gguf_ptr out(gguf_init_empty());
        write_header(out.get(), parts[0].header.get(), p);
        std::vector<source> sources;
        for (const part & f : parts) {
            for (int64_t i = 0; i < gguf_get_n_tensors(f.header.get()); i++) {
                if (layer_of(gguf_get_tensor_name(f.header.get(), i)) < p.layers) {
                    sources.push_back(add_tensor(out.get(), f, i, p));
                }
            }
        }

        file_ptr file = memory_file();
        if (file == nullptr || !gguf_write_to_file_ptr(out.get(), file.get(), true)) {
            throw std::runtime_error(std::string("cannot write an excerpt: ") + strerror(errno));
        }
        for (const source & s : sources) {
            copy(s, file.get(), gguf_get_alignment(out.get()));
        }
        if (fflush(file.get()) != 0) {
            throw std::runtime_error(std::string("cannot write an excerpt: ") + strerror(errno));
        }

        auto excerpt        = std::make_unique<serve_excerpt>();
        excerpt->vocabulary = (int32_t) p.vocabulary;
        excerpt->share      = (double) p.layers / std::max(1, p.all_layers);
        excerpt->file       = file.release();
        return excerpt.release();
    });
}

void serve_excerpt_share(const serve_excerpt * e, int32_t * vocabulary, double * share) noexcept {
    *vocabulary = e->vocabulary;
    *share      = e->share;
}

serve_model * serve_excerpt_load(serve_excerpt * e, serve_error * err) {
    return guard(err, [&]() -> serve_model * {
        first_error.clear();
        rewind(e->file);
        llama_model_params params = llama_model_default_params();
        params.n_gpu_layers       = 0;
        // Without layers on it a GPU would still compute prompts, and the timing be its.
        static ggml_backend_dev_t none[] = {nullptr};
        params.devices = none;
        auto model   = std::make_unique<serve_model>();
        model->model = llama_model_load_from_file_ptr(e->file, params);
        if (model->model == nullptr) {
            fail(err, SERVE_FAILED, llama_error("llama.cpp could not load an excerpt of the model"));
            return nullptr;
        }
        model->vocab = llama_model_get_vocab(model->model);
        return model.release();
    });
}

void serve_excerpt_free(serve_excerpt * e) {
    if (e != nullptr) {
        fclose(e->file);
        delete e;
    }
}

}  // extern "C"
