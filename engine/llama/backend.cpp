#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"

#include "cuda_loader.h"
#include "kernels.h"

#include "common.h"
#include "ggml-backend.h"
#include "json.h"
#include "llama.h"
#include "log.h"
#include "mtmd.h"

#include <cstdlib>
#include <string>

// Exported by log.go.
extern "C" void goServeLog(int32_t level, char * text);

thread_local std::string first_error;
thread_local bool        quiet_log = false;

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

}  // namespace

extern "C" {

void serve_free(void * p) noexcept { free(p); }

void serve_init(void) noexcept {
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

void serve_numa(int32_t strategy) noexcept { llama_numa_init((enum ggml_numa_strategy) strategy); }

size_t serve_max_devices(void) noexcept { return llama_max_devices(); }

int32_t serve_threads(void) noexcept { return common_cpu_get_num_math(); }

bool serve_type_size(int32_t type, uint64_t * elements, uint64_t * bytes) noexcept {
    if (type < 0 || type >= GGML_TYPE_COUNT || ggml_blck_size((ggml_type) type) == 0) {
        return false;
    }
    *elements = ggml_blck_size((ggml_type) type);
    *bytes    = ggml_type_size((ggml_type) type);
    return *bytes > 0;
}

const char * serve_system_info(void) noexcept { return llama_print_system_info(); }

}  // extern "C"
