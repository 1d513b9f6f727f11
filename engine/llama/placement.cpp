// Placement: which devices compute a model, what lies on each, and what of the file's metadata is replaced.
#include "common_shim.h"

#include "ggml-backend.h"
#include "json.h"

#include <algorithm>
#include <deque>
#include <stdexcept>

// What llama_model_params points into.
struct placement {
    std::vector<ggml_backend_dev_t>               devices;  // ends with NULL; empty for all
    std::vector<float>                            split;
    std::deque<std::string>                       patterns;
    std::vector<llama_model_tensor_buft_override> overrides;  // ends with a NULL pattern
    std::vector<llama_model_kv_override>          metadata;   // ends with an empty key
    enum llama_split_mode                         mode     = LLAMA_SPLIT_MODE_LAYER;
    int32_t                                       main_gpu = 0;
};

ggml_backend_dev_t device_named(const std::string & name) {
    ggml_backend_dev_t dev = ggml_backend_dev_by_name(name.c_str());
    if (dev == nullptr) {
        throw std::runtime_error("there is no device " + name);
    }
    return dev;
}

namespace {

void copy_text(char * to, size_t size, const std::string & text, const char * what) {
    if (text.size() >= size) {
        throw std::runtime_error(std::string(what) + " has more than " + std::to_string(size - 1) + " bytes");
    }
    std::copy(text.begin(), text.end(), to);
    to[text.size()] = 0;
}

llama_model_kv_override read_override(const common_json & j) {
    llama_model_kv_override o = {};
    copy_text(o.key, sizeof o.key, j.at("key").get<std::string>(), "a key");
    const std::string type = j.at("type").get<std::string>();
    if (type == "int") {
        o.tag     = LLAMA_KV_OVERRIDE_TYPE_INT;
        o.val_i64 = j.at("int").get<int64_t>();
    } else if (type == "float") {
        o.tag     = LLAMA_KV_OVERRIDE_TYPE_FLOAT;
        o.val_f64 = j.at("float").get<double>();
    } else if (type == "bool") {
        o.tag      = LLAMA_KV_OVERRIDE_TYPE_BOOL;
        o.val_bool = j.at("bool").get<bool>();
    } else if (type == "str") {
        o.tag = LLAMA_KV_OVERRIDE_TYPE_STR;
        copy_text(o.val_str, sizeof o.val_str, j.at("str").get<std::string>(), "a value");
    } else {
        throw std::runtime_error("no such type of a value: " + type);
    }
    return o;
}

void free_placement(placement * p) { delete p; }

}  // namespace

std::unique_ptr<placement, void (*)(placement *)> read_placement(const char * json) {
    std::unique_ptr<placement, void (*)(placement *)> p(nullptr, free_placement);
    if (json == nullptr) {
        return p;
    }
    const common_json j = common_json::parse(json);
    p.reset(new placement);

    for (const auto & name : j.at("devices")) {
        p->devices.push_back(device_named(name.get<std::string>()));
    }
    if (!p->devices.empty()) {
        p->devices.push_back(nullptr);
    }

    // llama.cpp copies as many proportions as there can be devices.
    for (const auto & part : j.at("split")) {
        p->split.push_back(part.get<float>());
    }
    if (!p->split.empty()) {
        p->split.resize(std::max(p->split.size(), llama_max_devices()), 0.0f);
    }

    for (const auto & o : j.at("overrides")) {
        p->patterns.push_back(o.at("pattern").get<std::string>());
        ggml_backend_dev_t dev = device_named(o.at("device").get<std::string>());
        p->overrides.push_back({p->patterns.back().c_str(), ggml_backend_dev_buffer_type(dev)});
    }
    if (!p->overrides.empty()) {
        p->overrides.push_back({nullptr, nullptr});
    }

    for (const auto & o : j.at("metadata")) {
        p->metadata.push_back(read_override(o));
    }
    if (!p->metadata.empty()) {
        p->metadata.push_back({});
    }

    p->mode     = (enum llama_split_mode) j.at("mode").get<int32_t>();
    p->main_gpu = j.at("main_gpu").get<int32_t>();
    return p;
}

void apply(const placement & p, llama_model_params & params) {
    if (!p.devices.empty() && params.devices == nullptr) {
        params.devices = const_cast<ggml_backend_dev_t *>(p.devices.data());
    }
    if (!p.split.empty()) {
        params.tensor_split = p.split.data();
    }
    if (!p.overrides.empty()) {
        params.tensor_buft_overrides = p.overrides.data();
    }
    if (!p.metadata.empty()) {
        params.kv_overrides = p.metadata.data();
    }
    params.split_mode = p.mode;
    params.main_gpu   = p.main_gpu;
}
