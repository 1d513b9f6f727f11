// cuda_loader.cpp stands for the libraries that ggml's CUDA backend would be linked with: the driver's (libcuda)
// and cuBLAS. Each of their functions is defined here and jumps to where a variable points: to the function of the
// library once it is loaded, before that to one that returns "not initialized". CUDA's runtime is linked, and
// looks for the driver by itself.
#ifdef SERVE_CUDA

#include "cuda_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

// cuda.inc, which build.sh writes, has a line SYMBOL(library, function) of each function, and
// CUDA_BUILD (13050 is CUDA 13.5) and CUBLAS_LIBRARY ("libcublas.so.13").

#if defined(__x86_64__)
#define JUMP(name) "endbr64\n jmp *serve_slot_" name "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(name) "hint #34\n adrp x16, serve_slot_" name "\n ldr x16, [x16, :lo12:serve_slot_" name "]\n br x16\n"
#else
#error "CUDA is for x86-64 and 64-bit Arm"
#endif

namespace {

enum library { driver, cublas };

// What CUDA calls CUDA_ERROR_NOT_INITIALIZED, CUDA_ERROR_NO_DEVICE and CUBLAS_STATUS_NOT_INITIALIZED.
constexpr int driver_not_initialized = 3;
constexpr int driver_no_device       = 100;
constexpr int cublas_not_initialized = 1;

void * fallback(library l, const std::string & name);

}  // namespace

// Hidden, so that libraries which are loaded later find their own functions and not these.
#define SYMBOL(library, name)                                                                              \
    extern "C" __attribute__((visibility("hidden"))) void * serve_slot_##name;                             \
    void * serve_slot_##name = fallback(library, #name);                                                   \
    asm(".pushsection .text\n .p2align 4\n .globl " #name "\n .hidden " #name "\n .type " #name ", %function\n" \
        #name ":\n " JUMP(#name) " .size " #name ", . - " #name "\n .popsection\n");
#include "cuda.inc"
#undef SYMBOL

namespace {

struct symbol {
    library      from;
    const char * name;
    void **      slot;
};

const symbol symbols[] = {
#define SYMBOL(library, name) {library, #name, &serve_slot_##name},
#include "cuda.inc"
#undef SYMBOL
};

// bind points a library's slots to its functions. If it lacks some, it leaves all as they are and returns the names.
std::string bind(library l, void * handle) {
    std::string missing;
    std::vector<std::pair<void **, void *>> found;

    for (const symbol & s : symbols) {
        if (s.from != l) {
            continue;
        }
        if (void * function = dlsym(handle, s.name)) {
            found.emplace_back(s.slot, function);
        } else {
            missing += (missing.empty() ? "" : ", ") + std::string(s.name);
        }
    }

    if (missing.empty()) {
        for (const auto & [slot, function] : found) {
            *slot = function;
        }
    }
    return missing;
}

template <typename F> F * find(void * handle, const char * name) { return (F *) dlsym(handle, name); }

std::string load_error() {
    const char * message = dlerror();
    return message == nullptr ? "unknown error" : message;
}

// describe says what an error of the driver means, in the driver's words.
std::string describe(void * handle, int code) {
    std::string text = "error " + std::to_string(code);

    for (const char * function : {"cuGetErrorName", "cuGetErrorString"}) {
        auto * get = find<int(int, const char **)>(handle, function);
        const char * words = nullptr;
        if (get != nullptr && get(code, &words) == 0 && words != nullptr) {
            text += std::string(", ") + words;
        }
    }

    return text;
}

std::string version_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string load_driver() {
    void * handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        return "no NVIDIA driver was found: " + load_error();
    }

    auto * init = find<int(unsigned)>(handle, "cuInit");
    auto * get  = find<int(int *)>(handle, "cuDriverGetVersion");
    if (init == nullptr || get == nullptr) {
        return "libcuda.so.1 is not NVIDIA's driver: it has no cuInit or no cuDriverGetVersion";
    }

    // Before anything of a newer version is asked of it.
    int version = 0;
    if (get(&version) == 0 && version / 1000 < CUDA_BUILD / 1000) {
        return "the NVIDIA driver is too old: it supports CUDA " + version_text(version) + ", and this build needs " +
               std::to_string(CUDA_BUILD / 1000) + ".0 or later";
    }

    const int code = init(0);
    if (code == driver_no_device) {
        return "the NVIDIA driver shows no GPU (" + describe(handle, code) + ")";
    }
    if (code != 0) {
        return "the NVIDIA driver does not initialize: " + describe(handle, code);
    }

    const std::string missing = bind(driver, handle);
    if (!missing.empty()) {
        return "the NVIDIA driver (CUDA " + version_text(version) + ") lacks " + missing;
    }
    return "";
}

// cublas_folders are where cuBLAS may lie, in the order in which it is looked for: with the executable, where the
// system's loader looks, and where NVIDIA's installer puts it.
std::vector<std::string> cublas_folders() {
    std::vector<std::string> folders;

    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length > 0 && length < (ssize_t) sizeof path) {
        const std::string file(path, length);
        const std::string folder = file.substr(0, file.rfind('/'));
        folders = {folder + "/lib/", folder + "/../lib/serve/"};
    }

    folders.push_back("");
    folders.push_back("/usr/local/cuda/lib64/");
    return folders;
}

std::string load_cublas() {
    std::string why;

    for (const std::string & folder : cublas_folders()) {
        const std::string path = folder + CUBLAS_LIBRARY;
        if (!folder.empty() && access(path.c_str(), F_OK) != 0) {
            continue;
        }
        if (void * handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
            const std::string missing = bind(cublas, handle);
            return missing.empty() ? "" : path + " lacks " + missing;
        }
        why += (why.empty() ? "" : "; ") + load_error();
    }

    return "cuBLAS cannot be loaded: " + why;
}

// What stands for functions whose library is not there.
int driver_missing() { return driver_not_initialized; }
int cublas_missing() { return cublas_not_initialized; }

int driver_error_string(int, const char ** words) {
    const std::string & why = cuda_load_driver();
    *words = why.empty() ? "not initialized" : why.c_str();
    return 0;
}

const char * cublas_status_string(int) {
    const std::string & why = cuda_load_cublas();
    return why.empty() ? "not initialized" : why.c_str();
}

// create_cublas stands for cublasCreate: nothing else of cuBLAS is called without a handle that it made.
int create_cublas(void ** handle) {
    if (!cuda_load_cublas().empty()) {
        return cublas_not_initialized;
    }
    for (const symbol & s : symbols) {
        if (std::string(s.name) == "cublasCreate_v2") {
            return ((int (*)(void **)) *s.slot)(handle);
        }
    }
    return cublas_not_initialized;
}

void * fallback(library l, const std::string & name) {
    if (name == "cuGetErrorString") {
        return (void *) driver_error_string;
    }
    if (name == "cublasGetStatusString") {
        return (void *) cublas_status_string;
    }
    if (name == "cublasCreate_v2") {
        return (void *) create_cublas;
    }
    return l == driver ? (void *) driver_missing : (void *) cublas_missing;
}

}  // namespace

const std::string & cuda_load_driver() {
    static const std::string why = load_driver();
    return why;
}

const std::string & cuda_load_cublas() {
    static const std::string why = load_cublas();
    return why;
}

#endif
