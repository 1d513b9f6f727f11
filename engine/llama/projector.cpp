// Images: a projector makes embeddings of them, by llama.cpp's mtmd.
#include "common_shim.h"

#include "common.h"
#include "ggml-backend.h"
#include "json.h"
#include "mtmd.h"

#include <stdexcept>
#include <vector>

struct serve_projector {
    mtmd::context_ptr ctx;
    int32_t           width = 0;  // floats of an embedding
};

struct serve_image {
    serve_projector *  projector = nullptr;
    mtmd::input_chunks chunks;
};

namespace {

mtmd_context_params params_of(bool gpu, const char * device, int32_t threads) {
    mtmd_context_params p = mtmd_context_params_default();
    p.use_gpu             = gpu;
    if (gpu && device != nullptr) {
        p.device = device_named(device);
    }
    p.n_threads           = threads;
    p.print_timings       = false;
    p.warmup              = false;
    return p;
}

const mtmd_input_chunk * chunk_at(const serve_image * s, int32_t i) {
    return i >= 0 && (size_t) i < s->chunks.size() ? s->chunks[i] : nullptr;
}

}  // namespace

extern "C" {

serve_projector * serve_projector_new(const serve_model * model, const char * path, bool gpu, const char * device,
                                      int32_t threads, serve_error * err) {
    return guard(err, [&]() -> serve_projector * {
        first_error.clear();
        auto p = std::make_unique<serve_projector>();
        p->ctx.reset(mtmd_init_from_file(path, model->model, params_of(gpu, device, threads)));
        if (!p->ctx) {
            throw std::runtime_error(llama_error("llama.cpp could not load the projector"));
        }
        if (!mtmd_support_vision(p->ctx.get())) {
            throw std::runtime_error("it is not for images");
        }
        p->width = llama_model_n_embd_inp(model->model);
        return p.release();
    });
}

void serve_projector_free(serve_projector * p) { delete p; }

char * serve_projector_memory(const char * path, bool gpu, const char * device, serve_error * err) {
    return guard(err, [&] {
        first_error.clear();
        const auto usage = mtmd_get_memory_usage(path, params_of(gpu, device, 1));
        if (usage.empty()) {
            throw std::runtime_error(llama_error("llama.cpp could not measure the projector"));
        }
        common_json list = common_json::array();
        for (const auto & [device, bytes] : usage) {
            const bool  host = ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
            common_json d    = common_json::object();
            d["name"]  = host ? "host" : ggml_backend_dev_name(device);
            d["bytes"] = bytes;
            list.push_back(d);
        }
        return copy_string(list.dump_safe());
    });
}

serve_image * serve_image_new(serve_projector * p, int32_t width, int32_t height, const uint8_t * rgb, serve_error * err) {
    return guard(err, [&] {
        first_error.clear();
        auto s       = std::make_unique<serve_image>();
        s->projector = p;
        s->chunks.ptr.reset(mtmd_input_chunks_init());
        const mtmd::bitmap    image(width, height, rgb);
        const mtmd_bitmap *   images[] = {image.ptr.get()};
        const char *          marker   = mtmd_get_marker(p->ctx.get());
        const mtmd_input_text text     = {marker, strlen(marker), false, true};
        if (mtmd_tokenize(p->ctx.get(), s->chunks.ptr.get(), &text, images, 1) != 0) {
            throw std::runtime_error(llama_error("the image cannot be laid out"));
        }
        return s.release();
    });
}

void serve_image_free(serve_image * s) { delete s; }

bool serve_image_chunk(const serve_image * s, int32_t i, serve_chunk * out) noexcept {
    const mtmd_input_chunk * chunk = chunk_at(s, i);
    if (chunk == nullptr) {
        return false;
    }
    const mtmd_context * ctx = s->projector->ctx.get();
    size_t n    = mtmd_input_chunk_get_n_tokens(chunk);
    out->tokens = nullptr;
    out->grid = out->whole = false;
    if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
        out->tokens = mtmd_input_chunk_get_tokens_text(chunk, &n);
    } else {
        out->grid  = mtmd_decode_use_mrope(ctx);
        out->whole = mtmd_decode_use_non_causal(ctx, chunk);
    }
    out->n    = (int32_t) n;
    out->span = mtmd_input_chunk_get_n_pos(chunk);
    return true;
}

void serve_image_encode(serve_image * s, int32_t i, float * embeddings, int32_t * grid, serve_error * err) {
    guard(err, [&] {
        const mtmd_input_chunk * chunk = chunk_at(s, i);
        if (chunk == nullptr || mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            throw std::out_of_range("no embeddings in piece " + std::to_string(i) + " of the image");
        }
        first_error.clear();
        mtmd_context * ctx = s->projector->ctx.get();
        if (mtmd_encode_chunk(ctx, chunk) != 0) {
            throw std::runtime_error(llama_error("the image cannot be encoded"));
        }
        const size_t n = mtmd_input_chunk_get_n_tokens(chunk);
        memcpy(embeddings, mtmd_get_output_embd(ctx), sizeof(float) * n * s->projector->width);
        for (size_t k = 0; grid != nullptr && k < n; k++) {
            const mtmd_decoder_pos at = mtmd_image_tokens_get_decoder_pos(mtmd_input_chunk_get_tokens_image(chunk), 0, k);
            // The order of the rows is that of the model's rope sections: time, height, width.
            grid[k]         = (int32_t) at.t;
            grid[n + k]     = (int32_t) at.y;
            grid[2 * n + k] = (int32_t) at.x;
            grid[3 * n + k] = (int32_t) at.z;
        }
    });
}

}  // extern "C"
