// rpc.h has what ggml's RPC code calls in place of the system's functions and of ggml's: build.sh renames its symbols.
#pragma once

#include "ggml-backend.h"

#include <sys/socket.h>
#include <sys/types.h>

struct hostent;

extern "C" {

int              serve_rpc_socket(int domain, int type, int protocol);
int              serve_rpc_connect(int fd, const struct sockaddr * address, socklen_t size);
int              serve_rpc_bind(int fd, const struct sockaddr * address, socklen_t size);
int              serve_rpc_listen(int fd, int backlog);
int              serve_rpc_accept(int fd, struct sockaddr * address, socklen_t * size);
int              serve_rpc_setsockopt(int fd, int level, int name, const void * value, socklen_t size);
struct hostent * serve_rpc_gethostbyname(const char * name);
ssize_t          serve_rpc_send(int fd, const void * data, size_t size, int flags);
ssize_t          serve_rpc_recv(int fd, void * data, size_t size, int flags);

void                  serve_rpc_device_memory(ggml_backend_dev_t dev, size_t * free, size_t * total);
ggml_backend_buffer_t serve_rpc_alloc_buffer(ggml_backend_buffer_type_t buft, size_t size);
void                  serve_rpc_free_buffer(ggml_backend_buffer_t buffer);

}  // extern "C"
