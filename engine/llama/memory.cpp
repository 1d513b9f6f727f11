// Memory: what a model takes, computed without loading it, and what is given back after a load.
#include "common_shim.h"

#include "backend_sampling.h"

#include "ggml-backend.h"
#include "json.h"
#include "llama-ext.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#ifdef __linux__
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

// Of llama.cpp's src/llama-model.h, which has too much else: every tensor of a model by its name.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace {

const char * type_of(ggml_backend_dev_t dev) {
    switch (ggml_backend_dev_type(dev)) {
        case GGML_BACKEND_DEVICE_TYPE_CPU: return "cpu";
        case GGML_BACKEND_DEVICE_TYPE_GPU: return "gpu";
        case GGML_BACKEND_DEVICE_TYPE_IGPU: return "igpu";
        case GGML_BACKEND_DEVICE_TYPE_META: return "meta";
        default: return "accel";
    }
}

// is_unified reports whether a GPU's memory is the host's: it is integrated, or it computes on
// the host's own pointers (Metal).
bool is_unified(ggml_backend_dev_t dev) {
    ggml_backend_dev_props props;
    ggml_backend_dev_get_props(dev, &props);
    const bool gpu = props.type == GGML_BACKEND_DEVICE_TYPE_GPU && props.caps.buffer_from_host_ptr;
    return gpu || props.type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

common_json describe(ggml_backend_dev_t dev, const char * name, const llama_memory_breakdown_data & taken) {
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(dev, &free, &total);
    common_json d = common_json::object();
    d["name"]    = name;
    d["type"]    = type_of(dev);
    d["unified"] = is_unified(dev);
    d["free"]    = free;
    d["total"]   = total;
    d["weights"] = taken.model;
    d["kv"]      = taken.context;
    d["compute"] = taken.compute;
    return d;
}

#ifdef __linux__

using range = std::pair<uintptr_t, uintptr_t>;

// release_between gives back the whole pages of a mapping that lie between the ranges used, in order.
void release_between(const range & mapping, const std::vector<range> & used) {
    const uintptr_t page = sysconf(_SC_PAGESIZE);
    const auto release = [page](uintptr_t first, uintptr_t last) {
        first = (first + page - 1) & ~(page - 1);
        last &= ~(page - 1);
        if (first < last) {
            // They are clean pages of a file: whoever reads them gets them again. An error
            // would only mean that they stay.
            (void) madvise((void *) first, last - first, MADV_DONTNEED);
        }
    };
    uintptr_t at = mapping.first;
    for (const auto & r : used) {
        release(at, r.first);
        at = std::max(at, r.second);
    }
    release(at, mapping.second);
}

#endif

}  // namespace

// plain reports whether all of a model's weights lie as they are in the file, where the processor reads them.
bool plain(const llama_model * model) {
    const auto & tensors = llama_internal_get_tensor_map(model);
    return std::all_of(tensors.begin(), tensors.end(), [](const auto & named) {
        return named.second->buffer != nullptr && ggml_backend_buffer_is_host(named.second->buffer);
    });
}

// release_unused_pages gives back the pages of mapped model files that no tensor lies in. llama.cpp
// maps a whole file and keeps the mapping from the first tensor that is used in place to the last;
// between them lie those that were repacked for the processor or copied to a card, and of these the
// file's pages would be resident a second time.
void release_unused_pages(const llama_model * model) {
#ifdef __linux__
    std::vector<range> used;
    for (const auto & [name, t] : llama_internal_get_tensor_map(model)) {
        if (t->data != nullptr && t->buffer != nullptr && ggml_backend_buffer_is_host(t->buffer)) {
            used.emplace_back((uintptr_t) t->data, (uintptr_t) t->data + ggml_nbytes(t));
        }
    }
    std::sort(used.begin(), used.end());

    FILE * maps = fopen("/proc/self/maps", "re");
    if (maps == nullptr) {
        return;
    }
    char line[8192];  // longer than a path can be
    while (fgets(line, sizeof line, maps) != nullptr) {
        range    m;
        char     mode[5];
        uint64_t inode = 0;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*x %*s %" SCNu64, &m.first, &m.second, mode, &inode) != 4) {
            continue;
        }
        // llama.cpp maps a model's file shared and for reading; nothing else is mapped so and has tensors in it.
        const auto first = std::lower_bound(used.begin(), used.end(), range{m.first, 0});
        const auto last  = std::lower_bound(used.begin(), used.end(), range{m.second, 0});
        if (inode != 0 && strcmp(mode, "r--s") == 0 && first != last) {
            release_between(m, {first, last});
        }
    }
    fclose(maps);
#else
    (void) model;
#endif
}

extern "C" {

void serve_trim(void) noexcept {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

uint64_t serve_free_memory(const char * name) noexcept {
    ggml_backend_dev_t dev = ggml_backend_dev_by_name(name);
    size_t free = 0, total = 0;
    if (dev != nullptr) {
        ggml_backend_dev_memory(dev, &free, &total);
    }
    return free;
}

uint64_t serve_heap(void) noexcept {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#else
    return 0;
#endif
}

char * serve_memory(const serve_model * sm, serve_context_params params, serve_error * err) {
    return guard(err, [&] {
        first_error.clear();
        const quieted quiet(true);
        llama_model * model = sm->model;

        const std::unique_ptr<llama_context, decltype(&llama_free)> ctx(
            llama_init_from_model(model, context_params(params)), llama_free);
        if (!ctx) {
            throw std::runtime_error(llama_error("llama.cpp could not lay out a context"));
        }

        // Buffer types of the host come without a device, or as the processor's own: what it
        // repacks for its kernels (CPU_REPACK, AMX) does not say that it is the host's.
        llama_memory_breakdown_data                               host;
        std::map<ggml_backend_dev_t, llama_memory_breakdown_data> cards;
        for (const auto & [buft, taken] : llama_get_memory_breakdown(ctx.get())) {
            ggml_backend_dev_t dev    = ggml_backend_buft_get_device(buft);
            const bool         on_cpu = dev == nullptr || ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU;
            auto & sum = on_cpu || ggml_backend_buft_is_host(buft) ? host : cards[dev];
            sum.model   += taken.model;
            sum.context += taken.context;
            sum.compute += taken.compute;
        }

        const auto sampling = params.backend_sampling ? backend_sampling::make(model, sampled_rows(params), false) : nullptr;
        if (sampling) {
            ggml_backend_dev_t dev    = sampling->device();
            const bool         on_cpu = ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU;
            (on_cpu ? host : cards[dev]).compute += sampling->device_bytes();
            host.compute += sampling->host_bytes();
        }

        common_json list = common_json::array();
        for (int32_t i = 0; i < llama_model_n_devices(model); i++) {
            ggml_backend_dev_t dev = llama_model_get_device(model, i);
            list.push_back(describe(dev, ggml_backend_dev_name(dev), cards[dev]));
            cards.erase(dev);
        }
        // Accelerators without memory of their own (BLAS) compute in the host's.
        for (const auto & [dev, taken] : cards) {
            host.model   += taken.model;
            host.context += taken.context;
            host.compute += taken.compute;
        }
        ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        if (cpu == nullptr) {
            throw std::runtime_error("llama.cpp was built without a processor's backend");
        }
        list.push_back(describe(cpu, "host", host));
        return copy_string(list.dump_safe());
    });
}

}  // extern "C"
