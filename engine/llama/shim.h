// shim.h is all of llama.cpp that Go sees: a narrow C ABI over llama.h and
// llama.cpp's common/. No C++ exception crosses it: a call that can fail takes a
// serve_error, in which it leaves a code and a message. Should anything be thrown in one
// that does not, which is SERVE_NOEXCEPT, the process ends there; the stack of Go is not
// unwound.
//
// Strings and buffers that come out are malloc'd and freed by serve_free.
// Everything that C keeps past a call lies on the C heap.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SERVE_NOEXCEPT noexcept
extern "C" {
#else
#define SERVE_NOEXCEPT
#endif

typedef struct serve_model   serve_model;    // weights, vocabulary and chat templates
typedef struct serve_context serve_context;  // KV cells, compute buffers and threads
typedef struct serve_sampler serve_sampler;  // one sequence's sampling state
typedef struct serve_parser  serve_parser;   // one chat format's output parser
typedef struct serve_answer  serve_answer;   // an answer as it is parsed
typedef struct serve_projector serve_projector;  // what makes embeddings of images
typedef struct serve_image     serve_image;      // an image, laid out to be encoded
typedef struct serve_check     serve_check;      // of the processor's kernels

enum serve_code {
    SERVE_OK      = 0,
    SERVE_NO_SLOT = 1,  // no KV cells for the batch; the cells are as before the call
    SERVE_ABORTED = 2,  // the abort flag was set; part of the batch may be in the cells
    SERVE_INVALID = 3,  // the arguments make no sense to llama.cpp
    SERVE_FATAL   = 4,  // the context is in an unknown state; free it
    SERVE_FAILED  = 5,  // anything else; the message says what
    SERVE_NO_MEMORY = 6,  // as SERVE_FATAL: nobody knows what will fail next
};

typedef struct serve_error {
    int32_t code;
    char *  message;  // NULL or malloc'd
} serve_error;

void serve_free(void * p) SERVE_NOEXCEPT;

// serve_init registers the backends and sends llama.cpp's log to goServeLog. Call once.
void serve_init(void) SERVE_NOEXCEPT;

// The processor's kernels that this build has, from the least to the most that they ask of a processor: how many,
// and of each the name and llama.cpp's score, 0 where this processor cannot run them.
int32_t      serve_kernels_count(void) SERVE_NOEXCEPT;
const char * serve_kernels_name(int32_t i) SERVE_NOEXCEPT;
int32_t      serve_kernels_score(int32_t i) SERVE_NOEXCEPT;

// serve_kernels_build changes with the kernels' source, options and compiler.
const char * serve_kernels_build(void) SERVE_NOEXCEPT;

// serve_kernels_current names those in use.
const char * serve_kernels_current(void) SERVE_NOEXCEPT;

// serve_numa has compute threads pinned by one of ggml's strategies: once a process, with the kernels that it keeps.
void serve_numa(int32_t strategy) SERVE_NOEXCEPT;

// serve_kernels_use makes models and contexts that come after it compute with these kernels.
void serve_kernels_use(int32_t i, serve_error * err);

// serve_cublas loads cuBLAS, if this build uses it, and returns why it cannot be; empty if it can.
char * serve_cublas(serve_error * err);

// serve_devices returns JSON: [{"name","description","type":"cpu|gpu|igpu|accel"}]. It loads
// drivers and takes no memory of a device.
char * serve_devices(serve_error * err);

// serve_gpu_backends names the GPU backends of this build, separated by commas, and asks no
// driver.
const char * serve_gpu_backends(void) SERVE_NOEXCEPT;

// serve_max_devices returns how many devices a model can be split among.
size_t serve_max_devices(void) SERVE_NOEXCEPT;

// serve_threads returns how many threads compute best here: the performance cores, not their hyperthreads.
int32_t serve_threads(void) SERVE_NOEXCEPT;

// serve_type_size gives how many elements of a ggml_type lie together, in how many
// bytes; false when there is no such type.
bool serve_type_size(int32_t type, uint64_t * elements, uint64_t * bytes) SERVE_NOEXCEPT;

// serve_system_info returns llama.cpp's one-line list of CPU features.
const char * serve_system_info(void) SERVE_NOEXCEPT;

// --- devices of other processes ---

// serve_rpc reports whether this build has ggml's RPC backend.
bool serve_rpc(void) SERVE_NOEXCEPT;

// serve_rpc_add adds the devices that a worker offers over a connection, which is used from then on. The name, with a
// port, describes them. A worker that does not answer ends the process.
void serve_rpc_add(const char * name, int32_t fd, serve_error * err);

// What a worker's client may take, in bytes.
typedef struct serve_rpc_budget {
    uint64_t limit;      // of each device; 0 for what it has
    uint64_t available;  // of main memory
    uint64_t total;      // of main memory
} serve_rpc_budget;

// serve_rpc_work offers this process's devices to the client of a connection, and ends the process when that is
// closed.
void serve_rpc_work(int32_t fd, int32_t threads, serve_rpc_budget memory, serve_error * err);

// --- probe ---

typedef struct serve_probe serve_probe;  // a device being tried

// serve_probe_open initializes the backend of a device of serve_devices, by its index.
serve_probe * serve_probe_open(size_t device, serve_error * err);
void          serve_probe_close(serve_probe * p);

// serve_probe_memory gives the device's bytes, 0 for what it does not know.
void serve_probe_memory(serve_probe * p, uint64_t * free, uint64_t * total) SERVE_NOEXCEPT;

// serve_probe_allocate takes a little of the device's memory and writes to it.
void serve_probe_allocate(serve_probe * p, serve_error * err);

// serve_probe_compute multiplies two small matrices there, and compares the product with
// the processor's. It comes after serve_probe_allocate.
void serve_probe_compute(serve_probe * p, serve_error * err);

// --- a check of the processor's kernels ---

typedef struct serve_kernel_check {
    double  difference;  // from exact results: its mean square over that of the row, of the worst row; or INFINITY
    double  tolerance;   // the most that it may be
    int32_t rows;        // of activations, where the difference is greatest
} serve_kernel_check;

// serve_check_new lists what the kernels in use are checked for: for each type that weights
// can have, and each kind of memory that they are packed into, products with and without
// experts; KV cells and attention. One thread at a time may use it.
serve_check * serve_check_new(int32_t threads, serve_error * err);
void          serve_check_free(serve_check * s);
int32_t       serve_check_count(const serve_check * s) SERVE_NOEXCEPT;
const char *  serve_check_name(const serve_check * s, int32_t i) SERVE_NOEXCEPT;  // lives as long as s

// serve_check_run computes with kernel i of the list. One that the processor cannot run ends
// the process by a signal. spoil mixes up what the kernel computes with, for tests.
void serve_check_run(serve_check * s, int32_t i, bool spoil, serve_kernel_check * out, serve_error * err);

// --- model ---

typedef struct serve_model_params {
    int32_t  gpu_layers;   // layers kept on a GPU; negative for all
    bool     mmap;         // map the file instead of reading it
    bool     vocab_only;   // no weights: tokenizing and templates only
    bool     cpu_only;     // no device computes but the processor, no GPU's part of a prompt either
    bool     no_alloc;     // nothing is allocated: to be laid out by serve_memory only
    bool     no_chat;      // no chat templates: another process renders
    bool     no_repack;    // weights for the processor stay as they are in the file
    bool     lock;         // weights in the host's memory are never swapped out; the file is read instead of mapped
    const char * placement;  // JSON that placementParams in placement.go describes; NULL for none
    uintptr_t progress;    // Go handle passed to goServeProgress, 0 for none
} serve_model_params;

typedef struct serve_context_params {
    uint32_t n_ctx;       // KV cells in all
    uint32_t n_batch;     // most tokens a decode call takes
    uint32_t n_ubatch;    // most tokens a compute graph takes
    uint32_t n_seq_max;
    uint32_t n_outputs;   // most rows of logits a decode call gives; 0 for n_batch
    int32_t  n_threads;
    uint32_t poll;        // ggml's polling level, 0..100
    const serve_context * threads_of;  // a context that never computes at the same time, whose threads do it; NULL for its own
    int32_t  type_k, type_v;  // ggml_type
    int32_t  pooling;     // llama_pooling_type, -1 for the model's own
    bool     unified;     // one KV buffer for all sequences, not one for each
    bool     embeddings;
    bool     backend_sampling;  // tokens are drawn where the logits are, if the device can
    int32_t  flash_attn;  // llama_flash_attn_type
    // Of rotary embeddings, in llama.cpp's terms and with its values for what is not set.
    int32_t  rope_scaling;  // llama_rope_scaling_type
    float    rope_freq_base, rope_freq_scale;
    float    yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
    uint32_t yarn_orig_ctx;
} serve_context_params;

serve_model * serve_model_load(const char * path, serve_model_params params, serve_error * err);
void          serve_model_free(serve_model * model);

// serve_excerpt_new makes a small model of a large one, which computes in the same shapes: of its first layers and
// as large a part of its vocabulary, in about max_bytes but at least one layer. paths are the model's files.
typedef struct serve_excerpt serve_excerpt;
serve_excerpt * serve_excerpt_new(const char * const * paths, int32_t n_paths, uint64_t max_bytes, serve_error * err);
void            serve_excerpt_free(serve_excerpt * e);

// serve_excerpt_share tells how many tokens an excerpt knows, and which part of the model it is, by layers.
void serve_excerpt_share(const serve_excerpt * e, int32_t * vocabulary, double * share) SERVE_NOEXCEPT;

// serve_excerpt_load loads an excerpt, with the kernels that are in use. The model has no tokenizer and no templates.
serve_model * serve_excerpt_load(serve_excerpt * e, serve_error * err);

// serve_model_info returns the model's facts as a JSON object; see modelInfo in model.go.
char * serve_model_info(const serve_model * model, serve_error * err);

// serve_memory returns what a model that was loaded with no_alloc, and a context of it, would
// take: [{"name","type","unified","free","total","weights","kv","compute"}], the host last.
// Weights are counted as they will lie, repacked ones too. unified: its memory is the host's.
char * serve_memory(const serve_model * model, serve_context_params params, serve_error * err);

// serve_free_memory gives the bytes that a device has free, by its name; 0 where nobody knows.
uint64_t serve_free_memory(const char * name) SERVE_NOEXCEPT;

// serve_trim gives memory that was freed back to the system.
void serve_trim(void) SERVE_NOEXCEPT;

// serve_heap returns the bytes that C has allocated; 0 where the system's allocator does not say.
uint64_t serve_heap(void) SERVE_NOEXCEPT;

// serve_vocab_flags writes one byte a token: 1 ends generation, 2 control, 4 byte token.
void serve_vocab_flags(const serve_model * model, uint8_t * flags) SERVE_NOEXCEPT;

// serve_vocab_pieces writes the bytes of every token, one after another, and n_vocab+1
// offsets. It returns the bytes needed, and writes no pieces when that is above cap.
size_t serve_vocab_pieces(const serve_model * model, bool special, char * buf, size_t cap, uint64_t * offsets) SERVE_NOEXCEPT;

// serve_tokenize returns n tokens, to be freed with serve_free. In what is quoted, n_quoted ranges in order, each two
// offsets, no control token is read.
int32_t * serve_tokenize(const serve_model * model, const char * text, size_t len, bool add_special,
                         bool parse_special, const size_t * quoted, size_t n_quoted, size_t * n, serve_error * err);

// serve_tokenize_plain is the same without quoted text, by llama.cpp alone: what serve_tokenize is compared with.
int32_t * serve_tokenize_plain(const serve_model * model, const char * text, size_t len, bool add_special,
                               bool parse_special, size_t * n, serve_error * err);

// --- context ---

serve_context * serve_context_new(serve_model * model, serve_context_params params, serve_error * err);
void            serve_context_free(serve_context * ctx);

// serve_context_shape gives the cells in all and for one sequence, as allocated.
void serve_context_shape(const serve_context * ctx, uint32_t * n_ctx, uint32_t * n_ctx_seq) SERVE_NOEXCEPT;

// serve_one_path makes the decodes after it compute each row alike, whatever else is in the batch: with one kernel an
// operation for any number of rows and threads. It returns false, and changes nothing, if another device than the
// processor computes.
bool serve_one_path(serve_context * ctx, bool on) SERVE_NOEXCEPT;

// serve_model_plain reports whether all weights lie as they are in the file, in memory of the processor's: none is
// packed for its kernels.
bool serve_model_plain(const serve_model * model) SERVE_NOEXCEPT;

// serve_samples reports whether tokens are drawn where the logits are.
bool serve_samples(const serve_context * ctx) SERVE_NOEXCEPT;

// serve_model_offloads reports whether the logits of a model are computed on a GPU.
bool serve_model_offloads(const serve_model * model) SERVE_NOEXCEPT;

// serve_abort may be called from any thread; the decode under way returns SERVE_ABORTED.
void serve_abort(serve_context * ctx, bool on) SERVE_NOEXCEPT;

// serve_decode computes n tokens; those with output set get a row of logits (or an embedding).
void serve_decode(serve_context * ctx, int32_t n, const int32_t * tokens, const int32_t * pos,
                  const int32_t * seq, const int8_t * output, serve_error * err);

// serve_decode_media computes n embeddings, each as long as the model's input. grid is
// NULL or the other three coordinates of every position, one after another; whole lets
// each see all the others.
void serve_decode_media(serve_context * ctx, int32_t n, const float * embeddings, const int32_t * pos, const int32_t * grid,
                        const int32_t * seq, bool whole, serve_error * err);

bool    serve_kv_remove(serve_context * ctx, int32_t seq, int32_t from) SERVE_NOEXCEPT;  // [from, end)
void    serve_kv_copy(serve_context * ctx, int32_t src, int32_t dst) SERVE_NOEXCEPT;     // replaces dst
void    serve_kv_clear(serve_context * ctx) SERVE_NOEXCEPT;
int32_t serve_kv_max(serve_context * ctx, int32_t seq) SERVE_NOEXCEPT;                   // last position, -1 if empty
size_t  serve_state_size(serve_context * ctx, int32_t seq) SERVE_NOEXCEPT;
size_t  serve_state_get(serve_context * ctx, int32_t seq, uint8_t * buf, size_t cap) SERVE_NOEXCEPT;
size_t  serve_state_set(serve_context * ctx, int32_t seq, const uint8_t * buf, size_t len) SERVE_NOEXCEPT;

// serve_logits copies the row of logits (n_vocab floats) of batch index i. For tests and scores.
void serve_logits(serve_context * ctx, int32_t i, float * out, serve_error * err);

// serve_embedding copies n floats: of sequence seq when the context pools, of batch index i otherwise.
void serve_embedding(serve_context * ctx, int32_t seq, int32_t i, float * out, int32_t n, serve_error * err);

// --- images ---

// serve_projector_new loads a projector for a model. One thread at a time may use it.
// device names the GPU; NULL for the first.
serve_projector * serve_projector_new(const serve_model * model, const char * path, bool gpu, const char * device,
                                      int32_t threads, serve_error * err);
void              serve_projector_free(serve_projector * p);

// serve_projector_memory computes, without loading, what a projector takes as JSON:
// [{"name","bytes"}] of devices, in the names of serve_memory.
char * serve_projector_memory(const char * path, bool gpu, const char * device, serve_error * err);

// serve_image_new lays out an image of width*height pixels, three bytes each.
serve_image * serve_image_new(serve_projector * p, int32_t width, int32_t height, const uint8_t * rgb, serve_error * err);
void          serve_image_free(serve_image * s);

typedef struct serve_chunk {
    const int32_t * tokens;  // NULL for embeddings
    int32_t         n;       // tokens or embeddings
    int32_t         span;    // positions that they take
    bool            grid;    // the embeddings lie on a grid, by M-RoPE
    bool            whole;   // one batch must hold them, and each sees all the others
} serve_chunk;

// serve_image_chunk describes a piece of the image as the model reads it; false when there is none.
bool serve_image_chunk(const serve_image * s, int32_t i, serve_chunk * out) SERVE_NOEXCEPT;

// serve_image_encode computes a piece's n embeddings, and where they lie: 4*n, unless grid is NULL.
void serve_image_encode(serve_image * s, int32_t i, float * embeddings, int32_t * grid, serve_error * err);

// --- sampling ---

// serve_sampler_new takes the JSON that samplerParams in sampler.go describes.
serve_sampler * serve_sampler_new(const serve_model * model, const char * json, serve_error * err);
void            serve_sampler_free(serve_sampler * s);

typedef struct serve_row {
    serve_sampler * sampler;  // null: nothing is drawn, the token's probability is asked for
    int32_t         index;    // batch index of the row in the last decode
    int32_t         n_top;    // in: alternatives wanted; negative for no logprobs. out: alternatives given
    int32_t         draft;    // -1, or the row is drawn only if the row before it, of the same sampler, draws this token
    bool            refused;  // out: it has not been drawn
    int32_t         token;    // out; in without a sampler
    int32_t         code;     // out: serve_code of this row alone
    float           logprob;  // out
    bool            on_backend;  // out: drawn by the decode, where the logits are
} serve_row;

// serve_plan comes before a decode, with the rows that serve_sample will have after it: those that need nothing else are
// drawn by the decode, where the logits are, and of these no logits come to the host. Without it, all come.
void serve_plan(serve_context * ctx, int32_t n, const serve_row * rows, serve_error * err);

// serve_sample samples all rows of a step in one call and accepts each token into its
// sampler. Row r's alternatives lie at r*stride of the two arrays, most probable first;
// logprobs are of the model's own distribution, before any sampler.
void serve_sample(serve_context * ctx, int32_t n, serve_row * rows, int32_t stride, int32_t * top_tokens,
                  float * top_logprobs, serve_error * err);

// --- chat ---

// serve_chat_render takes chatInput and returns chatOutput of chat.go, both JSON.
char * serve_chat_render(const serve_model * model, const char * json, serve_error * err);

// serve_chat_plain returns the prompt of the same chat, by llama.cpp alone: what serve_chat_render is compared with.
char * serve_chat_plain(const serve_model * model, const char * json, serve_error * err);

// serve_parser_new takes the "parser" string of a rendered chat.
serve_parser * serve_parser_new(const char * spec, serve_error * err);
void           serve_parser_free(serve_parser * p);  // its answers live on

// serve_answer_new begins to parse an answer. One thread at a time may use it.
serve_answer * serve_answer_new(const serve_parser * p, serve_error * err);
void           serve_answer_free(serve_answer * a);

// serve_answer_append takes what an answer goes on with, and returns what is new of the message,
// NULL for nothing, as JSON: {"content","reasoning","tool_calls":[{"index","id","name","arguments"}]}.
// Text that may yet turn out to be markup is held back until last, which nothing may follow. It
// then fails if the answer is not in the format.
char * serve_answer_append(serve_answer * a, const char * text, size_t len, bool last, serve_error * err);

#ifdef __cplusplus
}
#endif
