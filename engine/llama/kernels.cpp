#include "kernels.h"

#include "common_shim.h"

#include <iterator>
#include <mutex>
#include <stdexcept>
#include <string>

// What kernels.inc says, which build.sh writes: KERNELS_BUILD and a line of each.
extern "C" {
#define KERNELS(name, init, score, graph_plan, graph_compute)                                  \
    ggml_backend_reg_t init(void);                                                             \
    int                score(void);                                                            \
    struct ggml_cplan  graph_plan(const struct ggml_cgraph *, int, struct ggml_threadpool *);  \
    enum ggml_status   graph_compute(struct ggml_cgraph *, struct ggml_cplan *);
#include "kernels.inc"
#undef KERNELS

// Of kernels that were compiled for the machine that built them.
int any_processor(void) { return 1; }
}

namespace {

const kernels all[] = {
#define KERNELS(name, init, score, graph_plan, graph_compute) {name, init, score, graph_plan, graph_compute},
#include "kernels.inc"
#undef KERNELS
};

std::mutex      mutex;
const kernels * current = nullptr;

void use(const kernels & k) {
    if (current == &k) {
        return;
    }
    if (k.score() == 0) {
        throw std::runtime_error(std::string("this processor lacks instructions that the kernels ") + k.name + " use");
    }
    if (current != nullptr) {
        ggml_backend_unload(current->init());
    }
    ggml_backend_register(k.init());
    current = &k;
}

}  // namespace

const kernels & current_kernels() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (current == nullptr) {
        const kernels * best = &all[0];
        for (const kernels & k : all) {
            best = k.score() > best->score() ? &k : best;
        }
        use(*best);
    }
    return *current;
}

extern "C" {

int32_t serve_kernels_count(void) noexcept { return (int32_t) std::size(all); }

const char * serve_kernels_name(int32_t i) noexcept { return all[i].name; }

int32_t serve_kernels_score(int32_t i) noexcept { return all[i].score(); }

const char * serve_kernels_build(void) noexcept { return KERNELS_BUILD; }

const char * serve_kernels_current(void) noexcept { return current_kernels().name; }

void serve_kernels_use(int32_t i, serve_error * err) {
    guard(err, [&] {
        const std::lock_guard<std::mutex> lock(mutex);
        use(all[i]);
    });
}

}  // extern "C"
