// Devices of other processes, by ggml's RPC backend. Its code opens connections and listens; here both ends are handed
// connections that are open, so that neither process needs any right to connect or to listen. build.sh renames what
// that code calls to the functions below.
#include "common_shim.h"

#ifdef SERVE_RPC

#include "rpc.h"

#include "ggml-rpc.h"

#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <stdexcept>

namespace {

// The connection to a worker that the next socket is to be, and the one of a client that is accepted next; -1 for none.
int handed = -1;
int client = -1;

int take(int & connection) {
    const int fd = connection;
    connection   = -1;
    return fd;
}

// make_blocking undoes what Go does with its connections.
void make_blocking(int fd) {
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        throw std::runtime_error(std::string("the connection of an RPC device: ") + strerror(errno));
    }
}

// One for each server: while it lives, ggml keeps its connection, and opens no other.
std::vector<ggml_backend_t> kept;

// What a worker's client may take of its devices.
struct {
    std::mutex mutex;
    uint64_t   limit     = 0;  // of each; 0 for none
    uint64_t   available = 0;  // of main memory when the connection began
    uint64_t   total     = 0;  // of main memory

    std::map<ggml_backend_dev_t, uint64_t> taken;  // NULL stands for main memory
} budget;

// pool_of returns whose memory a device's is: NULL for main memory.
ggml_backend_dev_t pool_of(ggml_backend_dev_t dev) {
    return dev == nullptr || ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU ? nullptr : dev;
}

uint64_t left(uint64_t most, uint64_t taken) { return most - std::min(most, taken); }

}  // namespace

extern "C" {

int serve_rpc_socket(int, int, int) {
    if (client >= 0) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);  // a worker's, on which it would listen
    }
    return take(handed);
}

int serve_rpc_connect(int, const struct sockaddr *, socklen_t) { return 0; }

int serve_rpc_bind(int, const struct sockaddr *, socklen_t) { return 0; }

int serve_rpc_listen(int, int) { return 0; }

// After its only client a worker's process has nothing left to do.
int serve_rpc_accept(int, struct sockaddr *, socklen_t *) {
    if (client < 0) {
        _exit(0);
    }
    return take(client);
}

// The process that opened the connection has set its options.
int serve_rpc_setsockopt(int, int, int, const void *, socklen_t) { return 0; }

struct hostent * serve_rpc_gethostbyname(const char *) {
    static in_addr_t nowhere = 0;
    static char *    list[]  = {(char *) &nowhere, nullptr};
    static hostent   host    = {nullptr, nullptr, AF_INET, sizeof nowhere, list};
    return &host;
}

ssize_t serve_rpc_send(int fd, const void * data, size_t size, int) {
    // A peer that is gone is an error, not a signal. send, which has a flag for that, is not allowed in the sandbox.
    static thread_local const bool masked = [] {
        sigset_t pipe;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        return pthread_sigmask(SIG_BLOCK, &pipe, nullptr) == 0;
    }();
    (void) masked;

    ssize_t n;
    do {
        n = write(fd, data, size);
    } while (n < 0 && errno == EINTR);
    return n;
}

ssize_t serve_rpc_recv(int fd, void * data, size_t size, int) {
    ssize_t n;
    do {
        n = read(fd, data, size);
    } while (n < 0 && errno == EINTR);
    return n;
}

// ggml says of the processor's memory that all of it is free. What counts here is what was available when the
// connection began, less what its client has taken since: pages that were not written to are not missing yet.
void serve_rpc_device_memory(ggml_backend_dev_t dev, size_t * free, size_t * total) {
    const std::lock_guard<std::mutex> lock(budget.mutex);
    const uint64_t                    taken = budget.taken[pool_of(dev)];
    if (pool_of(dev) == nullptr) {
        *free  = left(budget.available, taken);
        *total = budget.total;
    } else {
        ggml_backend_dev_memory(dev, free, total);
    }
    if (budget.limit > 0) {
        *free  = std::min<uint64_t>(*free, left(budget.limit, taken));
        *total = std::min<uint64_t>(*total, budget.limit);
    }
}

ggml_backend_buffer_t serve_rpc_alloc_buffer(ggml_backend_buffer_type_t buft, size_t size) {
    const std::lock_guard<std::mutex> lock(budget.mutex);
    ggml_backend_dev_t pool  = pool_of(ggml_backend_buft_get_device(buft));
    uint64_t &         taken = budget.taken[pool];

    uint64_t most = budget.limit > 0 ? budget.limit : UINT64_MAX;
    if (pool == nullptr) {
        most = std::min(most, budget.available);  // or the kernel would end a process
    }
    if (size > left(most, taken)) {
        return nullptr;
    }

    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(buft, size);
    if (buffer != nullptr) {
        taken += ggml_backend_buffer_get_size(buffer);
    }
    return buffer;
}

void serve_rpc_free_buffer(ggml_backend_buffer_t buffer) {
    const std::lock_guard<std::mutex> lock(budget.mutex);
    uint64_t & taken = budget.taken[pool_of(ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer)))];
    taken            = left(taken, ggml_backend_buffer_get_size(buffer));
    ggml_backend_buffer_free(buffer);
}

bool serve_rpc(void) noexcept { return true; }

void serve_rpc_add(const char * name, int32_t fd, serve_error * err) {
    guard(err, [&] {
        static std::mutex                 mutex;
        const std::lock_guard<std::mutex> lock(mutex);
        make_blocking(fd);

        handed = fd;
        kept.push_back(ggml_backend_rpc_init(name, 0));
        ggml_backend_register(ggml_backend_rpc_add_server(name));
    });
}

void serve_rpc_work(int32_t fd, int32_t threads, serve_rpc_budget memory, serve_error * err) {
    guard(err, [&] {
        make_blocking(fd);
        budget.limit     = memory.limit;
        budget.available = memory.available;
        budget.total     = memory.total;

        // GPUs; without any, the processor.
        std::vector<ggml_backend_dev_t> devices;
        ggml_backend_dev_t              cpu = nullptr;
        for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
            ggml_backend_dev_t dev = ggml_backend_dev_get(i);
            switch (ggml_backend_dev_type(dev)) {
                case GGML_BACKEND_DEVICE_TYPE_CPU: cpu = dev; break;
                case GGML_BACKEND_DEVICE_TYPE_GPU:
                case GGML_BACKEND_DEVICE_TYPE_IGPU: devices.push_back(dev); break;
                default: break;
            }
        }
        if (devices.empty() && cpu != nullptr) {
            devices.push_back(cpu);
        }
        if (devices.empty()) {
            throw std::runtime_error("this build has no device to offer");
        }

        // The socket that it would listen on stands for nothing; what it accepts is the client's. The address is read and
        // not used.
        client = fd;
        ggml_backend_rpc_start_server("0.0.0.0:0", nullptr, threads, devices.size(), devices.data());
    });
}

}  // extern "C"

#else

extern "C" {

bool serve_rpc(void) noexcept { return false; }

void serve_rpc_add(const char *, int32_t, serve_error * err) {
    guard(err, [] { throw std::runtime_error("this build has no RPC backend"); });
}

void serve_rpc_work(int32_t, int32_t, serve_rpc_budget, serve_error * err) {
    guard(err, [] { throw std::runtime_error("this build has no RPC backend"); });
}

}  // extern "C"

#endif
